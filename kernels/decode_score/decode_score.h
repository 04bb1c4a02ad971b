#pragma once

// The index branch of MiniMax Sparse Attention for decoding, first half: for every query row and KV
// group the score of every whole block before the row's own,
//
//   score(row, r, b) = max over the 128 tokens j of block b of iq[row, r] . ik[j]
//
// bf16 inputs, fp32 sums (arXiv 2606.13392, Eq. 4-6; the scale changes no order). A token whose
// product is NaN counts as minus infinity. decode_attention.h chooses the blocks and attends.
//
// The index keys of a span are read once for all its rows and heads: 256 bytes a token at dim 128,
// which is what bounds the time. FLOPs: 2 rows heads dim tokens. A score's bits depend on its row,
// its block and the kind of product alone: not on the batch, the spans or the grid. kWide is one
// kind, all other ways are the other; kBest takes kWide on Hopper for spans of more than 32
// (row, head) columns, so who needs a row's bits to be the same in any company names the way.
//
// All pointers are device memory. Nothing is allocated, nothing waits: the launches may be captured
// in a CUDA graph, and what they read on the device (positions, pages, spans) may change between
// replays. A stream's launches use programmatic dependent launch; the next kernel need not know.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

struct CUstream_st;

namespace lectern::kernels {

// Rows that share index keys: rows [first_row, first_row + rows) are scored against the blocks
// [first_block, end_block) of a request, as far as the last of the rows has whole blocks before its
// own.
struct DecodeSpan {
  int32_t first_row;
  int32_t rows;
  int32_t request;  // row of the page table
  int32_t first_block;
  int32_t end_block;
};

inline constexpr int kMaxDecodeSpans = 1024;
inline constexpr int kMaxDecodeHeads = 8;  // KV groups

struct DecodeScoreParams {
  const Bf16* q;     // [rows][heads][dim]
  const Bf16* keys;  // [num_pages][128][dim], one shared key head
  int64_t num_pages;
  const int32_t* pages;      // [requests][pages_stride] page of each block
  int64_t pages_stride;      // >= the blocks of any request
  const int32_t* positions;  // [rows] position of the query's own token
  const DecodeSpan* spans;   // [num_spans], or null: request i has the rows [i, i + 1) span_rows
  int32_t num_spans;         // 1..kMaxDecodeSpans
  int32_t span_rows;         // the most rows of a span, 1..kMaxSpanRows
  int32_t heads;             // KV groups, 1..kMaxDecodeHeads
  int32_t dim;               // 64 or 128
  float* scores;             // [rows][heads][scores_stride]; of a block behind the last whole one
                             // of its row either untouched or any number
  int64_t scores_stride;     // >= the blocks of any request; multiple of 4

  bool operator==(const DecodeScoreParams&) const = default;
};

inline constexpr int kMaxSpanRows = 1024;
inline constexpr int kMostNarrowColumns = 32;  // (row, head) pairs of a span that kBest never takes
                                               // kWide for

// How keys reach the tensor cores. kPaged and kWide need sm_90 (kWide: no other); kWide multiplies
// 256 (row, head) columns at a time and is for many rows on one document.
enum class DecodeScoreWay {
  kBest,
  kStreamed,       // every GPU: from global memory into registers, two tiles under way
  kStreamedLight,  // one tile, more warps
  kPaged,          // pages by the copy engine into shared memory, 4 of them
  kPagedDeep,      // 6
  kHalfPaged,      // half pages, 4
  kHalfPagedDeep,  // half pages, 8
  kWide,
};

// Returns a cudaError_t: 0, or what the launch failed with.
int DecodeScore(const DecodeScoreParams& params, CUstream_st* stream,
                DecodeScoreWay way = DecodeScoreWay::kBest);

// fp64, host pointers, one score after the other.
void DecodeScoreReference(const DecodeScoreParams& params);

}  // namespace lectern::kernels
