#pragma once

// MSA's index branch (msa.md 1.1, 1.2): for every row and KV group, which blocks the main attention
// reads.
//   s(i, j, r) = iq[i, r] . ik[j]                       bf16 inputs, fp32 accumulation (scale
//   dropped: it changes no order) m(i, b, r) = max over tokens j of block b, j <= position(i), of
//   s(i, j, r) selected(i, r) = own block and the topk - 1 blocks of largest m among the earlier
//   ones; ties to the lower block
// Fused: no matrix of token scores is ever written. The own block's score is not needed (it is
// always in), so every block that is scored is full and causally visible as a whole. Per (row,
// head, key) the order of accumulation is fixed: a row's selection does not depend on the chunk, on
// other rows, or on the number of threads. A NaN score ranks as minus infinity.
//
// FLOPs 2 rows heads dim visible_keys; bytes: 2 dim per key once per tile of rows (once in all for
// decode, shared by all heads). Parallel over tiles of rows, and over ranges of blocks when there
// are too few rows.
//
// Coverage, for flagged rows only (a second pass): token-level probability mass of the index
// branch, scale 1/sqrt(dim), over the tokens j <= position: lse_visible = ln sum exp(s /
// sqrt(dim)), lse_selected the same over the selected blocks. Coverage = exp(lse_selected -
// lse_visible).

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels {

inline constexpr int kMaxTopk = 256;

struct IndexSelectParams {
  const Bf16* q;             // [rows][q_row_stride], head r at column r * dim
  int64_t q_row_stride;      // >= heads * dim
  const int32_t* positions;  // [rows] absolute positions in this context, any order
  const Bf16* const*
      key_blocks;  // [blocks] key tiles (block_tile.h); block b holds positions 128 b ...
  int32_t blocks;  // > position / 128 of every row; slots after a row's position may hold anything
  int32_t rows;
  int32_t heads;      // KV groups; one shared key head
  int32_t dim;        // multiple of 16, at most 256
  int32_t topk;       // 1..kMaxTopk
  int32_t* selected;  // [rows][heads][topk] block numbers ascending, -1 behind the last

  const uint8_t* flagged = nullptr;  // [rows], nonzero: coverage wanted; null: no row
  float* lse_visible =
      nullptr;  // [rows][heads], written for flagged rows; null allowed if flagged is
  float* lse_selected = nullptr;  // [rows][heads], likewise
  // [rows][heads] or null: m of the worst selected earlier block minus m of the best one left out
  // (>= 0; 0 is a tie); infinity where every visible block is selected or only the own one fits
  // (topk 1). For tests of the selection contract.
  float* margin = nullptr;
};
void IndexSelect(const IndexSelectParams& params);
void IndexSelectReference(
    const IndexSelectParams& params);  // fp64 scores, masks and full sort as the definition says

}  // namespace lectern::kernels
