#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/sampling/sampling.h"

namespace lectern::kernels {

SampledToken SampleReference(const SampleParams& p) {
  const size_t n = static_cast<size_t>(p.vocabulary);
  std::vector<double> logits(n);
  for (size_t i = 0; i < n; ++i) {
    logits[i] = std::isnan(p.logits[i]) ? -std::numeric_limits<double>::infinity() : p.logits[i];
  }
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  const double top = logits[static_cast<size_t>(order[0])];
  const auto weight = [&](int32_t id, double temperature) {
    return std::exp((logits[static_cast<size_t>(id)] - top) / temperature);
  };
  int32_t chosen = order[0];
  if (p.temperature > 0) {
    double total = 0;
    for (int32_t id : order) total += weight(id, p.temperature);
    double kept = 0;
    size_t count = 0;
    while (count < n) {
      kept += weight(order[count++], p.temperature);
      if (kept >= p.top_p * total) break;
    }
    const double target = CounterUniform(p.seed, p.counter) * kept;
    double cumulated = 0;
    for (size_t i = 0; i < count; ++i) {
      chosen = order[i];
      cumulated += weight(chosen, p.temperature);
      if (target < cumulated) break;
    }
  }
  double total = 0;
  for (int32_t id : order) total += weight(id, 1);
  return {chosen, static_cast<float>(logits[static_cast<size_t>(chosen)] - top - std::log(total))};
}

}  // namespace lectern::kernels
