#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_checks.h"

namespace lectern::kernels::testing {
namespace {

TEST(DecodeCuda, DenseAttention) {
  LECTERN_NEEDS_GPU();
  for (int dim : {64, 128}) {
    for (int splits : {1, 3, 33}) {
      Case c;
      c.dim = dim;
      c.groups = splits == 3 ? 8 : 2;
      c.heads = splits == 3 ? 5 : 16;
      c.lengths = {1, 5000, 128, 129, 2048, 9000};
      CheckDense(c, splits);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::testing
