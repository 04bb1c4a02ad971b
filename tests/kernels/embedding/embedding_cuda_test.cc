#include "kernels/embedding/embedding_cuda.h"

#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::DeviceArray;

class EmbeddingCuda : public testing::GpuTest {};

TEST_F(EmbeddingCuda, CopiesRowsAndLeavesZerosForNoToken) {
  const int64_t vocabulary = 101;
  for (int64_t width : {1, 7, 8, 12, 512, 6144}) {
    for (int64_t rows : {1, 3, 130}) {
      testing::Noise noise(static_cast<uint64_t>(width + rows));
      std::vector<Bf16> table = noise.Normals(static_cast<size_t>(vocabulary * width));
      table[0] = Bf16{0x7fc1};  // a NaN is passed on as it is
      std::vector<int32_t> ids(static_cast<size_t>(rows));
      for (int32_t& id : ids) id = noise.Below(vocabulary + 20) - 20;
      ids[0] = 0;
      const DeviceArray<Bf16> on_device(table);
      const DeviceArray<int32_t> device_ids(ids);
      DeviceArray<float> x(static_cast<size_t>(rows * width));
      const std::vector<float> got = testing::Outcome(x, [&](cudaStream_t stream) {
        return EmbedCuda({device_ids.get(), on_device.get(), x.get(), rows, width, vocabulary},
                         stream);
      });
      std::vector<float> want;
      for (int32_t id : ids) {
        for (int64_t i = 0; i < width; ++i) {
          want.push_back(id < 0 ? 0.0f : ToFloat(table[static_cast<size_t>(id * width + i)]));
        }
      }
      EXPECT_TRUE(testing::SameBits(want, got)) << rows << " of " << width;
    }
  }
}

}  // namespace
}  // namespace lectern::kernels
