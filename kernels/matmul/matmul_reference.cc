#include "kernels/matmul/matmul.h"

namespace lectern::kernels {
namespace {

float Product(const Bf16* x, const Bf16* w, int64_t k) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) sum += double{ToFloat(x[i])} * ToFloat(w[i]);
  return static_cast<float>(sum);
}

void Multiply(const PackedMatrix& w, const Bf16* x, int64_t x_stride, float* y, int64_t y_stride,
              int64_t rows, MatmulStore store) {
  for (int64_t r = 0; r < rows; ++r) {
    int64_t column = 0;
    for (const WeightRows& segment : w.segments()) {
      for (int64_t n = 0; n < segment.rows; ++n, ++column) {
        const float value = Product(x + r * x_stride, segment.weights + n * w.k(), w.k());
        float& out = y[r * y_stride + column];
        out = store == MatmulStore::kAdd ? out + value : value;
      }
    }
  }
}

}  // namespace

void MatmulTilesReference(const PackedMatrix& w, const MatmulTilesParams& p) {
  Multiply(w, p.x, w.k(), p.y, p.y_stride, p.tiles * kMatmulTileRows, p.store);
}

void MatVecReference(const PackedMatrix& w, const MatVecParams& p) {
  Multiply(w, p.x, p.x_stride, p.y, p.y_stride, p.rows, p.store);
}

}  // namespace lectern::kernels
