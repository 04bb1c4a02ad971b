#pragma once

// The main branch of MiniMax Sparse Attention (arXiv 2606.13392) for chunks of a prefill, on
// Hopper: exact softmax over the blocks that index selection chose, sparse_attention.h's
//
//   o[i, h] = sum_j p_j v[j] / sum_j p_j,   p_j = exp(scale q[i, h] . k[j] - max),
//   j over the tokens <= position(i) of the row's blocks.
//
// There are two ways. Query-major (union): a thread block has 128 (token, head) rows of one KV
// group, that is 128 / ratio neighbouring tokens, and reads the union of their blocks once, in
// ascending order. A warpgroup has half of the tokens and passes over blocks that none of its own
// chose; a row gets no weight from a block that only its neighbours chose. So a row's result does
// not depend, bit for bit, on its neighbours, its place in the chunk, or the chunk. Best where
// neighbours choose alike.
//
// KV-outer (gather): a reverse index, made on the device, lists the rows that chose each block;
// thread blocks keep a block's keys and values in shared memory and stream its rows' queries past
// them; every (row, head, slot) leaves a normalised bf16 partial and its fp32 log-sum-exp, which
// are merged in order of slots. Work does not grow with what neighbours choose, but partials cost
// 4 dim bytes each. A row's result depends on that row alone here too.
//
// The device chooses: the mean number of different blocks of four neighbours, over what one of
// them chose, is measured, and the kernels of the other way end at once.
//
// Arithmetic: bf16 inputs, fp32 sums, weights rounded to bf16 for P V (the normaliser sums them
// unrounded). Keys and values behind the context's end may hold anything. A NaN or an infinity in a
// value that some row of a thread block sees may reach that thread block's other rows, all of the
// same context.
//
// FLOPs: 4 ratio dim per row, group and visible key; executed by the union: that times the mean
// number of a warpgroup's different blocks over topk. Bytes: union: 512 dim per block of a union,
// from L2 where neighbouring thread blocks chose the same; gather: (2 + 4) ratio dim per row, group
// and slot.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/prefill_sequence/prefill_sequence.h"

struct CUstream_st;

namespace lectern::kernels {

inline constexpr int kMaxPrefillSelected = 16;     // blocks of a row
inline constexpr int kMaxPrefillRatio = 16;        // query heads of a KV group
inline constexpr int kMaxPrefillBlocks = 1 << 14;  // blocks of a context

enum class PrefillPath : int32_t { kMeasure = 0, kUnion = 1, kGather = 2 };

// Pointers are device memory, 16-byte aligned.
struct PrefillAttentionParams {
  const Bf16* q;         // [rows][q_row_stride], head h of group g at column (g * ratio + h) * dim
  int64_t q_row_stride;  // >= groups * ratio * dim, a multiple of dim

  const Bf16* k;  // [pages][groups][128][dim]
  const Bf16* v;  // likewise
  int64_t pages;  // of the pool
  const int32_t* page_table;
  int64_t table_entries;  // of page_table

  const PrefillSequence* sequences;  // [num_sequences]
  int32_t num_sequences;
  int32_t max_rows;    // of a sequence
  int32_t max_tokens;  // of a context, at most 128 kMaxPrefillBlocks
  int32_t rows;        // of all sequences together

  int32_t groups;  // KV groups
  int32_t ratio;   // 1..kMaxPrefillRatio
  int32_t dim;     // 64 or 128
  int32_t topk;    // 1..kMaxPrefillSelected
  float scale;     // 1 / sqrt(dim) of the model

  // [rows][groups][topk] block numbers, each at most once in a row, at most the row's own block;
  // negative ones are passed over.
  const int32_t* selected;

  Bf16* out;               // [rows][out_row_stride], columns as in q
  int64_t out_row_stride;  // >= groups * ratio * dim, even
  float* lse;              // [rows][groups * ratio] or null: ln sum exp(scale q.k)

  PrefillPath path;
  void* workspace;  // PrefillAttentionWorkspaceBytes(params) bytes; null where that is 0
};

// Bytes of scratch: none for kUnion, else mostly the partials, (2 dim + 4) rows groups topk ratio.
int64_t PrefillAttentionWorkspaceBytes(const PrefillAttentionParams& params);

// Launches on `stream` and returns a cudaError_t: 0, or what the launch failed with. No allocation,
// no synchronisation. Needs sm_90a. A row without blocks ends as zeros with lse minus infinity.
int PrefillAttention(const PrefillAttentionParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
