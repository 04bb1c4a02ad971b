#pragma once

// The greedy case of sampling.h on a GPU (sm_80 and later), for rows of logits that need not leave
// it: the largest logit, ties to the lower id, NaN as minus infinity, and its log probability.
// A row's result depends on that row alone, bit for bit. The log probability is within 1e-5 of the
// fp64 one. Bytes 4 rows vocabulary.

#include <cstdint>

struct CUstream_st;

namespace lectern::kernels {

// Pointers are device memory.
struct ArgmaxCudaParams {
  const float* logits;  // [rows][stride]
  int64_t stride;       // >= vocabulary
  int32_t rows;
  int32_t vocabulary;      // > 0
  int32_t* ids;            // [rows]
  float* log_probability;  // [rows], NaN where no logit is above minus infinity; null: not wanted
  void* workspace;         // ArgmaxCudaWorkspaceBytes(rows, vocabulary) bytes, 16-byte aligned
};

int64_t ArgmaxCudaWorkspaceBytes(int32_t rows, int32_t vocabulary);

// Launches on `stream` and returns a cudaError_t: 0, or what a launch failed with. No allocation,
// no synchronisation; may be captured in a graph.
int ArgmaxCuda(const ArgmaxCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
