// How sure the model was of an answer's tokens: what a calibration reads beside coverage.
#pragma once

#include <span>

#include "engine/model/coverage_calibration.h"

namespace lectern::engine {

class TokenCertainty {
 public:
  // The logits of the next token, as the model gave them. Pass at most `probability_rows` of them.
  void Add(std::span<const float> logits);

  int rows() const { return rows_; }
  // REQUIRES: rows() > 0. `none`: the answer is "not in the documents".
  CoverageFeatures::Tokens Summary(bool none) const;

 private:
  int rows_ = 0;
  double first_log_ = 0;
  double least_log_ = 0;
  double sum_log_ = 0;
  double sum_entropy_ = 0;
};

}  // namespace lectern::engine
