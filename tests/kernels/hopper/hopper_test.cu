#include "kernels/cuda/hopper.h"

#include <gtest/gtest.h>

#include "kernels/cuda/tensor_map.h"
#include "tests/kernels/cuda/device.h"

namespace lectern::kernels {
namespace {

using testing::Check;
using testing::DeviceArray;

constexpr int kRows = 64, kKeys = 128;

// d [64][128] = a [64][dim] b [128][dim]^T: what scores are made of.
template <int kDim>
__global__ void RowProducts(const __grid_constant__ CUtensorMap a,
                            const __grid_constant__ CUtensorMap b, float* out) {
  extern __shared__ uint8_t raw[];
  uint8_t* left = raw + (-hopper::SharedAddress(raw) & 1023);
  uint8_t* right = left + kRows * kDim * 2;
  __shared__ uint64_t full;
  if (threadIdx.x == 0) {
    hopper::InitBarrier(&full, 1);
    hopper::PublishBarriers();
    hopper::ArriveExpecting(&full, (kRows + kKeys) * kDim * 2);
    hopper::CopyTile<kRows, kDim>(left, &a, 0, &full);
    hopper::CopyTile<kKeys, kDim>(right, &b, 0, &full);
  }
  __syncthreads();
  hopper::Wait(&full, 0);
  float d[64];
  hopper::BeginProducts();
  for (int k = 0; k < kDim / 16; ++k)
    hopper::MultiplySharedShared(
        d,
        hopper::RowDescriptor(hopper::SharedAddress(left) + (k >> 2) * kRows * 128 + (k & 3) * 32),
        hopper::RowDescriptor(hopper::SharedAddress(right) + (k >> 2) * kKeys * 128 + (k & 3) * 32),
        k > 0);
  hopper::CommitProducts();
  hopper::WaitProducts<0>();
  hopper::PinRegisters(d);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int e = 0; e < 64; ++e)
    out[(warp * 16 + lane / 4 + (e >> 1 & 1) * 8) * kKeys + e / 4 * 8 + (lane & 3) * 2 + (e & 1)] =
        d[e];
}

// d [64][dim] = a [64][128] b [128][dim], a in registers: what weighted values are made of.
template <int kDim>
__global__ void ColumnProducts(const __nv_bfloat16* a, const __grid_constant__ CUtensorMap b,
                               float* out) {
  extern __shared__ uint8_t raw[];
  uint8_t* right = raw + (-hopper::SharedAddress(raw) & 1023);
  __shared__ uint64_t full;
  if (threadIdx.x == 0) {
    hopper::InitBarrier(&full, 1);
    hopper::PublishBarriers();
    hopper::ArriveExpecting(&full, kKeys * kDim * 2);
    hopper::CopyTile<kKeys, kDim>(right, &b, 0, &full);
  }
  __syncthreads();
  hopper::Wait(&full, 0);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float d[kDim / 2] = {};
  uint32_t left[kKeys / 16][4];
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      left[k][i] =
          *reinterpret_cast<const uint32_t*>(a + (warp * 16 + lane / 4 + (i & 1) * 8) * kKeys +
                                             k * 16 + (i >> 1) * 8 + (lane & 3) * 2);
  hopper::PinRegisters(d);
  hopper::BeginProducts();
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k)
    hopper::MultiplyRegistersShared(
        d, left[k],
        hopper::ColumnDescriptor(hopper::SharedAddress(right) + k * 16 * 128, kKeys * 128));
  hopper::CommitProducts();
  hopper::WaitProducts<0>();
  hopper::PinRegisters(d);
  for (int e = 0; e < kDim / 2; ++e)
    out[(warp * 16 + lane / 4 + (e >> 1 & 1) * 8) * kDim + e / 4 * 8 + (lane & 3) * 2 + (e & 1)] =
        d[e];
}

void Compare(const std::vector<float>& got, const std::vector<double>& want, int columns) {
  int wrong = 0, shown = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= 1e-3) continue;
    ++wrong;
    if (++shown <= 6)
      std::printf("  [%zu][%zu] want %.4f got %.4f\n", i / columns, i % columns, want[i], got[i]);
  }
  EXPECT_EQ(wrong, 0) << "of " << got.size();
}

template <int kDim>
void TestRows() {
  testing::Noise noise(kDim);
  const auto a = noise.Normals(kRows * kDim), b = noise.Normals(kKeys * kDim);
  const DeviceArray<Bf16> da(a), db(b);
  DeviceArray<float> out(kRows * kKeys);
  out.Fill(0xff);
  const int bytes = 1024 + (kRows + kKeys) * kDim * 2;
  Check(cudaFuncSetAttribute(RowProducts<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "shared memory");
  RowProducts<kDim><<<1, 128, bytes>>>(MatrixMap(da.get(), kRows, kDim, kRows),
                                       MatrixMap(db.get(), kKeys, kDim, kKeys), out.get());
  Check(cudaDeviceSynchronize(), "RowProducts");
  std::vector<double> want(kRows * kKeys);
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kKeys; ++j)
      for (int k = 0; k < kDim; ++k)
        want[i * kKeys + j] += double{ToFloat(a[i * kDim + k])} * ToFloat(b[j * kDim + k]);
  Compare(out.Host(), want, kKeys);
}

template <int kDim>
void TestColumns() {
  testing::Noise noise(kDim + 1);
  const auto a = noise.Normals(kRows * kKeys), b = noise.Normals(kKeys * kDim);
  const DeviceArray<Bf16> da(a), db(b);
  DeviceArray<float> out(kRows * kDim);
  out.Fill(0xff);
  const int bytes = 1024 + kKeys * kDim * 2;
  Check(cudaFuncSetAttribute(ColumnProducts<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             bytes),
        "shared memory");
  ColumnProducts<kDim><<<1, 128, bytes>>>(reinterpret_cast<const __nv_bfloat16*>(da.get()),
                                          MatrixMap(db.get(), kKeys, kDim, kKeys), out.get());
  Check(cudaDeviceSynchronize(), "ColumnProducts");
  std::vector<double> want(kRows * kDim);
  for (int i = 0; i < kRows; ++i)
    for (int k = 0; k < kKeys; ++k)
      for (int j = 0; j < kDim; ++j)
        want[i * kDim + j] += double{ToFloat(a[i * kKeys + k])} * ToFloat(b[k * kDim + j]);
  Compare(out.Host(), want, kDim);
}

class Hopper : public ::testing::Test {
  void SetUp() override {
    if (!testing::HaveHopper()) GTEST_SKIP() << "needs a GPU of compute capability 9.0";
  }
};

TEST_F(Hopper, ProductsOfRows) {
  TestRows<64>();
  TestRows<128>();
}

TEST_F(Hopper, ProductsOfRegistersAndColumns) {
  TestColumns<64>();
  TestColumns<128>();
}

}  // namespace
}  // namespace lectern::kernels
