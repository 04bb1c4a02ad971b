#pragma once

// rms_norm.h on a GPU (sm_80 and later): y = x / sqrt(mean(x^2) + eps) * g, fp32 throughout,
// rounded to bf16 once; g = w or 1 + w. A row's result depends on that row alone, bit for bit. It
// differs from the CPU's by the order of the sum of squares only, that is in the last bits of fp32,
// so that few numbers round to a neighbouring bf16 (the tests count them). A NaN's payload is not
// kept. Bytes 6 rows hidden, FLOPs 4 rows hidden.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/rms_norm/rms_norm.h"

struct CUstream_st;

namespace lectern::kernels {

// Pointers are device memory. Fastest where pointers are 16-byte aligned and hidden and the strides
// are multiples of 4, up to 32768 columns.
struct RmsNormCudaParams {
  const float* x;         // [..][x_stride]
  int64_t x_stride;       // >= hidden
  const int32_t* x_rows;  // [rows] which row of x each row of y is made from; null: its own
  const float* w;         // [hidden]
  Bf16* y;                // [rows][y_stride]
  int64_t y_stride;       // >= hidden
  int64_t rows;
  int64_t hidden;
  float eps;
  NormGain gain;

  bool operator==(const RmsNormCudaParams&) const = default;
};

// Launches on `stream` and returns a cudaError_t: 0, or what the launch failed with. No allocation,
// no synchronisation; may be captured in a graph.
int RmsNormCuda(const RmsNormCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
