#pragma once

// Of the CUDA driver's header, what the kernels' headers name; for the GPU of the tests.

#include <cstdint>

struct CUtensorMap {
  const void* base;
  int64_t rows;
  int columns, box_rows;
};
