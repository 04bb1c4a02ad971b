#pragma once

// y = silu(gate) * up, silu(g) = g / (1 + exp(-g)); fp32, rounded to bf16 once. exp within 2 ulp.
// Bytes 10 rows cols.

#include <cstdint>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

struct SwiGluParams {
  const float* gate;  // [rows][stride]
  const float* up;    // [rows][stride]; gate and up may be halves of one fused projection
  int64_t stride;     // >= cols
  Bf16* y;            // [rows][y_stride]
  int64_t y_stride;   // >= cols
  int64_t rows;
  int64_t cols;
};
void SwiGlu(const SwiGluParams& params);
void SwiGluReference(const SwiGluParams& params);  // fp64

}  // namespace lectern::kernels
