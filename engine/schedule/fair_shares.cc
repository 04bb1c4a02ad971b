#include "engine/schedule/fair_shares.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace lectern::engine {
namespace {

// Of virtual time per token at weight 1: weights up to kMaxTenantWeight still tell single tokens
// apart.
constexpr int64_t kTimePerToken = 1 << 20;

}  // namespace

int64_t FairShares::Now() const {
  int64_t now = std::numeric_limits<int64_t>::max();
  for (const auto& [tenant, account] : accounts_) {
    if (account.runs > 0) now = std::min(now, account.time);
  }
  return now == std::numeric_limits<int64_t>::max() ? 0 : now;
}

void FairShares::Enter(uint64_t tenant) {
  const int64_t now = Now();
  Account& account = accounts_[tenant];
  if (account.runs++ == 0) account.time = std::max(account.time, now);
}

void FairShares::Leave(uint64_t tenant) {
  const auto left = accounts_.find(tenant);
  assert(left != accounts_.end() && left->second.runs > 0);
  if (--left->second.runs > 0) return;
  const bool anybody = std::any_of(accounts_.begin(), accounts_.end(),
                                   [](const auto& one) { return one.second.runs > 0; });
  // Who is away is remembered as long as it is ahead of those who are here: coming and going gains
  // nothing. With nobody here there is nobody to be ahead of.
  const int64_t now = Now();
  std::erase_if(accounts_, [&](const auto& one) {
    return !anybody || (one.second.runs == 0 && one.second.time <= now);
  });
}

void FairShares::Charge(uint64_t tenant, int32_t weight, int64_t tokens) {
  const auto account = accounts_.find(tenant);
  assert(account != accounts_.end() && account->second.runs > 0);
  assert(weight >= 1 && weight <= kMaxTenantWeight);
  account->second.time += tokens * kTimePerToken / weight;
}

int64_t FairShares::Time(uint64_t tenant) const {
  const auto account = accounts_.find(tenant);
  assert(account != accounts_.end());
  return account->second.time;
}

}  // namespace lectern::engine
