#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/decode_score/decode_score.h"

namespace lectern::kernels {

void DecodeScoreReference(const DecodeScoreParams& p) {
  for (int i = 0; i < p.num_spans; ++i) {
    const DecodeSpan span = p.spans != nullptr ? p.spans[i]
                                               : DecodeSpan{i * p.span_rows, p.span_rows, i, 0,
                                                            std::numeric_limits<int32_t>::max()};
    for (int r = 0; r < span.rows * p.heads; ++r) {
      const int row = span.first_row + r / p.heads;
      const int end = std::min(span.end_block, p.positions[row] / kBlockTokens);
      const Bf16* q = p.q + (int64_t{row} * p.heads + r % p.heads) * p.dim;
      float* out = p.scores + (int64_t{row} * p.heads + r % p.heads) * p.scores_stride;
      for (int block = span.first_block; block < end; ++block) {
        const int64_t page = p.pages[span.request * p.pages_stride + block];
        double best = -std::numeric_limits<double>::infinity();
        for (int token = 0; token < kBlockTokens; ++token) {
          const Bf16* key = p.keys + (page * kBlockTokens + token) * p.dim;
          double dot = 0;
          for (int d = 0; d < p.dim; ++d) dot += double{ToFloat(q[d])} * ToFloat(key[d]);
          if (dot > best) best = dot;  // a NaN is not larger than anything
        }
        out[block] = static_cast<float>(best);
      }
    }
  }
}

}  // namespace lectern::kernels
