#include "kernels/sampling/sampling.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Sample, GreedyTakesTheLowerIdOfATieAndPassesOverNan) {
  const float logits[] = {kNan, 1, 3, 3, -kInfinity};
  const SampledToken token = Sample({logits, 5});
  EXPECT_EQ(token.id, 2);
  EXPECT_NEAR(token.log_probability, -std::log(2 + std::exp(-2.0)), 1e-6);
  const float one[] = {-5};
  EXPECT_EQ(Sample({one, 1}).id, 0);
  EXPECT_FLOAT_EQ(Sample({one, 1}).log_probability, 0);
}

TEST(Sample, MatchesTheReference) {
  for (int vocabulary : {1, 2, 100, 8192}) {
    const auto logits = testing::NormalFloats(vocabulary, 11, 3);
    for (float temperature : {0.0f, 0.05f, 0.7f, 1.0f, 5.0f}) {
      for (float top_p : {0.01f, 0.5f, 0.95f, 1.0f}) {
        for (uint64_t counter = 0; counter < 8; ++counter) {
          const SampleParams p{logits.data(), vocabulary, temperature, top_p, 42, counter};
          const SampledToken want = SampleReference(p), got = Sample(p);
          ASSERT_EQ(want.id, got.id) << vocabulary << " " << temperature << " " << top_p;
          ASSERT_NEAR(want.log_probability, got.log_probability, 1e-5);
        }
      }
    }
  }
}

TEST(Sample, FrequenciesFollowTheProbabilitiesInsideTheNucleus) {
  const float logits[] = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  std::map<int, int> seen;
  constexpr int kDraws = 20000;
  for (uint64_t i = 0; i < kDraws; ++i) ++seen[Sample({logits, 4, 1.0f, 0.75f, 5, i}).id];
  EXPECT_NEAR(seen[0] / double{kDraws}, 0.5 / 0.8, 0.015);
  EXPECT_NEAR(seen[1] / double{kDraws}, 0.3 / 0.8, 0.015);
  EXPECT_EQ(seen[2] + seen[3], 0);
}

TEST(Sample, OnlySeedAndCounterMatter) {
  const auto logits = testing::NormalFloats(1000, 1);
  const SampleParams a{logits.data(), 1000, 1.0f, 1.0f, 1, 1};
  const int32_t first = Sample(a).id;
  EXPECT_EQ(Sample(a).id, first);
  std::map<int32_t, int> ids;
  for (uint64_t c = 0; c < 50; ++c) ++ids[Sample({logits.data(), 1000, 1.0f, 1.0f, 1, c}).id];
  EXPECT_GT(ids.size(), 20u);
}

TEST(Sample, NothingButMinusInfinityStillAnswers) {
  const float logits[] = {-kInfinity, kNan, -kInfinity};
  EXPECT_EQ(Sample({logits, 3, 1.0f}).id, 0);
}

}  // namespace
}  // namespace lectern::kernels
