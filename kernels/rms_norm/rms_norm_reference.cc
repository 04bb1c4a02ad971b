#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace lectern::kernels {

void RmsNormReference(const RmsNormParams& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* x = p.x + r * p.x_stride;
    double squares = 0;
    for (int64_t c = 0; c < p.hidden; ++c) squares += double{x[c]} * x[c];
    const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(p.hidden) + p.eps);
    for (int64_t c = 0; c < p.hidden; ++c) {
      const double gain = p.gain == NormGain::kGemma ? 1.0 + p.w[c] : p.w[c];
      p.y[r * p.y_stride + c] = ToBf16(static_cast<float>(x[c] * inverse * gain));
    }
  }
}

}  // namespace lectern::kernels
