#include "kernels/rope/rope_table.h"

#include <cassert>
#include <cmath>
#include <vector>

namespace lectern::kernels {

void FillRopeTable(const RopeTableParams& p) {
  assert(p.rotary_dim > 0 && p.rotary_dim % 2 == 0);
  const int pairs = p.rotary_dim / 2;
  std::vector<double> frequency(static_cast<size_t>(pairs));
  for (int i = 0; i < pairs; ++i) {
    frequency[static_cast<size_t>(i)] = std::pow(p.theta, -2.0 * i / p.rotary_dim);
  }
#pragma omp parallel for schedule(static) if (p.rows >= 32)
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int i = 0; i < pairs; ++i) {
      const double angle = p.positions[r] * frequency[static_cast<size_t>(i)];
      p.cos[r * pairs + i] = static_cast<float>(std::cos(angle));
      p.sin[r * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace lectern::kernels
