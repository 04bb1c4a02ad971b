#pragma once

// DecodeScore for many rows on one document, by the matrix products of sm_90a's warpgroups. For
// decode_score.cu.

#include <cuda_runtime.h>

#include "kernels/decode_score/decode_score.h"

namespace lectern::kernels::cuda {

cudaError_t ScoreWide(const DecodeScoreParams& params, int multiprocessors, cudaStream_t stream);

}  // namespace lectern::kernels::cuda
