#include "kernels/decode_score/decode_score.h"

#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_case.h"

namespace lectern::kernels::testing {
namespace {

TEST(DecodeCuda, EveryVariantScoresTheSameBits) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {70001, 1, 3000};
  Decode decode(c);
  const Decode::Result first = decode.Run();
  const int last = HaveHopper() ? 6 : 2;
  for (int variant = 1; variant <= last; ++variant) {
    const Decode::Result other = decode.Run(static_cast<DecodeScoreWay>(variant));
    EXPECT_EQ(FirstDifference(first.scores, other.scores), -1) << variant;
  }
}

TEST(DecodeCuda, ManyRowsOnOneDocument) {
  LECTERN_NEEDS_GPU();
  for (int rows : {9, 17, 32, 64, 70}) {
    for (int index_dim : {64, 128}) {
      Case c;
      c.rows = rows;
      c.index_dim = index_dim;
      c.dim = 64;
      c.heads = 4;
      c.lengths = {9000, 2100};
      c.with_spans = rows == 32;
      CheckWide(c);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::testing
