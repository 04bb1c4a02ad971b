#include "engine/quota/tenant_meters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

constexpr int64_t kSecond = 1'000'000;

class TenantMetersTest : public ::testing::Test {
 protected:
  static storage::Tenant Limited(uint64_t uid, uint64_t tokens, uint64_t requests) {
    return {uid, "t", "", 0, {0, tokens, requests}};
  }

  int64_t now_ = 5 * kSecond;
  TenantMeters meters_{[this] { return now_; }};
};

TEST_F(TenantMetersTest, WithoutQuotasEverythingIsLetInAndCounted) {
  const storage::Tenant free = Limited(1, 0, 0);
  std::vector<TenantMeters::Permit> permits;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(meters_.CheckTokens(free).ok());
    absl::StatusOr<TenantMeters::Permit> permit = meters_.Enter(free);
    ASSERT_TRUE(permit.ok());
    permits.push_back(*std::move(permit));
    meters_.Charge(1, 1000);
  }
  EXPECT_EQ(meters_.Get(free).requests, 100);
  EXPECT_EQ(meters_.Get(free).tokens_total, 100'000);
  EXPECT_EQ(meters_.Get(free).tokens_available, 0);
  permits.clear();
  EXPECT_EQ(meters_.Get(free).requests, 0);
}

TEST_F(TenantMetersTest, TokensRunOutAndComeBackEvenly) {
  const storage::Tenant tenant = Limited(1, 600, 0);  // ten a second
  EXPECT_TRUE(meters_.CheckTokens(tenant).ok());
  EXPECT_EQ(meters_.Get(tenant).tokens_available, 600);
  meters_.Charge(1, 620);
  EXPECT_EQ(meters_.Get(tenant).tokens_available, -20);
  const absl::Status refused = meters_.CheckTokens(tenant);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "TOKEN_QUOTA_EXCEEDED");
  EXPECT_EQ(MetadataOf(refused).at("limit"), "600");
  EXPECT_EQ(MetadataOf(refused).at("retry_after_ms"), "2100");
  now_ += 2 * kSecond;
  EXPECT_FALSE(meters_.CheckTokens(tenant).ok());
  now_ += kSecond / 10;
  EXPECT_TRUE(meters_.CheckTokens(tenant).ok()) << "when it was said";
  now_ += 3600 * kSecond;
  EXPECT_EQ(meters_.Get(tenant).tokens_available, 600) << "and never more than a minute's worth";
}

TEST_F(TenantMetersTest, ATenantsUseIsNobodyElses) {
  const storage::Tenant a = Limited(1, 60, 1);
  const storage::Tenant b = Limited(2, 60, 1);
  ASSERT_TRUE(meters_.CheckTokens(a).ok());
  ASSERT_TRUE(meters_.CheckTokens(b).ok());
  meters_.Charge(1, 1000);
  const auto permit = meters_.Enter(a);
  ASSERT_TRUE(permit.ok());
  EXPECT_FALSE(meters_.CheckTokens(a).ok());
  EXPECT_FALSE(meters_.Enter(a).ok());
  EXPECT_TRUE(meters_.CheckTokens(b).ok());
  EXPECT_TRUE(meters_.Enter(b).ok());
}

TEST_F(TenantMetersTest, RequestsAreCountedWhileTheyLive) {
  const storage::Tenant tenant = Limited(1, 0, 2);
  absl::StatusOr<TenantMeters::Permit> one = meters_.Enter(tenant);
  absl::StatusOr<TenantMeters::Permit> two = meters_.Enter(tenant);
  ASSERT_TRUE(one.ok() && two.ok());
  const absl::Status refused = meters_.Enter(tenant).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "REQUEST_QUOTA_EXCEEDED");
  EXPECT_GT(std::stoll(MetadataOf(refused).at("retry_after_ms")), 0);
  one->reset();
  EXPECT_TRUE(meters_.Enter(tenant).ok());
  meters_.Forget(1);  // a permit of a tenant that is gone does no harm
  two->reset();
  EXPECT_EQ(meters_.Get(tenant).requests, 0);
}

TEST_F(TenantMetersTest, ADebtOutlivesAChangeOfTheQuota) {
  ASSERT_TRUE(meters_.CheckTokens(Limited(1, 600, 0)).ok());
  meters_.Charge(1, 700);
  EXPECT_FALSE(meters_.CheckTokens(Limited(1, 1200, 0)).ok());
  EXPECT_EQ(meters_.Get(Limited(1, 1200, 0)).tokens_available, -100);
  now_ += 5 * kSecond;  // twenty a second
  EXPECT_EQ(meters_.Get(Limited(1, 1200, 0)).tokens_available, 0);
  now_ += 60 * kSecond;
  EXPECT_EQ(meters_.Get(Limited(1, 60, 0)).tokens_available, 60) << "a lower one is full sooner";
}

}  // namespace
}  // namespace lectern::engine
