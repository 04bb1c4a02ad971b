#include <array>
#include <cassert>
#include <cmath>

#include "kernels/token_mass/token_mass.h"

namespace lectern::kernels {

void TokenMass(const TokenMassParams& p) {
  assert(p.dim % 2 == 0 && p.dim <= kMaxHeadDim && p.tokens >= 0 && p.tokens <= kBlockTokens);
  for (int32_t h = 0; h < p.heads; ++h) {
    if (std::isinf(p.lse[h])) continue;
    // Dim pairs outside, tokens inside: the tile's order, which the compiler turns into vector
    // code.
    std::array<float, kBlockTokens> score{};
    for (int32_t pair = 0; pair < p.dim / 2; ++pair) {
      const float q0 = ToFloat(p.q[h * p.q_head_stride + 2 * pair]);
      const float q1 = ToFloat(p.q[h * p.q_head_stride + 2 * pair + 1]);
      const Bf16* k = p.k + int64_t{pair} * kBlockTokens * 2;
      for (int32_t t = 0; t < p.tokens; ++t)
        score[t] += q0 * ToFloat(k[2 * t]) + q1 * ToFloat(k[2 * t + 1]);
    }
    for (int32_t t = 0; t < p.tokens; ++t) p.mass[t] += std::exp(p.scale * score[t] - p.lse[h]);
  }
}

}  // namespace lectern::kernels
