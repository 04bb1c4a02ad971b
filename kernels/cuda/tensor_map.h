#pragma once

// Describes a matrix in device memory to Hopper's copy engine.

#include <cuda.h>

#include <cstdint>

namespace lectern::kernels {

// A matrix of bf16 [rows][columns], contiguous, of which boxes of box_rows x 64 columns are copied
// into shared memory with the 128-byte swizzle (kernels/cuda/hopper.h). columns: a multiple of 64;
// base: 16-byte-aligned device memory; box_rows: at most 256. Host code, a microsecond, needs no
// context of its own: the driver's entry point is found through the runtime.
CUtensorMap MatrixMap(const void* base, int64_t rows, int columns, int box_rows);

}  // namespace lectern::kernels
