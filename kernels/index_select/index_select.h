#pragma once

// The index branch of MiniMax Sparse Attention (arXiv 2606.13392, Eq. 4-7): for every row and KV
// group, which blocks the main attention reads.
//
//   s(i, j, r)     = iq[i, r] . ik[j]        bf16 inputs, fp32 sums; the scale changes no order
//   m(i, b, r)     = max of s(i, j, r) over the tokens j <= position(i) of block b
//   selected(i, r) = the own block and the topk - 1 earlier blocks of largest m, ties to the lower
//
// Fused: no matrix of token scores is ever written. The own block is always in, so its score is not
// needed, and every block that is scored is full and causally visible as a whole. Per (row, head,
// key) the order of accumulation is fixed: a row's selection does not depend on the chunk, on other
// rows, or on the number of threads. A NaN score ranks as minus infinity.
//
// FLOPs: 2 rows heads dim visible_keys. Bytes: 2 dim per key, once per tile of rows (decode: once
// in all, shared by all heads). Parallel over tiles of rows, and over ranges of blocks when there
// are too few rows.
//
// Coverage, for flagged rows only (a second pass): the index branch's probability mass per token at
// its training scale, over the tokens j <= position(i):
//   lse_visible = ln sum exp(s / sqrt(dim)),  lse_selected = the same over the selected blocks,
//   coverage    = exp(lse_selected - lse_visible).
//
// Widening (adaptive selection), where `first_topk` is set: every (row, head) begins with its
// first_topk best blocks, the own one among them, and doubles them, up to topk, as long as its
// coverage is below `widen_below`. So the selection is always a prefix of the same order, decided
// before any attention runs and, like the selection itself, by the row alone.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels {

inline constexpr int kMaxTopk = 256;

struct IndexSelectParams {
  const Bf16* q;             // [rows][q_row_stride], head r at column r * dim
  int64_t q_row_stride;      // >= heads * dim
  const int32_t* positions;  // [rows] absolute positions in this context, any order

  // [blocks] key tiles (block_tile.h); block b holds positions 128 b and on. Slots behind a row's
  // position may hold anything.
  const Bf16* const* key_blocks;
  int32_t blocks;  // > position / 128 of every row

  int32_t rows;
  int32_t heads;      // KV groups; one shared key head
  int32_t dim;        // multiple of 16, at most kMaxHeadDim
  int32_t topk;       // 1..kMaxTopk
  int32_t* selected;  // [rows][heads][topk] ascending block numbers, -1 behind the last

  const uint8_t* flagged = nullptr;  // [rows] nonzero: coverage wanted; null: of no row
  float* lse_visible = nullptr;      // [rows][heads] written for flagged rows; null if flagged is
  float* lse_selected = nullptr;     // [rows][heads] likewise

  // Widening, see above. 0: none, every row takes topk blocks. Else 1..topk; costs every row the
  // second pass over its keys.
  int32_t first_topk = 0;
  float widen_below = 0;  // 1 or more: always to topk

  // [rows][heads] or null: m of the worst selected earlier block minus m of the best one left out
  // (>= 0; 0 is a tie); infinity where nothing was left out, or only the own block fits (topk 1).
  // For tests of the selection contract; REQUIRES: first_topk 0.
  float* margin = nullptr;
};
void IndexSelect(const IndexSelectParams& params);

// fp64 scores, causal mask and a full sort, as the definition says.
void IndexSelectReference(const IndexSelectParams& params);

}  // namespace lectern::kernels
