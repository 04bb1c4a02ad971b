#pragma once

// x[i] = table[ids[i]], widened to fp32 (exact). Bytes: 6 rows hidden.

#include <cstdint>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

struct EmbeddingParams {
  const Bf16* table;   // [vocabulary][hidden]
  const int32_t* ids;  // [rows], each in [0, vocabulary)
  float* x;            // [rows][x_stride]
  int64_t x_stride;    // >= hidden
  int64_t rows;
  int64_t hidden;
  int64_t vocabulary;  // only asserted against
};
void Embedding(const EmbeddingParams& params);
void EmbeddingReference(const EmbeddingParams& params);

}  // namespace lectern::kernels
