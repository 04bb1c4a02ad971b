#include <cmath>

#include "kernels/swiglu/swiglu.h"

namespace lectern::kernels {

void SwiGluReference(const SwiGluParams& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.cols; ++c) {
      const double g = p.gate[r * p.stride + c];
      const double silu = g / (1.0 + std::exp(-g));
      p.y[r * p.y_stride + c] = ToBf16(static_cast<float>(silu * p.up[r * p.stride + c]));
    }
  }
}

}  // namespace lectern::kernels
