#include "kernels/embedding/embedding.h"

namespace lectern::kernels {

void EmbeddingReference(const EmbeddingParams& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.hidden; ++c) {
      p.x[r * p.x_stride + c] = ToFloat(p.table[p.ids[r] * p.hidden + c]);
    }
  }
}

}  // namespace lectern::kernels
