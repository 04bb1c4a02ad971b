#pragma once

// The rotation of index_codes.h by a warp. For .cu files.

#include "kernels/cuda/warp.h"

namespace lectern::kernels::cuda {

// x: lane i's kDim / 32 neighbouring numbers of a vector, from kDim / 32 i on. In fp32: each of the
// log2(kDim) + 1 steps rounds once, so a result is off by less than 1e-6 |x|.
template <int kDim>
__device__ __forceinline__ void Rotate(float (&x)[kDim / 32]) {
  constexpr int kHeld = kDim / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int d = 1; d < kHeld; d *= 2) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      if ((i & d) != 0) continue;
      const float a = x[i], b = x[i + d];
      x[i] = a + b;
      x[i + d] = a - b;
    }
  }
#pragma unroll
  for (int d = 1; d < 32; d *= 2) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, x[i], d);
      x[i] = (lane & d) != 0 ? other - x[i] : x[i] + other;
    }
  }
  const float shrink = rsqrtf(static_cast<float>(kDim));
#pragma unroll
  for (int i = 0; i < kHeld; ++i) x[i] *= shrink;
}

__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int d = 1; d < 32; d *= 2) x += __shfl_xor_sync(kAllLanes, x, d);
  return x;
}
__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int d = 1; d < 32; d *= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, d));
  return x;
}

template <int kDim>
__device__ __forceinline__ void LoadVector(const Bf16* from, float (&x)[kDim / 32]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i)
    x[i] = __uint_as_float(uint32_t{from[lane * (kDim / 32) + i].bits} << 16);
}

}  // namespace lectern::kernels::cuda
