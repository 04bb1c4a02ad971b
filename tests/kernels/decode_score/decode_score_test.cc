#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_checks.h"

namespace lectern::kernels::testing {
namespace {

TEST(DecodeCuda, WaysThatGiveTheSameBits) {
  LECTERN_NEEDS_GPU();
  for (int dim : {64, 128}) {
    Case c;
    c.dim = dim;
    c.lengths = {70001, 1, 3000, 1800};
    CheckWays(c);
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
