#include <cassert>

#include "kernels/embedding/embedding.h"

namespace lectern::kernels {

void Embedding(const EmbeddingParams& p) {
  assert(p.x_stride >= p.hidden);
#pragma omp parallel for schedule(static) if (p.rows >= 64)
  for (int64_t r = 0; r < p.rows; ++r) {
    assert(p.ids[r] >= 0 && p.ids[r] < p.vocabulary);
    ConvertToFloat(p.table + p.ids[r] * p.hidden, p.hidden, p.x + r * p.x_stride);
  }
}

}  // namespace lectern::kernels
