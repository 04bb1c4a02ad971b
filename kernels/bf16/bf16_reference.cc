#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

void ConvertRowsToBf16Reference(const ConvertRowsParams& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.cols; ++c) p.y[r * p.y_stride + c] = ToBf16(p.x[r * p.x_stride + c]);
  }
}

}  // namespace lectern::kernels
