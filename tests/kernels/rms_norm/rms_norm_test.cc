#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

class RmsNorms : public ::testing::TestWithParam<NormGain> {};

TEST_P(RmsNorms, WithinOneBf16StepOfFp64) {
  for (int64_t hidden : {1, 2, 15, 16, 17, 31, 33, 512, 1000, 6144}) {
    for (float scale : {1e-20f, 1e-3f, 1.0f, 1e15f}) {
      const int64_t rows = 5, x_stride = hidden + 1, y_stride = hidden + 2;
      const Floats x = testing::NormalFloats(rows * x_stride, 1, scale);
      const Floats w = testing::NormalFloats(hidden, 2);
      Bf16s want(static_cast<size_t>(rows * y_stride), Bf16{1}), got = want;
      RmsNormReference(
          {x.data(), x_stride, w.data(), want.data(), y_stride, rows, hidden, 1e-6f, GetParam()});
      RmsNorm(
          {x.data(), x_stride, w.data(), got.data(), y_stride, rows, hidden, 1e-6f, GetParam()});
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_LE(testing::Bf16Distance(want[i], got[i]), 1) << hidden << " " << scale << " " << i;
      }
    }
  }
}

TEST_P(RmsNorms, RowsDoNotDependOnCompanyOrThreads) {
  const int64_t hidden = 515, rows = 100;
  const Floats x = testing::NormalFloats(rows * hidden, 3), w = testing::NormalFloats(hidden, 4);
  Bf16s all(static_cast<size_t>(rows * hidden)), single = all;
  {
    const testing::Threads two(2);
    RmsNorm({x.data(), hidden, w.data(), all.data(), hidden, rows, hidden, 1e-6f, GetParam()});
  }
  for (int64_t r = 0; r < rows; ++r) {
    RmsNorm({x.data() + r * hidden, hidden, w.data(), single.data() + r * hidden, hidden, 1, hidden,
             1e-6f, GetParam()});
  }
  EXPECT_TRUE(testing::SameBits(all, single));
}

TEST(RmsNorm, ZeroRowStaysZero) {
  const Floats x(64, 0.0f), w(64, 3.0f);
  Bf16s y(64, Bf16{1});
  RmsNorm({x.data(), 64, w.data(), y.data(), 64, 1, 64, 1e-6f, NormGain::kPlain});
  for (Bf16 v : y) EXPECT_EQ(v.bits, 0);
}

INSTANTIATE_TEST_SUITE_P(Gains, RmsNorms, ::testing::Values(NormGain::kPlain, NormGain::kGemma));

}  // namespace
}  // namespace lectern::kernels
