#pragma once

// y = x / sqrt(mean(x^2) + eps) * g, fp32 throughout, rounded to bf16 once. g = w (Llama) or 1 + w
// (Gemma; MiniMax-M3's use_gemma_norm). A row's result depends on that row alone. Bytes
// 6 rows hidden, FLOPs 4 rows hidden.

#include <cstdint>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

enum class NormGain {
  kPlain,  // w
  kGemma,  // 1 + w
};

struct RmsNormParams {
  const float* x;    // [rows][x_stride]
  int64_t x_stride;  // >= hidden
  const float* w;    // [hidden]
  Bf16* y;           // [rows][y_stride]
  int64_t y_stride;  // >= hidden
  int64_t rows;
  int64_t hidden;
  float eps;
  NormGain gain;
};
void RmsNorm(const RmsNormParams& params);
void RmsNormReference(const RmsNormParams& params);  // fp64

}  // namespace lectern::kernels
