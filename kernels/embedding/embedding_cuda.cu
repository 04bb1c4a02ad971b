#include "kernels/embedding/embedding_cuda.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"

namespace lectern::kernels {
namespace {

constexpr int kMostThreads = 256;

__device__ float Wide(uint32_t low_half) { return __uint_as_float(low_half << 16); }

// A thread block a row.
__global__ void EmbedVectors(EmbedCudaParams p) {
  const int64_t row = blockIdx.x, vectors = p.width / 4;
  const int32_t id = p.ids[row];
  assert(id < p.vocabulary);
  float4* x = reinterpret_cast<float4*>(p.x + row * p.width);
  if (id < 0) {
    for (int64_t i = threadIdx.x; i < vectors; i += blockDim.x) x[i] = float4{0, 0, 0, 0};
    return;
  }
  const uint2* from = reinterpret_cast<const uint2*>(p.table + id * p.width);
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    const uint2 v = from[i];
    x[i] = float4{Wide(v.x), Wide(v.x >> 16), Wide(v.y), Wide(v.y >> 16)};
  }
}

__global__ void EmbedNumbers(EmbedCudaParams p) {
  const int64_t row = blockIdx.x;
  const int32_t id = p.ids[row];
  assert(id < p.vocabulary);
  for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x) {
    p.x[row * p.width + i] = id < 0 ? 0.0f : Wide(p.table[id * p.width + i].bits);
  }
}

}  // namespace

int EmbedCuda(const EmbedCudaParams& p, CUstream_st* stream) {
  if (p.rows == 0 || p.width == 0) return cudaSuccess;
  const bool vectors = p.width % 8 == 0;
  const int64_t wanted = vectors ? p.width / 4 : p.width;
  const auto threads =
      static_cast<int>(std::min<int64_t>(kMostThreads, (wanted + 31) / 32 * 32));
  const auto kernel = vectors ? EmbedVectors : EmbedNumbers;
  return cuda::Launch(kernel, {.grid = static_cast<unsigned>(p.rows), .threads = threads}, stream, p);
}

}  // namespace lectern::kernels
