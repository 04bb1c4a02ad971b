#pragma once

// embedding.h on a GPU (sm_80 and later): x[i] = table[ids[i]], widened to fp32 (exact). A negative
// id gives a row of zeros: rows of a batch that stand for no token. Bytes: 6 rows width.

#include <cstdint>

#include "kernels/bf16/bf16.h"

struct CUstream_st;

namespace lectern::kernels {

// Pointers are device memory.
struct EmbedCudaParams {
  const int32_t* ids;  // [rows], each below vocabulary
  const Bf16* table;   // [vocabulary][width], 16-byte aligned
  float* x;            // [rows][width], 16-byte aligned
  int64_t rows;
  int64_t width;       // whole vectors are moved where it is a multiple of 8
  int64_t vocabulary;  // only asserted against

  bool operator==(const EmbedCudaParams&) const = default;
};

// Launches on `stream` and returns a cudaError_t: 0, or what the launch failed with. No allocation,
// no synchronisation; may be captured in a graph.
int EmbedCuda(const EmbedCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
