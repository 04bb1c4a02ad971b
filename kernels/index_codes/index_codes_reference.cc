#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/index_codes/index_codes.h"

namespace lectern::kernels {

// What the codes stand for, and the bounds they keep, from the definition: entry (i, j) of a
// Hadamard matrix is -1 where i and j share an odd number of bits.
IndexCodesBound IndexCodesBoundReference(const Bf16* keys, const int8_t* codes, float scale,
                                         int32_t dim) {
  double max_k = 0, max_error = 0;
  const double shrink = 1 / std::sqrt(static_cast<double>(dim));
  for (int t = 0; t < kBlockTokens; ++t) {
    double norm = 0, error = 0;
    for (int i = 0; i < dim; ++i) {
      double rotated = 0;
      for (int j = 0; j < dim; ++j) {
        const double k = ToFloat(keys[t * dim + j]);
        rotated += std::popcount(static_cast<unsigned>(i & j)) % 2 == 0 ? k : -k;
      }
      const double e = rotated * shrink - double{scale} * codes[t * dim + i];
      norm += double{ToFloat(keys[t * dim + i])} * ToFloat(keys[t * dim + i]);
      error += e * e;
    }
    max_k = std::max(max_k, std::sqrt(norm));
    max_error = std::max(max_error, std::sqrt(error));
  }
  return {scale, static_cast<float>(max_k), static_cast<float>(max_error)};
}

}  // namespace lectern::kernels
