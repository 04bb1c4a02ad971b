#pragma once

// swiglu.h on a GPU (sm_80 and later): y = silu(gate) * up in fp32, rounded to bf16 once; gate and
// up are the halves of one fused projection. It differs from the CPU's by the rounding of exp only:
// before the last rounding by less than 1e-5 of itself while gate is above -87, where exp is a
// normal number. A NaN's payload is not kept. Bytes 10 rows cols.

#include <cstdint>

#include "kernels/bf16/bf16.h"

struct CUstream_st;

namespace lectern::kernels {

// Pointers are device memory.
struct SwiGluCudaParams {
  const float* gate_up;  // [rows][2 * cols], gate first, 16-byte aligned
  Bf16* y;               // [rows][cols], 16-byte aligned
  int64_t rows;
  int64_t cols;  // whole vectors are moved where it is a multiple of 8

  bool operator==(const SwiGluCudaParams&) const = default;
};

// Launches on `stream` and returns a cudaError_t: 0, or what the launch failed with. No allocation,
// no synchronisation; may be captured in a graph.
int SwiGluCuda(const SwiGluCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
