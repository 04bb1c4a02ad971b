#include "kernels/swiglu/swiglu_cuda.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kMostThreads = 256;
constexpr int kVectors = 2;  // of a thread, under way together

__device__ float Silu(float g) {
  // exp only of minus |g|, so that it cannot overflow.
  const float e = expf(-fabsf(g));
  return (g < 0 ? __fmul_rn(g, e) : g) / (1.0f + e);
}

// A thread block has blockDim.x * kVectors neighbouring vectors of four of a row.
__global__ void __launch_bounds__(kMostThreads) GateVectors(SwiGluCudaParams p) {
  const int64_t row = blockIdx.x, vectors = p.cols / 4;
  const float4* gate = reinterpret_cast<const float4*>(p.gate_up + row * 2 * p.cols);
  const float4* up = gate + vectors;
  uint2* y = reinterpret_cast<uint2*>(p.y + row * p.cols);
  const int64_t first = int64_t{blockIdx.y} * blockDim.x * kVectors + threadIdx.x;
  float4 g[kVectors], u[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int64_t at = first + int64_t{i} * blockDim.x;
    if (at >= vectors) break;
    g[i] = gate[at];
    u[i] = up[at];
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int64_t at = first + int64_t{i} * blockDim.x;
    if (at >= vectors) break;
    y[at] = uint2{PackBf16(Silu(g[i].x) * u[i].x, Silu(g[i].y) * u[i].y),
                  PackBf16(Silu(g[i].z) * u[i].z, Silu(g[i].w) * u[i].w)};
  }
}

__global__ void __launch_bounds__(kMostThreads) GateNumbers(SwiGluCudaParams p) {
  const int64_t row = blockIdx.x;
  const float* gate = p.gate_up + row * 2 * p.cols;
  for (int64_t i = int64_t{blockIdx.y} * blockDim.x + threadIdx.x; i < p.cols;
       i += int64_t{gridDim.y} * blockDim.x) {
    const __nv_bfloat16 y = __float2bfloat16_rn(Silu(gate[i]) * gate[p.cols + i]);
    p.y[row * p.cols + i].bits = __bfloat16_as_ushort(y);
  }
}

}  // namespace

int SwiGluCuda(const SwiGluCudaParams& p, CUstream_st* stream) {
  if (p.rows == 0 || p.cols == 0) return cudaSuccess;
  const auto rows = static_cast<unsigned>(p.rows);
  if (p.cols % 8 != 0) {
    return Launch(GateNumbers, {.grid = rows, .threads = kMostThreads}, stream, p);
  }
  // As few thread blocks as a row needs, all of one size.
  const int64_t work = (p.cols / 4 + kVectors - 1) / kVectors;
  const int64_t blocks = (work + kMostThreads - 1) / kMostThreads;
  const int64_t threads = ((work + blocks - 1) / blocks + 31) / 32 * 32;
  return Launch(
      GateVectors,
      {.grid = dim3(rows, static_cast<unsigned>(blocks)), .threads = static_cast<int>(threads)},
      stream, p);
}

}  // namespace lectern::kernels
