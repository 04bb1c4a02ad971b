#pragma once

// What happens to a head between its projection and attention: optional per-head RMSNorm with a
// gain shared by all heads, then RoPE (split-half, NeoX) on the first rotary_dim dims (as
// MiniMax-M3 orders them), then one rounding to bf16 if asked:
//   n = x * rsqrt(mean(x^2) + eps) * g          (g: w or 1 + w; skipped if w is null)
//   y[i]          = n[i] cos_i - n[i + r/2] sin_i       i < r/2, r = rotary_dim (0: none)
//   y[i + r/2]    = n[i + r/2] cos_i + n[i] sin_i
//   y[j]          = n[j]                                j >= r
// Serves q, k, index q and index k; v (no norm, no rotation) goes through ConvertRowsToBf16. A
// head's result depends on that head alone. Bytes about 6 rows heads dim.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/rms_norm/rms_norm.h"

namespace lectern::kernels {

struct HeadNormRopeParams {
  const float* x;    // [rows][x_stride], head h at column h * dim
  int64_t x_stride;  // >= heads * dim
  const float* w;    // [dim] or null: no norm
  const float* cos;  // [rows][rotary_dim/2]; null if rotary_dim is 0
  const float* sin;  // [rows][rotary_dim/2]; null if rotary_dim is 0
  Bf16* y;           // [rows][y_stride], head h at column h * dim; null if y_f32 is wanted
  float* y_f32;      // the same unrounded; null if y is wanted. May be x itself
  int64_t y_stride;  // >= heads * dim
  int64_t rows;
  int32_t heads;
  int32_t dim;         // even
  int32_t rotary_dim;  // even, 0..dim
  float eps;
  NormGain gain;
};
void HeadNormRope(const HeadNormRopeParams& params);
void HeadNormRopeReference(const HeadNormRopeParams& params);  // fp64

}  // namespace lectern::kernels
