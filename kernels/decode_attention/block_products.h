#pragma once

// The sixteen query heads of a group against one block of keys and values in shared memory, by a
// team of four warps (mma.sync, cp.async: sm_80 and later). For .cu files.
//
// In shared memory a row of a block keeps its length; its 16-byte chunks are exchanged so that
// eight rows' equal chunks lie in different banks. Thread (g, t) = (lane / 4, lane % 4) of a warp
// holds of a product the rows g (first two numbers of four) and g + 8, the columns 2 t and 2 t + 1.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels::cuda {

inline constexpr int kTeamWarps = 4;
inline constexpr int kTeamThreads = 32 * kTeamWarps;
inline constexpr int kTeamRows = 16;                 // query heads of a group, padded
inline constexpr int kWeightRow = kBlockTokens + 8;  // 16 bytes on: rows start in different banks

template <int kDim>
__device__ __forceinline__ int Swizzled(int row, int chunk) {
  return row * kDim + ((chunk ^ (row & 7)) * 8);
}

// Starts the copy of a block's first `visible` rows; the rest become zeros and are not read.
template <int kDim>
__device__ __forceinline__ void CopyBlock(Bf16* to, const Bf16* from, int visible) {
  constexpr int kChunks = kDim / 8;
  const int thread = threadIdx.x % kTeamThreads;
#pragma unroll
  for (int i = 0; i < kBlockTokens * kChunks / kTeamThreads; ++i) {
    const int at = i * kTeamThreads + thread, row = at / kChunks, chunk = at % kChunks;
    CopyAsync16(SharedAddress(to + Swizzled<kDim>(row, chunk)), from + row * kDim + chunk * 8,
                row < visible);
  }
}

// from: [heads][kDim], heads <= kTeamRows.
template <int kDim>
__device__ __forceinline__ void LoadHeads(const Bf16* from, int heads,
                                          uint32_t (&q)[kDim / 16][4]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  auto at = [&](int row, int column) {
    return row < heads ? *reinterpret_cast<const uint32_t*>(from + row * kDim + column) : 0u;
  };
#pragma unroll
  for (int s = 0; s < kDim / 16; ++s) {
    q[s][0] = at(g, 16 * s + 2 * t);
    q[s][1] = at(g + 8, 16 * s + 2 * t);
    q[s][2] = at(g, 16 * s + 2 * t + 8);
    q[s][3] = at(g + 8, 16 * s + 2 * t + 8);
  }
}

// Key of element (n, e) of a warp's products, and column of element (n, e) of its outputs.
__device__ __forceinline__ int KeyOf(int n, int e) {
  return threadIdx.x / 32 % kTeamWarps * 32 + n * 8 + threadIdx.x % 4 * 2 + e % 2;
}
template <int kDim>
__device__ __forceinline__ int ColumnOf(int n) {
  return threadIdx.x / 32 % kTeamWarps * (kDim / kTeamWarps) + n * 8 + threadIdx.x % 4 * 2;
}

// q K^T: a warp takes 32 keys.
template <int kDim>
__device__ __forceinline__ void MultiplyKeys(const uint32_t (&q)[kDim / 16][4], const Bf16* k,
                                             float (&c)[4][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % kTeamWarps;
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int key = warp * 32 + pair * 16 + (lane / 16) * 8 + lane % 8;
      const int chunk = step * 2 + (lane / 8) % 2;
      uint32_t b[4];
      LoadMatrices(b, SharedAddress(k + Swizzled<kDim>(key, chunk)));
      MultiplyAdd(c[2 * pair], q[step][0], q[step][1], q[step][2], q[step][3], b[0], b[1]);
      MultiplyAdd(c[2 * pair + 1], q[step][0], q[step][1], q[step][2], q[step][3], b[2], b[3]);
    }
  }
}

// Units of log 2, minus infinity where no key is to be seen; the maxima of the warp's two rows.
__device__ __forceinline__ void ScaleVisible(float (&c)[4][4], int visible, float scale_log2,
                                             float (&max)[2]) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      c[n][e] = KeyOf(n, e) < visible ? c[n][e] * scale_log2 : -INFINITY;
      max[e / 2] = fmaxf(max[e / 2], c[n][e]);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    max[r] = fmaxf(max[r], __shfl_xor_sync(kAllLanes, max[r], 1));
    max[r] = fmaxf(max[r], __shfl_xor_sync(kAllLanes, max[r], 2));
  }
}

// exp2(c - max) rounded into p for MultiplyValues, and unrounded onto the lane's sums.
__device__ __forceinline__ void Weigh(float (&c)[4][4], int visible, const float (&max)[2],
                                      __nv_bfloat16 (*p)[kWeightRow], float (&sum)[2]) {
  const int g = threadIdx.x % 32 / 4;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      // A block of minus infinities only would make NaN of what is not even there.
      c[n][e] = KeyOf(n, e) < visible ? exp2f(c[n][e] - max[e / 2]) : 0.0f;
      sum[e / 2] += c[n][e];
    }
    *reinterpret_cast<uint32_t*>(&p[g][KeyOf(n, 0)]) = PackBf16(c[n][0], c[n][1]);
    *reinterpret_cast<uint32_t*>(&p[g + 8][KeyOf(n, 0)]) = PackBf16(c[n][2], c[n][3]);
  }
}

// o += P V: a warp makes a quarter of the columns.
template <int kDim>
__device__ __forceinline__ void MultiplyValues(const __nv_bfloat16 (*p)[kWeightRow], const Bf16* v,
                                               float (&o)[kDim / 32][4]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % kTeamWarps;
#pragma unroll
  for (int step = 0; step < kBlockTokens / 16; ++step) {
    uint32_t a[4];
    LoadMatrices(a, SharedAddress(&p[lane % 16][step * 16 + lane / 16 * 8]));
#pragma unroll
    for (int pair = 0; pair < kDim / 64; ++pair) {
      const int key = step * 16 + lane % 16;
      const int chunk = warp * (kDim / 32) + pair * 2 + lane / 16;
      uint32_t b[4];
      LoadMatricesTransposed(b, SharedAddress(v + Swizzled<kDim>(key, chunk)));
      MultiplyAdd(o[2 * pair], a[0], a[1], a[2], a[3], b[0], b[1]);
      MultiplyAdd(o[2 * pair + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
    }
  }
}

}  // namespace lectern::kernels::cuda
