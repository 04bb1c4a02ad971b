#pragma once

// How one row's attention is spread over the tokens of one block: what evidence points at.
//   mass[t] += sum over heads h of exp(scale q[h] . k[t] - lse[h])        t < tokens
// With lse the row's ln sum exp over all it attended to, the sum over its blocks and tokens is
// `heads`. Asked for by the few rows that evidence is made from, and only for blocks that matter.
// FLOPs 2 heads dim tokens. On the calling thread.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels {

struct TokenMassParams {
  const Bf16* q;          // head h at q + h * q_head_stride, dim numbers
  int64_t q_head_stride;  // >= dim
  int32_t heads;          // query heads that share the key head
  int32_t dim;            // even, at most kMaxHeadDim
  const Bf16* k;          // key tile; slots from `tokens` on may hold anything
  int32_t tokens;         // visible tokens, 0..128
  float scale;
  const float* lse;  // [heads]; minus infinity adds nothing
  float* mass;       // [tokens], added to
};
void TokenMass(const TokenMassParams& params);
void TokenMassReference(const TokenMassParams& params);  // fp64

}  // namespace lectern::kernels
