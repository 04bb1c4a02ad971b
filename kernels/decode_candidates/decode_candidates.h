#pragma once

// DecodeScore from half the bytes, exact where it matters. Two kernels:
//   1. the 8-bit copy (index_codes.h) gives every block a lower and an upper bound of its score;
//   2. of each (row, group) some topk - 1 blocks have lower bounds of at least t, so the topk - 1
//      best have scores of at least t, and every block whose upper bound is under t is not one of
//      them: it gets minus infinity. The rest are scored from the bf16 keys, bit for bit as
//      DecodeScore does.
// What DecodeAttention then chooses is the same, ties too.
//
// The query is rotated in fp32 and stands as two limbs of 8 bits, so that the keys' rounding is
// nearly all of the error. The bounds hold for the fp32 score of DecodeScore, whose own rounding
// (and that of the bounds) is under kScoreSlack |q| max_k. Bytes: dim a token, and 2 dim a token of
// the blocks that the bounds leave open. Device pointers, streams, graphs: as in decode_score.h.

#include <cstdint>

#include "kernels/decode_score/decode_score.h"
#include "kernels/index_codes/index_codes.h"

namespace lectern::kernels {

inline constexpr float kScoreSlack = 1e-5f;

struct ScoreInterval {
  float low, high;
};

struct DecodeCandidatesParams {
  DecodeScoreParams score;        // as for DecodeScore; span_rows * heads <= 16
  const int8_t* codes;            // [num_pages][128][dim]
  const IndexCodesBound* bounds;  // [num_pages]
  int32_t rows;                   // in all spans
  const int32_t* row_requests;    // [rows] row of the page table, or null: row / span_rows
  int32_t topk;                   // 1..16
  ScoreInterval* intervals;  // [rows][heads][scores_stride], written: each whole earlier block's
  int32_t* open;             // [rows][heads] how many blocks the bounds left open; or null
};

// Returns a cudaError_t: 0, or what a launch failed with. Needs sm_90.
int DecodeCandidates(const DecodeCandidatesParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
