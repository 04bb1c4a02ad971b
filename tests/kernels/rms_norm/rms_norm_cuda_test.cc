#include "kernels/rms_norm/rms_norm_cuda.h"

#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::Agreement;
using testing::DeviceArray;

constexpr float kEps = 1e-6f;

class RmsNormCudas : public testing::NeedsGpu<::testing::TestWithParam<NormGain>> {
 protected:
  struct Shape {
    int64_t rows, hidden, x_stride, y_stride;
  };
  static std::vector<Bf16> Norm(const Shape& s, const std::vector<float>& x,
                                const std::vector<float>& w,
                                const std::vector<int32_t>& x_rows = {}) {
    const DeviceArray<float> device_x(x), device_w(w);
    const DeviceArray<int32_t> device_rows(x_rows);
    DeviceArray<Bf16> y(static_cast<size_t>(s.rows * s.y_stride));
    return testing::Outcome(y, [&](cudaStream_t stream) {
      return RmsNormCuda({device_x.get(), s.x_stride, x_rows.empty() ? nullptr : device_rows.get(),
                          device_w.get(), y.get(), s.y_stride, s.rows, s.hidden, kEps, GetParam()},
                         stream);
    });
  }
  // What lies between the rows of y before a launch.
  static std::vector<Bf16> Untouched(const Shape& s) {
    return std::vector<Bf16>(static_cast<size_t>(s.rows * s.y_stride), Bf16{0x5a5a});
  }
};

TEST_P(RmsNormCudas, IsTheCpusButForTheOrderOfASum) {
  Agreement with_cpu;
  for (int64_t hidden : {1, 4, 15, 100, 512, 515, 2044, 2052, 6144, 16388, 32768, 33000}) {
    for (float scale : {1e-20f, 1e-3f, 1.0f, 1e15f}) {
      const bool odd = hidden % 8 == 4;  // strides on vectors or off them
      const Shape s = {3, hidden, hidden + (odd ? 1 : 4), hidden + (odd ? 3 : 8)};
      const std::vector<float> x = testing::Normals(s.rows * s.x_stride, 1, scale);
      const std::vector<float> w = testing::Normals(hidden, 2);
      std::vector<Bf16> cpu = Untouched(s), reference = cpu;
      RmsNorm({x.data(), s.x_stride, w.data(), cpu.data(), s.y_stride, s.rows, hidden, kEps,
               GetParam()});
      RmsNormReference({x.data(), s.x_stride, w.data(), reference.data(), s.y_stride, s.rows,
                        hidden, kEps, GetParam()});
      const std::vector<Bf16> got = Norm(s, x, w);
      with_cpu.Add(cpu, got);
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_LE(testing::Bf16Distance(reference[i], got[i]), 1) << hidden << " " << scale;
      }
    }
  }
  with_cpu.ExpectClose("RMSNorm");
}

TEST_P(RmsNormCudas, RowsDoNotDependOnCompany) {
  for (int64_t hidden : {512, 6144, 515}) {
    const Shape all = {37, hidden, hidden, hidden};
    std::vector<float> x = testing::Normals(all.rows * hidden, 3);
    x[static_cast<size_t>(5 * hidden + 3)] = std::numeric_limits<float>::quiet_NaN();
    x[static_cast<size_t>(6 * hidden + 1)] = std::numeric_limits<float>::infinity();
    const std::vector<float> w = testing::Normals(hidden, 4);
    const std::vector<Bf16> together = Norm(all, x, w);
    for (int64_t r : {0, 4, 5, 6, 7, 36}) {
      const auto at = static_cast<size_t>(r * hidden), end = at + static_cast<size_t>(hidden);
      const std::vector<float> alone(x.begin() + static_cast<int64_t>(at),
                                     x.begin() + static_cast<int64_t>(end));
      const std::vector<Bf16> got = Norm({1, hidden, hidden, hidden}, alone, w);
      EXPECT_TRUE(std::equal(got.begin(), got.end(), together.begin() + static_cast<int64_t>(at)))
          << r;
      EXPECT_EQ(std::isnan(ToFloat(got[0])), r == 5) << r;
    }
  }
}

TEST_P(RmsNormCudas, TakesTheRowsThatAreAskedFor) {
  const int64_t hidden = 512;
  const std::vector<float> x = testing::Normals(9 * hidden, 5), w = testing::Normals(hidden, 6);
  const std::vector<Bf16> all = Norm({9, hidden, hidden, hidden}, x, w);
  const std::vector<int32_t> rows = {8, 0, 8, 3};
  const std::vector<Bf16> some = Norm({4, hidden, hidden, hidden}, x, w, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_TRUE(std::equal(all.begin() + rows[i] * hidden, all.begin() + (rows[i] + 1) * hidden,
                           some.begin() + static_cast<int64_t>(i) * hidden));
  }
}

INSTANTIATE_TEST_SUITE_P(Gains, RmsNormCudas,
                         ::testing::Values(NormGain::kPlain, NormGain::kGemma));

}  // namespace
}  // namespace lectern::kernels
