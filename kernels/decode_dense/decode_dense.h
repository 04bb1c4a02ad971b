#pragma once

// Dense causal attention for decoding: every token up to the row's own. For the layers of a model
// that are dense, and what sparse decoding is measured against.
//
//   o[row, h] = sum_j p_j v[j] / sum_j p_j,   p_j = exp(scale q[row, h] . k[j] - max), j <=
//   position
//
// The blocks of one (row, group) are dealt out to `splits` blocks of threads, three teams each;
// every team keeps one running softmax over its blocks, in ascending order, and a second kernel
// merges the teams' partials in their order. Bits depend on the row and on `splits`. P is rounded
// to bf16 for P V. FLOPs: 4 heads dim tokens a (row, group); bytes: 4 dim a token.
// Device pointers, streams and graphs: as in decode_score.h.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

struct CUstream_st;

namespace lectern::kernels {

struct DecodeDenseParams {
  const Bf16* q;             // [rows][groups][heads][dim]
  const Bf16* k;             // [pages][groups][128][dim]
  const Bf16* v;             // [pages][groups][128][dim]
  const int32_t* pages;      // [rows][pages_stride] page of each block
  int64_t pages_stride;      // >= the blocks of any row
  const int32_t* positions;  // [rows] position of the query's own token
  int32_t rows;
  int32_t groups;  // KV heads
  int32_t heads;   // query heads per KV head, 1..16
  int32_t dim;     // 64 or 128
  int32_t splits;  // >= 1; multiprocessors / (rows groups) keeps a long context busy
  float scale;     // 1 / sqrt(dim) of the model
  float* scratch;  // DecodeDenseScratchFloats(params) floats
  Bf16* out;       // [rows][groups][heads][dim]
  float* lse;      // [rows][groups][heads] ln sum exp(scale q.k); or null
};

int64_t DecodeDenseScratchFloats(const DecodeDenseParams& params);

// Returns a cudaError_t: 0, or what the launch failed with.
int DecodeDense(const DecodeDenseParams& params, CUstream_st* stream);

// fp64, host pointers; needs no scratch.
void DecodeDenseReference(const DecodeDenseParams& params);

}  // namespace lectern::kernels
