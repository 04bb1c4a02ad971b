#include "engine/schedule/fair_shares.h"

#include <gtest/gtest.h>

#include <map>

namespace lectern::engine {
namespace {

// Which of two tenants goes next.
uint64_t Next(const FairShares& shares, uint64_t a, uint64_t b) {
  return shares.Time(b) < shares.Time(a) ? b : a;
}

TEST(FairSharesTest, TokensFollowTheWeights) {
  FairShares shares;
  shares.Enter(1);
  shares.Enter(2);
  const std::map<uint64_t, int32_t> weights = {{1, 1}, {2, 3}};
  std::map<uint64_t, int64_t> got;
  for (int i = 0; i < 4000; ++i) {
    const uint64_t tenant = Next(shares, 1, 2);
    const int64_t tokens = 1 + (i * 37) % 100;  // of any size
    shares.Charge(tenant, weights.at(tenant), tokens);
    got[tenant] += tokens;
    // By weight never further apart than one grant of each.
    EXPECT_NEAR(got[1], got[2] / 3.0, 200) << i;
  }
  EXPECT_NEAR(static_cast<double>(got[2]) / static_cast<double>(got[1]), 3, 0.02);
}

TEST(FairSharesTest, ComingBackSavesUpNothing) {
  FairShares shares;
  shares.Enter(1);
  shares.Charge(1, 1, 1'000'000);
  shares.Enter(2);  // was away all the time
  EXPECT_EQ(shares.Time(2), shares.Time(1)) << "no million tokens to catch up on";
}

TEST(FairSharesTest, ComingAndGoingGainsNothing) {
  FairShares shares;
  shares.Enter(1);
  shares.Enter(2);
  shares.Charge(1, 1, 500);
  const int64_t ahead = shares.Time(1);
  shares.Leave(1);
  shares.Enter(1);
  EXPECT_EQ(shares.Time(1), ahead);
  EXPECT_EQ(Next(shares, 1, 2), 2u);
}

TEST(FairSharesTest, WithNobodyHereAllIsForgotten) {
  FairShares shares;
  shares.Enter(1);
  shares.Charge(1, 1, 500);
  shares.Leave(1);
  shares.Enter(2);
  shares.Enter(1);
  EXPECT_EQ(shares.Time(1), shares.Time(2));
}

}  // namespace
}  // namespace lectern::engine
