#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_checks.h"

namespace lectern::kernels::testing {
namespace {

TEST(DecodeCuda, CandidatesChangeNothing) {
  LECTERN_NEEDS_HOPPER();
  for (Keys keys : {Keys::kNormal, Keys::kWhole, Keys::kEqual, Keys::kNegative, Keys::kBroken,
                    Keys::kTopical}) {
    for (int index_dim : {64, 128}) {
      Case c;
      c.keys = keys;
      c.index_dim = index_dim;
      c.dim = 64;
      c.heads = 2;
      c.lengths = {100001, 3000, 1, 2048, 2049};
      if (keys == Keys::kTopical) c.rows = 4, c.lengths[2] = 4;
      if (keys == Keys::kWhole) c.rows = 2, c.lengths[2] = 2;
      CheckCandidates(c);
    }
  }
}

// Small, for compute-sanitizer, and by every way there is.
TEST(DecodeCuda, EveryWayOnAFewBlocks) {
  LECTERN_NEEDS_HOPPER();
  for (int dim : {64, 128}) {
    Case c;
    c.dim = c.index_dim = dim;
    c.groups = 2;
    c.heads = 8;
    c.topk = 4;
    c.lengths = {1300, 200, 641};
    c.rows = 2;
    for (bool spans : {false, true}) {
      c.with_spans = spans;
      CheckAll(c);
    }
    CheckWays(c);
    CheckCandidates(c);
    c.rows = 20;
    CheckWide(c);
  }
}

}  // namespace
}  // namespace lectern::kernels::testing
