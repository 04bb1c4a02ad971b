#pragma once

// The main branch of MiniMax Sparse Attention (arXiv 2606.13392): exact softmax over chosen blocks.
//
//   o[i, h] = sum_j p_j v[j] / sum_j p_j,   p_j = exp(scale q[i, h] . k[j] - max),
//   j over the tokens <= position(i) of the row's blocks.
//
// Dense attention is the same call with every visible block chosen.
//
// KV-outer: a tile is up to 128 rows of one context and one KV head with its `heads` query heads
// (the GQA ratio). For each block, in ascending order, all rows that chose it are processed while
// its K and V are in cache. The running softmax of every (row, head) lives in the caller's fp32
// `state`, so blocks may arrive in any number of calls; a bounded pool need not hold them all at
// once: BeginAttention, AccumulateAttention as often as needed, FinishAttention.
//
// Arithmetic, the same on every route: per (row, head, block) a partial (m_b, l_b, o_b) with the
// block's own maximum, merged in ascending order of blocks:
//   m' = max(m, m_b),  l' = l exp(m - m') + l_b exp(m_b - m'),  o' likewise.
// So a row's result does not depend, bit for bit, on how blocks are spread over calls, on other
// rows or on threads.
//
// Error: Q K has bf16 inputs and fp32 sums. For P V the avx512bf16 path rounds P to bf16, each
// weight by at most 2^-9 of itself and independently (the normaliser sums the unrounded P): on
// average the size of one bf16 rounding of the output, never above 2^-9 max|v|. Other paths keep P
// in fp32. A NaN in a row's query, or in a key or value it sees, makes that row NaN and no other.
//
// FLOPs: 4 heads dim per (row, visible key). Bytes: a block's K and V once per tile; neighbouring
// tiles of a call that share K and V (order tiles by KV head, then by rows) read them together.
// Threads: over tiles; rows of a tile are split when there are few tiles, and blocks when every
// tile is one row and threads outnumber tiles.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels {

inline constexpr int kMaxAttentionRows = 128;  // rows of a tile
inline constexpr int kMaxGqaRatio = 16;

struct AttentionShape {
  int32_t heads;  // query heads per KV head, 1..kMaxGqaRatio
  int32_t dim;    // multiple of 16, at most kMaxHeadDim
  float scale;    // 1 / sqrt(dim) of the model
};

// One block and the rows of the tile that chose it.
struct AttentionBlock {
  int32_t block;        // absolute block number: its tokens are 128 block ... 128 block + 127
  const Bf16* k;        // key tile
  const Bf16* v;        // value tile
  const int32_t* rows;  // [num_rows] rows of the tile, strictly ascending, position >= 128 block
  int32_t num_rows;     // may be 0

  // [num_rows][heads] or null: ln sum exp(scale q.k) over the block's visible tokens.
  float* block_lse = nullptr;
};

// One tile. Pointers to what a phase does not use may be null in that phase.
struct AttentionTile {
  int32_t rows = 0;        // 1..kMaxAttentionRows
  float* state = nullptr;  // AttentionStateFloats(shape, rows) floats, opaque between phases

  // Accumulate. Row i, head h: dim numbers at q[i * q_row_stride + h * q_head_stride].
  const Bf16* q = nullptr;
  int64_t q_row_stride = 0;
  int64_t q_head_stride = 0;
  const int32_t* positions = nullptr;      // [rows] absolute
  const AttentionBlock* blocks = nullptr;  // [num_blocks] ascending, and behind earlier calls'
  int32_t num_blocks = 0;

  // Finish. Row i, head h at i * out_row_stride + h * out_head_stride of exactly one of the two.
  Bf16* out = nullptr;
  float* out_f32 = nullptr;
  int64_t out_row_stride = 0;
  int64_t out_head_stride = 0;
  float* lse = nullptr;  // [rows][heads] or null: ln sum exp(scale q.k) over all the row's tokens
};

int64_t AttentionStateFloats(const AttentionShape& shape, int32_t rows);

// Tiles are independent of each other; all have the same shape.
void BeginAttention(const AttentionShape& shape, const AttentionTile* tiles, int64_t num_tiles);
void AccumulateAttention(const AttentionShape& shape, const AttentionTile* tiles,
                         int64_t num_tiles);
// A row that was given no block ends as zeros with lse minus infinity.
void FinishAttention(const AttentionShape& shape, const AttentionTile* tiles, int64_t num_tiles);

// All phases in one, fp64: gathers each row's tokens over the tile's blocks and applies the
// definition.
void SparseAttentionReference(const AttentionShape& shape, const AttentionTile& tile);

}  // namespace lectern::kernels
