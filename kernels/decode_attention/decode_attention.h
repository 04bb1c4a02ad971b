#pragma once

// MiniMax Sparse Attention for decoding, second half: of each query row and KV group the blocks
// that the scores of decode_score.h choose, and exact softmax attention over them.
//
//   selected(row, r) = the own block and the topk - 1 earlier blocks of largest score, ties to the
//                      lower block (arXiv 2606.13392, Eq. 7)
//   o[row, h] = sum_j p_j v[j] / sum_j p_j,   p_j = exp(scale q[row, h] . k[j] - max),
//               j over the tokens <= position(row) of the selected blocks of h's group
//
// Per selected block a partial (maximum, sum, fp32 output) with the block's own maximum; partials
// are merged in ascending order of blocks. A row's bits depend on that row alone: not on the batch,
// the grid or the number of runs. P is rounded to bf16 for P V (each weight by at most 2^-9 of
// itself); the normaliser sums the unrounded P. A NaN in a query, or in a key or value that it
// sees, makes that row NaN and no other; slots behind the position may hold anything.
//
// On sm_90 sixteen blocks of threads share one (row, group) as a cluster: each chooses for itself
// (the scores are in L2), attends to one selected block, and merges one head of the output out of
// the others' shared memory: no scratch memory, no atomics. Elsewhere, and of more than sixteen
// given blocks, one block of threads takes a (row, group). A row of which no block is given ends as
// zeros with lse minus infinity.
//
// FLOPs: 4 heads dim tokens a (row, group), at most topk 128 tokens. Bytes: 4 dim a token.
// Device pointers, streams and graphs: as in decode_score.h.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

struct CUstream_st;

namespace lectern::kernels {

inline constexpr int kMaxDecodeTopk = 16;    // chosen by scores
inline constexpr int kMaxDecodeChosen = 64;  // given
inline constexpr int kMaxDecodeGqaRatio = 16;

struct DecodeAttentionParams {
  const Bf16* q;                // [rows][groups][heads][dim]
  const Bf16* k;                // [pages][groups][128][dim]
  const Bf16* v;                // [pages][groups][128][dim]
  const int32_t* pages;         // [requests][pages_stride] page of each block
  int64_t pages_stride;         // >= the blocks of any request
  const int32_t* positions;     // [rows] position of the query's own token
  const int32_t* row_requests;  // [rows] row of the page table, or null: row / request_rows
  int32_t request_rows;         // rows of each request where row_requests is null
  int32_t rows;
  int32_t groups;  // KV heads
  int32_t heads;   // query heads per KV head, 1..kMaxDecodeGqaRatio
  int32_t dim;     // 64 or 128
  int32_t topk;    // 1..kMaxDecodeTopk, or kMaxDecodeChosen where the choice is given
  float scale;     // 1 / sqrt(dim) of the model

  // What is chosen from, or the choice itself: exactly one of the two.
  const float* scores;  // [rows][groups][scores_stride]
  int64_t scores_stride;
  const int32_t* chosen;  // [rows][groups][topk] ascending, -1 behind the last

  int32_t* selected;  // [rows][groups][topk] ascending, -1 behind the last; or null
  Bf16* out;          // [rows][groups][heads][dim]
  float* lse;         // [rows][groups][heads] ln sum exp(scale q.k); or null
  float* block_lse;   // [rows][groups][topk][heads] the same of each selected block,
                      // minus infinity behind the last; or null

  bool operator==(const DecodeAttentionParams&) const = default;
};

// How the blocks of threads share the work; all but kInTurn need sm_90. All give the same bits.
enum class DecodeAttentionWay { kBest, kClusterOf16, kClusterOf8, kInTurn };

// Returns a cudaError_t: 0, or what the launch failed with. after_score: the stream's last launch
// was DecodeScore, and nothing but the scores is still to be written: the rest is read meanwhile.
int DecodeAttention(const DecodeAttentionParams& params, CUstream_st* stream,
                    bool after_score = false, DecodeAttentionWay way = DecodeAttentionWay::kBest);

// fp64, host pointers. out_f64, if not null: the output unrounded.
void DecodeAttentionReference(const DecodeAttentionParams& params, double* out_f64 = nullptr);

}  // namespace lectern::kernels
