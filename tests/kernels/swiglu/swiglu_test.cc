#include "kernels/swiglu/swiglu.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

TEST(SwiGlu, WithinOneBf16StepOfFp64OverTheWholeRange) {
  for (int64_t cols : {1, 15, 16, 17, 1408}) {
    for (float scale : {1e-30f, 0.1f, 4.0f, 60.0f, 1e10f}) {
      const int64_t rows = 20, stride = 2 * cols;
      const auto x = testing::NormalFloats(rows * stride, 1, scale);
      testing::Bf16s want(static_cast<size_t>(rows * cols)), got = want;
      SwiGluReference({x.data(), x.data() + cols, stride, want.data(), cols, rows, cols});
      SwiGlu({x.data(), x.data() + cols, stride, got.data(), cols, rows, cols});
      for (size_t i = 0; i < got.size(); ++i) {
        // Below the normal range of fp32 the last steps are exp's; there only smallness is
        // promised.
        if (std::abs(ToFloat(want[i])) < 1e-37f) {
          ASSERT_LT(std::abs(ToFloat(got[i])), 2e-37f);
        } else {
          ASSERT_LE(testing::Bf16Distance(want[i], got[i]), 1) << cols << " " << scale;
        }
      }
    }
  }
}

TEST(SwiGlu, RowsDoNotDependOnCompanyOrThreads) {
  const int64_t rows = 64, cols = 77;
  const auto gate = testing::NormalFloats(rows * cols, 1, 5),
             up = testing::NormalFloats(rows * cols, 2);
  testing::Bf16s all(static_cast<size_t>(rows * cols)), single = all;
  const testing::Threads two(2);
  SwiGlu({gate.data(), up.data(), cols, all.data(), cols, rows, cols});
  for (int64_t r = 0; r < rows; ++r) {
    SwiGlu({gate.data() + r * cols, up.data() + r * cols, cols, single.data() + r * cols, cols, 1,
            cols});
  }
  EXPECT_TRUE(testing::SameBits(all, single));
}

}  // namespace
}  // namespace lectern::kernels
