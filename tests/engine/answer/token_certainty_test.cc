#include "engine/answer/token_certainty.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lectern::engine {
namespace {

TEST(TokenCertainty, OfKnownDistributions) {
  TokenCertainty certainty;
  EXPECT_EQ(certainty.rows(), 0);
  // Probabilities 1/2, 1/4, 1/4, whatever is added to all logits.
  certainty.Add(std::vector<float>{100.0f + std::log(2.0f), 100.0f, 100.0f});
  EXPECT_NEAR(certainty.Summary(false).first_probability, 0.5, 1e-6);
  EXPECT_NEAR(certainty.Summary(false).entropy, 1.5 * std::log(2), 1e-5);
  // Certain, with a token that cannot be.
  certainty.Add(std::vector<float>{-std::numeric_limits<float>::infinity(), 0.0f, -1000.0f});
  // Even among four.
  certainty.Add(std::vector<float>(4, -3.0f));
  const CoverageFeatures::Tokens all = certainty.Summary(true);
  EXPECT_EQ(certainty.rows(), 3);
  EXPECT_TRUE(all.none);
  EXPECT_NEAR(all.first_probability, 0.5, 1e-6);
  EXPECT_NEAR(all.least_probability, 0.25, 1e-12);
  EXPECT_NEAR(all.mean_log_probability, std::log(0.125) / 3, 1e-6);
  EXPECT_NEAR(all.entropy, (1.5 * std::log(2) + std::log(4)) / 3, 1e-5);
}

}  // namespace
}  // namespace lectern::engine
