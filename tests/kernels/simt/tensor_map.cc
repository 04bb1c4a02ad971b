#include "kernels/cuda/tensor_map.h"

namespace lectern::kernels {

CUtensorMap MatrixMap(const void* base, int64_t rows, int columns, int box_rows) {
  return {base, rows, columns, box_rows};
}

}  // namespace lectern::kernels
