#include <cmath>

#include "kernels/token_mass/token_mass.h"

namespace lectern::kernels {

void TokenMassReference(const TokenMassParams& p) {
  for (int32_t t = 0; t < p.tokens; ++t) {
    double mass = 0;
    for (int32_t h = 0; h < p.heads; ++h) {
      double score = 0;
      for (int32_t d = 0; d < p.dim; ++d) {
        score += double{ToFloat(p.q[h * p.q_head_stride + d])} *
                 double{ToFloat(p.k[(int64_t{d / 2} * kBlockTokens + t) * 2 + d % 2])};
      }
      mass += std::isinf(p.lse[h]) ? 0.0 : std::exp(double{p.scale} * score - double{p.lse[h]});
    }
    p.mass[t] += static_cast<float>(mass);
  }
}

}  // namespace lectern::kernels
