#include "kernels/sampling/sampling.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

namespace lectern::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float Logit(const SampleParams& p, int32_t id) {
  const float x = p.logits[id];
  return x == x ? x : kNever;
}

int32_t ArgMax(const SampleParams& p) {
  int32_t best = 0;
  float best_logit = Logit(p, 0);
  for (int32_t i = 1; i < p.vocabulary; ++i) {
    const float x = Logit(p, i);
    if (x > best_logit) {
      best = i;
      best_logit = x;
    }
  }
  return best;
}

struct Candidate {
  int32_t id;
  float logit;
  double weight;
};

bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Ranks only as many candidates as the mass asks for: the sorted front grows fourfold until it
// holds top_p of the total.
int32_t Draw(const SampleParams& p, float top) {
  std::vector<Candidate> all(static_cast<size_t>(p.vocabulary));
  double total = 0;
  for (int32_t i = 0; i < p.vocabulary; ++i) {
    const float logit = Logit(p, i);
    const double weight = std::exp((double{logit} - top) / p.temperature);
    all[static_cast<size_t>(i)] = {i, logit, weight};
  }
  // In rank order the sum is the reference's; rounding of the total matters only where top_p cuts
  // within 1e-16.
  for (const Candidate& c : all) total += c.weight;
  const double wanted = p.top_p * total;
  size_t sorted = 0, count = 0;
  double kept = 0;
  while (count < all.size()) {
    if (count == sorted) {
      const size_t next = std::min(all.size(), std::max<size_t>(64, sorted * 4));
      const auto from = all.begin() + static_cast<int64_t>(sorted);
      std::partial_sort(from, all.begin() + static_cast<int64_t>(next), all.end(), Before);
      sorted = next;
    }
    kept += all[count++].weight;
    if (kept >= wanted) break;
  }
  const double target = CounterUniform(p.seed, p.counter) * kept;
  double cumulated = 0;
  for (size_t i = 0; i < count; ++i) {
    cumulated += all[i].weight;
    if (target < cumulated) return all[i].id;
  }
  return all[count - 1].id;
}

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace

double CounterUniform(uint64_t seed, uint64_t counter) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  const uint64_t bits = Mix(Mix(seed + kGolden) + (counter + 1) * kGolden);
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

SampledToken Sample(const SampleParams& p) {
  assert(p.vocabulary > 0 && p.temperature >= 0 && p.top_p > 0 && p.top_p <= 1);
  const int32_t best = ArgMax(p);
  const float top = Logit(p, best);
  if (top == kNever) return {best, std::numeric_limits<float>::quiet_NaN()};
  const int32_t id = p.temperature > 0 ? Draw(p, top) : best;
  double total = 0;
  for (int32_t i = 0; i < p.vocabulary; ++i) total += std::exp(double{Logit(p, i)} - top);
  return {id, static_cast<float>(double{Logit(p, id)} - top - std::log(total))};
}

}  // namespace lectern::kernels
