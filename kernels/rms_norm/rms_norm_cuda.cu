#include "kernels/rms_norm/rms_norm_cuda.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kManyThreads = 512;  // of a row, while that many suffice
constexpr int kMostThreads = 1024;
constexpr int kMostVectors = 8;  // of a thread

// The sum over the thread block, the same in every thread.
__device__ float BlockSum(float x) {
  __shared__ float parts[kMostThreads / 32];
#pragma unroll
  for (int m = 16; m > 0; m >>= 1) x += __shfl_xor_sync(kAllLanes, x, m);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += parts[w];
  return sum;
}

__device__ const float* Source(const RmsNormCudaParams& p, int64_t row) {
  return p.x + (p.x_rows != nullptr ? p.x_rows[row] : row) * p.x_stride;
}

// 1 / sqrt(mean + eps) with the CPU's roundings.
__device__ float Inverse(const RmsNormCudaParams& p, float squares) {
  return 1.0f / sqrtf(squares / static_cast<float>(p.hidden) + p.eps);
}

__device__ float Normed(float x, float inverse, float base, float w) {
  return __fmul_rn(__fmul_rn(x, inverse), __fadd_rn(base, w));
}

// A thread block a row, which stays in registers: kVectors of each thread.
template <int kVectors>
__global__ void __launch_bounds__(kMostThreads) NormVectors(RmsNormCudaParams p) {
  const int64_t row = blockIdx.x;
  const int vectors = static_cast<int>(p.hidden / 4), threads = static_cast<int>(blockDim.x);
  const float4* x = reinterpret_cast<const float4*>(Source(p, row));
  const float4* w = reinterpret_cast<const float4*>(p.w);
  float4 v[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = i * threads + static_cast<int>(threadIdx.x);
    v[i] = at < vectors ? x[at] : float4{0, 0, 0, 0};
  }
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    squares = fmaf(v[i].x, v[i].x, squares);
    squares = fmaf(v[i].y, v[i].y, squares);
    squares = fmaf(v[i].z, v[i].z, squares);
    squares = fmaf(v[i].w, v[i].w, squares);
  }
  const float inverse = Inverse(p, BlockSum(squares));
  const float base = p.gain == NormGain::kGemma ? 1.0f : 0.0f;
  uint2* y = reinterpret_cast<uint2*>(p.y + row * p.y_stride);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = i * threads + static_cast<int>(threadIdx.x);
    if (at >= vectors) break;
    const float4 g = w[at];
    y[at] = uint2{PackBf16(Normed(v[i].x, inverse, base, g.x), Normed(v[i].y, inverse, base, g.y)),
                  PackBf16(Normed(v[i].z, inverse, base, g.z), Normed(v[i].w, inverse, base, g.w))};
  }
}

// Any width and alignment.
__global__ void __launch_bounds__(kMostThreads) NormNumbers(RmsNormCudaParams p) {
  const int64_t row = blockIdx.x;
  const float* x = Source(p, row);
  float squares = 0;
  for (int64_t i = threadIdx.x; i < p.hidden; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
  const float inverse = Inverse(p, BlockSum(squares));
  const float base = p.gain == NormGain::kGemma ? 1.0f : 0.0f;
  for (int64_t i = threadIdx.x; i < p.hidden; i += blockDim.x) {
    const __nv_bfloat16 y = __float2bfloat16_rn(Normed(x[i], inverse, base, p.w[i]));
    p.y[row * p.y_stride + i].bits = __bfloat16_as_ushort(y);
  }
}

bool Aligned(const void* pointer, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

int Threads(int64_t vectors, int of_a_thread) {
  return static_cast<int>((vectors + int64_t{of_a_thread} * 32 - 1) / (of_a_thread * 32) * 32);
}

}  // namespace

int RmsNormCuda(const RmsNormCudaParams& p, CUstream_st* stream) {
  if (p.rows == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(p.rows);
  const int64_t vectors = p.hidden / 4;
  const bool whole = p.hidden % 4 == 0 && p.x_stride % 4 == 0 && p.y_stride % 4 == 0 &&
                     Aligned(p.x, 16) && Aligned(p.w, 16) && Aligned(p.y, 8) &&
                     vectors <= int64_t{kMostThreads} * kMostVectors;
  if (!whole) return Launch(NormNumbers, {.grid = rows, .threads = kManyThreads}, stream, p);
  const auto vectors_each = [&](auto kernel, int each) {
    return Launch(kernel, {.grid = rows, .threads = Threads(vectors, each)}, stream, p);
  };
  if (vectors <= kManyThreads) return vectors_each(NormVectors<1>, 1);
  if (vectors <= 2 * kManyThreads) return vectors_each(NormVectors<2>, 2);
  if (vectors <= 4 * kManyThreads) return vectors_each(NormVectors<4>, 4);
  return vectors_each(NormVectors<kMostVectors>, kMostVectors);
}

}  // namespace lectern::kernels
