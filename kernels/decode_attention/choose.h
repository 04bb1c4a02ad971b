#pragma once

// The exact choice of the best blocks of one (row, group) by one block of threads. For .cu files.
//
// A score and its block make one 64-bit key (score in an order of unsigned numbers, then the lower
// block first), so that no two are equal. The want-th largest of 32 maxima over disjoint sets
// bounds the want-th largest of all from below; what is not under the bound is few, gathered, and
// ranked by counting. Where it is not few (hundreds of equal scores), the best are taken one by
// one.

#include <cstdint>

#include "kernels/cuda/warp.h"
#include "kernels/decode_attention/decode_attention.h"

namespace lectern::kernels::cuda {

inline constexpr int kChooseRoom = 128;

template <int kThreads>
struct Choice {
  int blocks[kMaxDecodeTopk];  // ascending, -1 behind the last
  unsigned lane_max[kThreads / 32][32];
  unsigned long long room[kChooseRoom];
  int ranked[kMaxDecodeTopk];
  unsigned long long warp_best[kThreads / 32];
  int found;
};

// Larger scores, larger numbers; never 0. NaN is minus infinity; the sum makes -0 and +0 one.
__device__ __forceinline__ unsigned Ordered(float score) {
  const unsigned bits = __float_as_uint(score == score ? score + 0.0f : -INFINITY);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ unsigned long long SortKey(unsigned ordered, int block) {
  return static_cast<unsigned long long>(ordered) << 32 | ~static_cast<unsigned>(block);
}
__device__ __forceinline__ int BlockOf(unsigned long long key) {
  return static_cast<int>(~static_cast<unsigned>(key));
}

// A number that at least `want` of the ordered scores are not under, `best` being the largest of
// each thread's own (0: it has none). want <= 32. By the whole block, with a barrier.
template <int kThreads>
__device__ __forceinline__ unsigned BoundOfBest(unsigned best, int want, unsigned (*lane_max)[32]) {
  const int lane = threadIdx.x % 32;
  lane_max[threadIdx.x / 32][lane] = best;
  __syncthreads();
  unsigned column = 0;
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) column = max(column, lane_max[w][lane]);
  int above = 0;
#pragma unroll
  for (int i = 0; i < 32; ++i) above += __shfl_sync(kAllLanes, column, i) > column;
  // Of 32 maxima, the smallest that has fewer than `want` above it.
  return max(1u, __reduce_min_sync(kAllLanes, above < want ? column : 0xffffffffu));
}

// scores: [own] of the blocks before the own one, 16-byte aligned.
template <int kThreads>
__device__ __forceinline__ void ChooseBlocks(const float* scores, int own, int topk,
                                             Choice<kThreads>& s) {
  constexpr int kWarps = kThreads / 32;
  constexpr int kHeld = 8192 / kThreads / 4;  // 16-byte loads a thread keeps: up to 8,192 blocks
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int want = topk - 1;
  if (thread < topk) s.blocks[thread] = -1;
  if (own <= want) {
    __syncthreads();
    if (thread <= own) s.blocks[thread] = thread;
    __syncthreads();
    return;
  }
  if (thread == 0) s.found = 0;
  // 0 stands for a block that is not there.
  auto load = [&](int vector) {
    uint4 v = make_uint4(0, 0, 0, 0);
    const int first = vector * 4;
    if (first + 3 < own) {
      const float4 f = __ldcg(reinterpret_cast<const float4*>(scores) + vector);
      v = make_uint4(Ordered(f.x), Ordered(f.y), Ordered(f.z), Ordered(f.w));
    } else if (first < own) {
      v.x = Ordered(__ldcg(scores + first));
      if (first + 1 < own) v.y = Ordered(__ldcg(scores + first + 1));
      if (first + 2 < own) v.z = Ordered(__ldcg(scores + first + 2));
    }
    return v;
  };
  uint4 held[kHeld];
  unsigned best = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    held[i] = load(i * kThreads + thread);
    best = max(max(best, max(held[i].x, held[i].y)), max(held[i].z, held[i].w));
  }
  for (int i = kHeld * kThreads + thread; i * 4 < own; i += kThreads) {
    const uint4 v = load(i);
    best = max(max(best, max(v.x, v.y)), max(v.z, v.w));
  }
  const unsigned bound = BoundOfBest<kThreads>(best, want, s.lane_max);
  auto offer = [&](unsigned ordered, int block) {
    if (ordered < bound) return;
    const int at = atomicAdd(&s.found, 1);
    if (at < kChooseRoom) s.room[at] = SortKey(ordered, block);
  };
  auto offer_all = [&](const uint4& v, int vector) {
    if (max(max(v.x, v.y), max(v.z, v.w)) < bound) return;
    offer(v.x, vector * 4);
    offer(v.y, vector * 4 + 1);
    offer(v.z, vector * 4 + 2);
    offer(v.w, vector * 4 + 3);
  };
  if (want > 0) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) offer_all(held[i], i * kThreads + thread);
    for (int i = kHeld * kThreads + thread; i * 4 < own; i += kThreads) offer_all(load(i), i);
  }
  __syncthreads();
  const int found = s.found;
  if (found <= kChooseRoom) {
    if (thread < found) {
      const unsigned long long mine = s.room[thread];
      int better = 0;
      for (int i = 0; i < found; ++i) better += s.room[i] > mine;
      if (better < want) s.ranked[better] = BlockOf(mine);
    }
    __syncthreads();
  } else {
    unsigned long long last = ~0ull;
    for (int taken = 0; taken < want; ++taken) {
      unsigned long long top = 0;
      for (int i = thread; i < own; i += kThreads) {
        const unsigned long long key = SortKey(Ordered(__ldcg(scores + i)), i);
        if (key < last && key > top) top = key;
      }
#pragma unroll
      for (int d = 16; d > 0; d /= 2) {
        const unsigned long long other = __shfl_xor_sync(kAllLanes, top, d);
        top = max(top, other);
      }
      if (lane == 0) s.warp_best[warp] = top;
      __syncthreads();
      top = s.warp_best[0];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) top = max(top, s.warp_best[w]);
      last = top;
      if (thread == 0) s.ranked[taken] = BlockOf(top);
      __syncthreads();
    }
  }
  if (thread < want) {
    const int block = s.ranked[thread];
    int below = 0;
    for (int i = 0; i < want; ++i) below += s.ranked[i] < block;
    s.blocks[below] = block;
  }
  if (thread == 0) s.blocks[want] = own;
  __syncthreads();
}

}  // namespace lectern::kernels::cuda
