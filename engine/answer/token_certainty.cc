#include "engine/answer/token_certainty.h"

#include <algorithm>
#include <cmath>

#include "engine/error/check.h"

namespace lectern::engine {

void TokenCertainty::Add(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  // With w = exp(logit - top): ln p = logit - top - ln sum w, entropy = ln sum w - sum w (logit -
  // top) / sum w.
  double sum = 0, weighted = 0;
  for (const float logit : logits) {
    const double below = logit - top;
    const double weight = std::exp(below);
    sum += weight;
    if (weight > 0) weighted += weight * below;
  }
  const double best_log = -std::log(sum);
  if (rows_ == 0) first_log_ = best_log;
  least_log_ = rows_ == 0 ? best_log : std::min(least_log_, best_log);
  sum_log_ += best_log;
  sum_entropy_ += std::log(sum) - weighted / sum;
  ++rows_;
}

CoverageFeatures::Tokens TokenCertainty::Summary(bool none) const {
  LECTERN_CHECK(rows_ > 0);
  return {.first_probability = std::exp(first_log_),
          .least_probability = std::exp(least_log_),
          .mean_log_probability = sum_log_ / rows_,
          .entropy = sum_entropy_ / rows_,
          .none = none};
}

}  // namespace lectern::engine
