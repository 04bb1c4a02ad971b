#include "engine/answer/context_comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

// Looked for in each context, however many are asked for: so that the ranking does not depend on
// it.
constexpr int kWeighedSpans = 64;

}  // namespace

std::vector<std::vector<double>> ContextComparison::Scales() const {
  std::vector<std::vector<double>> scales;
  for (const Seen& seen : contexts_) scales.push_back(seen.observed.head_weights());
  const size_t heads = scales.empty() ? 0 : scales[0].size();
  for (size_t head = 0; head < heads; ++head) {
    double most = -std::numeric_limits<double>::infinity();
    for (const std::vector<double>& weights : scales) most = std::max(most, weights[head]);
    double sum = 0;
    for (const std::vector<double>& weights : scales) sum += std::exp(weights[head] - most);
    for (std::vector<double>& weights : scales) {
      weights[head] = std::exp(weights[head] - most) / sum;
    }
  }
  return scales;
}

absl::StatusOr<ContextComparison::Result> ContextComparison::Compare(
    const storage::Catalog& catalog, const storage::Generation& generation, int limit) const {
  const std::vector<std::vector<double>> scales = Scales();
  Result result;
  std::vector<FoundSpan>& spans = result.found.spans;
  for (uint32_t i = 0; i < contexts_.size(); ++i) {
    LECTERN_ASSIGN_OR_RETURN(
        const FoundSpans found,
        FindSpans(contexts_[i].observed.Blocks(scales[i]), catalog, generation, i, kWeighedSpans));
    result.ranking.push_back({.context = i,
                              .mass = found.spans.empty() ? 0 : found.spans[0].mass,
                              .coverage = contexts_[i].coverage});
    result.found.mass += found.mass;
    spans.insert(spans.end(), found.spans.begin(), found.spans.end());
  }
  std::stable_sort(spans.begin(), spans.end(),
                   [](const FoundSpan& a, const FoundSpan& b) { return a.mass > b.mass; });
  spans.resize(std::min(spans.size(), static_cast<size_t>(limit)));
  std::stable_sort(result.ranking.begin(), result.ranking.end(), [](const Rank& a, const Rank& b) {
    return a.mass != b.mass ? a.mass > b.mass : a.coverage.mean > b.coverage.mean;
  });
  return result;
}

}  // namespace lectern::engine
