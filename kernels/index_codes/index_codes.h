#pragma once

// An 8-bit copy of the index keys that proposes blocks and never decides: with each block come
// bounds, and what the bounds leave open is scored from the bf16 keys.
//
// A block's keys k_j are rotated by R = H / sqrt(dim) (Hadamard; orthogonal, so q . k = Rq . Rk)
// and rounded to whole numbers c_j of one scale: R k_j = scale c_j + e_j, |c_j| <= 127. The
// rotation spreads what a few dimensions hold over all, without which the scale would follow the
// outliers. For any query q and what stands for it, Rq = p + e:
//   |q . k_j - p . scale c_j| <= |e| max_k + |p| max_error,
//   max_k = max_j |k_j|, max_error = max_j |e_j|.
// A block with a number that is not finite has max_error infinite: it bounds nothing.
//
// Bytes: 3 dim a token. Device pointers, streams: as in decode_score.h.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

struct CUstream_st;

namespace lectern::kernels {

struct IndexCodesBound {
  float scale;
  float max_k;
  float max_error;
};

struct IndexCodesParams {
  const Bf16* keys;       // [pages][128][dim]
  const int32_t* chosen;  // [num_chosen] pages to do, or null: the pages 0 .. num_chosen - 1
  int32_t num_chosen;
  int32_t dim;              // 64 or 128
  int8_t* codes;            // [pages][128][dim]
  IndexCodesBound* bounds;  // [pages]
};

// Every chosen page must be whole: all 128 tokens are there. Returns a cudaError_t.
int MakeIndexCodes(const IndexCodesParams& params, CUstream_st* stream);

// fp64: what the bounds of a page's codes and scale are at least. keys, codes: host, the page's.
IndexCodesBound IndexCodesBoundReference(const Bf16* keys, const int8_t* codes, float scale,
                                         int32_t dim);

}  // namespace lectern::kernels
