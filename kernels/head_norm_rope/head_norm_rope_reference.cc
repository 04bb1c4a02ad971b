#include <cmath>
#include <vector>

#include "kernels/head_norm_rope/head_norm_rope.h"

namespace lectern::kernels {

void HeadNormRopeReference(const HeadNormRopeParams& p) {
  const int half = p.rotary_dim / 2;
  std::vector<double> n(static_cast<size_t>(p.dim));
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int h = 0; h < p.heads; ++h) {
      const float* x = p.x + r * p.x_stride + int64_t{h} * p.dim;
      const int64_t out = r * p.y_stride + int64_t{h} * p.dim;
      double inverse = 1;
      if (p.w != nullptr) {
        double squares = 0;
        for (int i = 0; i < p.dim; ++i) squares += double{x[i]} * x[i];
        inverse = 1.0 / std::sqrt(squares / p.dim + p.eps);
      }
      for (int i = 0; i < p.dim; ++i) {
        double gain = 1;
        if (p.w != nullptr) gain = p.gain == NormGain::kGemma ? 1.0 + p.w[i] : p.w[i];
        n[i] = x[i] * inverse * gain;
      }
      for (int i = 0; i < half; ++i) {
        const double c = p.cos[r * half + i], s = p.sin[r * half + i];
        const double a = n[i], b = n[i + half];
        n[i] = a * c - b * s;
        n[i + half] = b * c + a * s;
      }
      for (int i = 0; i < p.dim; ++i) {
        if (p.y != nullptr) p.y[out + i] = ToBf16(static_cast<float>(n[i]));
        if (p.y_f32 != nullptr) p.y_f32[out + i] = static_cast<float>(n[i]);
      }
    }
  }
}

}  // namespace lectern::kernels
