#pragma once

// The second pass of index_select.h on a GPU (sm_80 and later): coverage and widening.
//
// IndexMassCuda, for the listed rows, over all tokens j <= position(i), s = iq[i, r] . ik[j]:
//   block_lse[i, r, b] = ln sum over the tokens of block b of exp(s / sqrt(dim))
//   block_max[i, r, b] = max over the tokens of block b of s                    (if wanted)
//   lse_visible[i, r]  = ln sum over all blocks;  lse_selected[i, r] = over the selected ones
// bf16 inputs, fp32 sums of products, a NaN score as minus infinity. Every key is read once for all
// heads of up to 32 / heads rows of a request, and once more for each further such group. Within a
// block and over blocks the order of sums is fixed: a row's numbers depend on that row alone, bit
// for bit. Within 1e-4 of fp64 as long as |s| / sqrt(dim) < 100.
//   Bytes: 256 dim per visible block and group of rows. FLOPs: 2 heads dim per row and visible key.
//
// WidenSelectionCuda: every (row, head) begins with its first_topk best blocks, the own one among
// them, and doubles them, up to topk, as long as its coverage is below widen_below. The order of
// blocks is by score, ties to the lower block, NaN as minus infinity.

#include <cstdint>

#include "kernels/bf16/bf16.h"

struct CUstream_st;

namespace lectern::kernels {

inline constexpr int kMaxWidenedTopk = 64;

// The listed rows of one context: rows[first .. first + count) of the lists below.
struct IndexMassRequest {
  int32_t first;
  int32_t count;       // may be 0
  int32_t page_begin;  // its page table starts at page_table[page_begin]
};

// Pointers are device memory, 16-byte aligned.
struct IndexMassCudaParams {
  const Bf16* q;         // [..][q_row_stride], head r at column r * dim
  int64_t q_row_stride;  // >= heads * dim, a multiple of 8

  const Bf16* keys;  // [pages][128][dim]
  const int32_t* page_table;

  // [num_requests], in any order, each listed row in one of them; of one in none, lse_visible and
  // lse_selected may end as any number.
  const IndexMassRequest* requests;
  int32_t num_requests;
  int32_t max_count;         // >= count of every request
  const int32_t* rows;       // [listed] rows of q, and of selected
  const int32_t* positions;  // [listed] absolute positions
  int32_t listed;
  int32_t max_position;  // >= every position

  int32_t heads;  // KV groups, 1..32; one shared key head
  int32_t dim;    // 64 or 128

  // [..][heads][selected_stride] by row of q: block numbers, ended by -1 or the stride; null: no
  // lse_selected wanted.
  const int32_t* selected;
  int32_t selected_stride;

  // All by place in the list, not by row of q.
  int64_t block_stride;  // >= max_position / 128 + 1
  float* block_lse;      // [listed][heads][block_stride]; nothing is written behind the own block
  float* block_max;      // likewise; null: not wanted
  float* lse_visible;    // [listed][heads]
  float* lse_selected;   // [listed][heads]; null if selected is

  bool operator==(const IndexMassCudaParams&) const = default;
};

// Launches on `stream` and returns a cudaError_t: 0, what a launch failed with, or
// cudaErrorInvalidValue for heads or dim not named above. No allocation, no synchronisation; may be
// captured in a graph.
int IndexMassCuda(const IndexMassCudaParams& params, CUstream_st* stream);

// The definition in fp64; the same parameters, in host memory.
void IndexMassReference(const IndexMassCudaParams& params);

// Pointers are device memory.
struct WidenSelectionCudaParams {
  // [listed][heads][score_stride] block scores; the own block's is not read. IndexMassCuda's
  // block_max, or what an index kernel scored.
  const float* scores;
  int64_t score_stride;
  const float* block_lse;  // [listed][heads][block_stride], as IndexMassCuda leaves them
  int64_t block_stride;
  const float* lse_visible;  // [listed][heads], likewise

  const int32_t* positions;  // [listed]
  const int32_t* rows;       // [listed] which row of selected each is; null: its place in the list
  int32_t listed;
  int32_t heads;
  int32_t first_topk;  // 1..topk
  int32_t topk;        // 1..kMaxWidenedTopk
  float widen_below;   // 1 or more: always to topk

  int32_t* selected;        // [..][heads][selected_stride] ascending, -1 behind up to the stride
  int32_t selected_stride;  // >= topk
  float* lse_selected;      // [listed][heads] of the blocks taken; null: not wanted

  bool operator==(const WidenSelectionCudaParams&) const = default;
};

// Launches on `stream`, returns and promises as above. Bytes: 4 per earlier block a few times, from
// L2 after the first.
int WidenSelectionCuda(const WidenSelectionCudaParams& params, CUstream_st* stream);

// The definition by a full sort; the same parameters, in host memory.
void WidenSelectionReference(const WidenSelectionCudaParams& params);

}  // namespace lectern::kernels
