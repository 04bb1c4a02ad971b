#pragma once

// Sixteen index keys times a few queries, by a warp: the same products, and so the same bits, for
// whoever scores a block. For .cu files.

#include "kernels/cuda/warp.h"
#include "kernels/decode_score/decode_score.h"

namespace lectern::kernels::cuda {

// The keys are the M side of the product and the heads of all rows the N side, eight a tile. A
// warp multiplies 16 keys. A lane loads 16 bytes of a key's row at once, which hold its numbers of
// two steps of 16 in an order of their own; the queries are loaded in the same order, and a dot
// product does not mind.
template <int kDim, int kTiles>
struct Queries {
  uint4 part[kTiles][kDim / 32];
};

// q: the first of `columns` queries, one behind the other.
template <int kDim, int kTiles>
__device__ __forceinline__ void LoadQueries(const Bf16* q, int columns, Queries<kDim, kTiles>& to) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int column = 8 * n + g;
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      to.part[n][j] =
          column < columns
              ? *reinterpret_cast<const uint4*>(q + int64_t{column} * kDim + 8 * t + 32 * j)
              : make_uint4(0, 0, 0, 0);
    }
  }
}

template <int kDim>
struct KeyTile {
  uint4 low[kDim / 32], high[kDim / 32];  // rows g and g + 8
};

template <int kDim>
__device__ __forceinline__ void LoadKeys(KeyTile<kDim>& k, const Bf16* lane_at) {
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) k.low[j] = LoadStream(lane_at + 32 * j);
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) k.high[j] = LoadStream(lane_at + 8 * kDim + 32 * j);
}

// The maxima over 16 keys, in the lanes of row 0: columns 2 t and 2 t + 1 of each tile.
template <int kDim, int kTiles>
__device__ __forceinline__ void TileMaxima(const KeyTile<kDim>& k, const Queries<kDim, kTiles>& q,
                                           float (*to)[8 * kTiles]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    float c[4] = {0, 0, 0, 0};
#pragma unroll
    for (int j = 0; j < kDim / 32; ++j) {
      MultiplyAdd(c, k.low[j].x, k.high[j].x, k.low[j].y, k.high[j].y, q.part[n][j].x,
                  q.part[n][j].y);
      MultiplyAdd(c, k.low[j].z, k.high[j].z, k.low[j].w, k.high[j].w, q.part[n][j].z,
                  q.part[n][j].w);
    }
    // fmaxf drops a NaN where the other side is a number, and here one always is.
    float even = fmaxf(fmaxf(c[0], c[2]), -INFINITY), odd = fmaxf(fmaxf(c[1], c[3]), -INFINITY);
#pragma unroll
    for (int d = 4; d < 32; d *= 2) {
      even = fmaxf(even, __shfl_xor_sync(kAllLanes, even, d));
      odd = fmaxf(odd, __shfl_xor_sync(kAllLanes, odd, d));
    }
    if (lane < 4) *reinterpret_cast<float2*>(&(*to)[8 * n + 2 * lane]) = make_float2(even, odd);
  }
}

}  // namespace lectern::kernels::cuda
