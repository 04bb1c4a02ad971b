#pragma once

// What happens between the fused projection and attention, in one kernel (sm_80 and later):
// head_norm_rope.h's norm, rotation and rounding of q, k, index q and index k, the rounding of v,
// and the insertion of k, v and index k into the paged caches. A row of the projection is
//
//   q [heads][dim] | k [kv_heads][dim] | v [kv_heads][dim] | index q [index_heads][index_dim] |
//   index k [index_dim]                       the index parts only where index_heads > 0
//
// The arithmetic is the CPU's, operation by operation, but for the order of the sum of squares: see
// rms_norm_cuda.h for what that means. v and, without gains, whatever is not rotated are the CPU's
// bit for bit, but for a NaN's payload. A head's result depends on that head alone. Bytes about 6
// per number of the projection, and 2 more per number that is inserted.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/rms_norm/rms_norm.h"

struct CUstream_st;

namespace lectern::kernels {

// Pointers are device memory; those to numbers are 16-byte aligned.
struct HeadNormRopeCudaParams {
  const float* x;    // [rows][x_stride]
  int64_t x_stride;  // >= the columns above, a multiple of 4
  int64_t rows;
  int32_t heads;
  int32_t kv_heads;
  int32_t dim;          // 16, 32, 64 or 128
  int32_t index_heads;  // 0: a dense layer, and nothing named index is read or written
  int32_t index_dim;    // likewise 16, 32, 64 or 128
  int32_t rotary_dim;   // even, 0..dim and 0..index_dim

  const float* q_gain;        // [dim]; null here and below: no norm
  const float* k_gain;        // [dim]
  const float* index_q_gain;  // [index_dim]
  const float* index_k_gain;  // [index_dim]
  float eps;
  NormGain gain;
  const float* cos;  // [rows][rotary_dim/2]; null if rotary_dim is 0
  const float* sin;  // likewise

  Bf16* q;        // [rows][heads * dim]
  Bf16* index_q;  // [rows][index_heads * index_dim]
  // The same numbers as are inserted, one row per row. Each may be null: not wanted.
  Bf16* k;        // [rows][kv_heads * dim]
  Bf16* v;        // [rows][kv_heads * dim]
  Bf16* index_k;  // [rows][index_dim]

  // Where each row goes. No two rows to the same place.
  const int32_t* kv_pages;     // [rows] or -1: not inserted; null: no row is
  const int32_t* index_pages;  // [rows] or -1; null: no row is
  const int32_t* slots;        // [rows] 0..127, the token's place in its page
  Bf16* k_cache;               // [pages][kv_heads][128][dim]
  Bf16* v_cache;               // [pages][kv_heads][128][dim]
  Bf16* index_cache;           // [pages][128][index_dim]

  bool operator==(const HeadNormRopeCudaParams&) const = default;
};

// Launches on `stream` and returns a cudaError_t: 0, what the launch failed with, or
// cudaErrorInvalidValue for dimensions not named above. No allocation, no synchronisation; may be
// captured in a graph.
int HeadNormRopeCuda(const HeadNormRopeCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
