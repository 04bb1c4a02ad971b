#pragma once

// The two ways to attend, and what they share. Internal to this room.

#include <cuda_runtime.h>

#include "kernels/cuda/hopper.h"
#include "kernels/prefill_attention/prefill_attention.h"

namespace lectern::kernels::prefill {

inline constexpr int kBlock = 128;
inline constexpr unsigned kAll = 0xffffffffu;
inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// What the device chose; where a kernel's `path` is null it runs in any case.
inline constexpr int32_t kUnionPath = 1, kGatherPath = 2;

struct Arguments {
  const Bf16* q;
  int64_t q_row_stride;
  const int32_t* page_table;
  const PrefillSequence* sequences;
  const int32_t* selected;
  Bf16* out;
  int64_t out_row_stride;
  float* lse;
  int32_t groups, ratio, topk;
  float scale_log2;  // scores to base-2 exponents
};

inline Arguments MakeArguments(const PrefillAttentionParams& p) {
  return {p.q,        p.q_row_stride, p.page_table,     p.sequences,
          p.selected, p.out,          p.out_row_stride, p.lse,
          p.groups,   p.ratio,        p.topk,           p.scale * kLog2E};
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

cudaError_t AttendUnion(const PrefillAttentionParams& params, const int32_t* path,
                        cudaStream_t stream);

// The reverse index: which rows chose a block. A segment is a (page table entry, group), a pair a
// (row, slot) of a group, numbered row * topk + slot.
struct GatherItem {
  int32_t segment;
  int32_t first, count;  // its pairs in the list
  int32_t sequence;
};
struct GatherWorkspace {
  int32_t* path;    // what was chosen
  int32_t* ticket;  // thread blocks done with measuring
  int32_t* sums;    // [2] different blocks of all tiles of four rows; blocks of their rows
  int32_t* num_items;
  int32_t* counts;     // [segments] pairs
  int32_t* offsets;    // [segments] first pair in the list
  int32_t* ranks;      // [rows][groups][topk] place among its segment's pairs
  int32_t* list;       // pairs by segment
  GatherItem* items;   // a segment's pairs, cut into pieces of at most GatherItemPairs
  float* lse;          // [rows][groups][topk][ratio] to base 2
  Bf16* out;           // [rows][groups][topk][ratio][dim] normalised
  int64_t zero_bytes;  // from path on, to be cleared first
  int64_t bytes;
};
GatherWorkspace CarveGatherWorkspace(const PrefillAttentionParams& params);
int GatherItemPairs(int ratio);

// Writes *path.
cudaError_t ChoosePath(const PrefillAttentionParams& params, const GatherWorkspace& workspace,
                       cudaStream_t stream);
cudaError_t BuildReverseIndex(const PrefillAttentionParams& params,
                              const GatherWorkspace& workspace, const int32_t* path,
                              cudaStream_t stream);
cudaError_t AttendGathered(const PrefillAttentionParams& params, const GatherWorkspace& workspace,
                           const int32_t* path, cudaStream_t stream);

}  // namespace lectern::kernels::prefill
