#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/decode_dense/decode_dense.h"

namespace lectern::kernels {

void DecodeDenseReference(const DecodeDenseParams& p) {
  for (int64_t i = 0; i < int64_t{p.rows} * p.groups * p.heads; ++i) {
    const int64_t group = i / p.heads % p.groups, row = i / p.heads / p.groups;
    const int32_t* pages = p.pages + row * p.pages_stride;
    const int tokens = p.positions[row] + 1;
    auto at = [&](int token) {
      const int64_t page = pages[token / kBlockTokens];
      return ((page * p.groups + group) * kBlockTokens + token % kBlockTokens) * p.dim;
    };
    std::vector<double> logits(static_cast<size_t>(tokens));
    double top = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int t = 0; t < tokens; ++t) {
      double dot = 0;
      for (int d = 0; d < p.dim; ++d)
        dot += double{ToFloat(p.q[i * p.dim + d])} * ToFloat(p.k[at(t) + d]);
      logits[static_cast<size_t>(t)] = dot * p.scale;
      top = std::max(top, dot * p.scale);
    }
    for (double logit : logits) sum += std::exp(logit - top);
    for (int d = 0; d < p.dim; ++d) {
      double out = 0;
      for (int t = 0; t < tokens; ++t)
        out += std::exp(logits[static_cast<size_t>(t)] - top) * ToFloat(p.v[at(t) + d]);
      p.out[i * p.dim + d] = ToBf16(static_cast<float>(out / sum));
    }
    if (p.lse != nullptr) p.lse[i] = static_cast<float>(top + std::log(sum));
  }
}

}  // namespace lectern::kernels
