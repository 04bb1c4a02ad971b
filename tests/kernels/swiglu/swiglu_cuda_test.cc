#include "kernels/swiglu/swiglu_cuda.h"

#include <limits>

#include "kernels/swiglu/swiglu.h"
#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::Agreement;
using testing::DeviceArray;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SwiGluCudas : public testing::GpuTest {
 protected:
  static std::vector<Bf16> OnGpu(int64_t rows, int64_t cols, const std::vector<float>& gate_up) {
    const DeviceArray<float> in(gate_up);
    DeviceArray<Bf16> y(static_cast<size_t>(rows * cols));
    return testing::Outcome(y, [&](cudaStream_t stream) {
      return SwiGluCuda({in.get(), y.get(), rows, cols}, stream);
    });
  }
  using Kernel = void (*)(const SwiGluParams&);
  static std::vector<Bf16> OnCpu(Kernel kernel, int64_t rows, int64_t cols,
                                 const std::vector<float>& gate_up) {
    std::vector<Bf16> y(static_cast<size_t>(rows * cols));
    kernel({gate_up.data(), gate_up.data() + cols, 2 * cols, y.data(), cols, rows, cols});
    return y;
  }
};

TEST_F(SwiGluCudas, IsTheCpusButForTheRoundingOfExp) {
  Agreement with_cpu;
  for (int64_t cols : {1, 8, 24, 515, 1408, 2056, 16384}) {
    for (int64_t rows : {1, 5}) {
      for (float scale : {0.01f, 1.0f, 30.0f}) {
        const std::vector<float> in = testing::Normals(rows * 2 * cols, 7, scale);
        const std::vector<Bf16> got = OnGpu(rows, cols, in);
        with_cpu.Add(OnCpu(SwiGlu, rows, cols, in), got);
        const std::vector<Bf16> reference = OnCpu(SwiGluReference, rows, cols, in);
        for (size_t i = 0; i < got.size(); ++i) {
          ASSERT_LE(testing::Bf16Distance(reference[i], got[i]), 1) << in[i];
        }
      }
    }
  }
  with_cpu.ExpectClose("SwiGLU");
}

TEST_F(SwiGluCudas, EdgesOfTheRangeAreTheCpus) {
  const std::vector<float> edges = {0.0f,
                                    -0.0f,
                                    1e-40f,
                                    -1e-40f,
                                    87.0f,
                                    -87.0f,
                                    89.0f,
                                    -104.0f,
                                    1e38f,
                                    -1e38f,
                                    kInfinity,
                                    -kInfinity,
                                    std::numeric_limits<float>::quiet_NaN()};
  const auto n = static_cast<int64_t>(edges.size());
  for (int64_t cols : {n * n, (n * n + 7) / 8 * 8}) {  // by numbers and by vectors
    std::vector<float> in(static_cast<size_t>(2 * cols), 1.0f);
    for (int64_t i = 0; i < n * n; ++i) {
      in[static_cast<size_t>(i)] = edges[static_cast<size_t>(i / n)];
      in[static_cast<size_t>(cols + i)] = edges[static_cast<size_t>(i % n)];
    }
    const std::vector<Bf16> want = OnCpu(SwiGluReference, 1, cols, in), got = OnGpu(1, cols, in);
    for (size_t i = 0; i < got.size(); ++i) {
      const float w = ToFloat(want[i]), g = ToFloat(got[i]);
      // exp underflows below -103.97: there silu is zero, and no more than 2^-143 is lost.
      if (std::abs(w) < 0x1p-100f && std::abs(g) < 0x1p-100f) continue;
      const float gate = in[i], up = in[static_cast<size_t>(cols) + i];
      if (gate <= -103.0f && (std::abs(up) > 1 || gate < -1e30f)) continue;
      EXPECT_LE(testing::Bf16Distance(want[i], got[i]), 1) << gate << " " << up;
    }
  }
}

TEST_F(SwiGluCudas, RowsDoNotDependOnCompany) {
  const int64_t rows = 33, cols = 1408;
  const std::vector<float> in = testing::Normals(rows * 2 * cols, 8, 3);
  const std::vector<Bf16> all = OnGpu(rows, cols, in);
  for (int64_t r : {0, 17, 32}) {
    const std::vector<Bf16> alone =
        OnGpu(1, cols, {in.begin() + r * 2 * cols, in.begin() + (r + 1) * 2 * cols});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + r * cols)) << r;
  }
}

}  // namespace
}  // namespace lectern::kernels
