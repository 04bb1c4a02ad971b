#include "engine/quota/tenant_meters.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

constexpr double kMicrosPerMinute = 60e6;
// When a place may be free again nobody knows; soon enough to try, late enough not to hammer.
constexpr int64_t kRequestRetryMs = 1000;

}  // namespace

int64_t SteadyMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

TenantMeters::Meter& TenantMeters::Refill(uint64_t tenant_uid) {
  Meter& meter = meters_[tenant_uid];
  const int64_t now = clock_us_();
  if (meter.rate > 0) {
    const double rate = static_cast<double>(meter.rate);
    const double minutes = static_cast<double>(now - meter.time_us) / kMicrosPerMinute;
    meter.tokens = std::min(rate, meter.tokens + rate * minutes);
  }
  meter.time_us = now;
  return meter;
}

TenantMeters::Meter& TenantMeters::Refill(const storage::Tenant& tenant) {
  Meter& meter = Refill(tenant.uid);
  const auto rate = static_cast<int64_t>(
      std::min<uint64_t>(tenant.quota.tokens_per_minute, std::numeric_limits<int64_t>::max()));
  if (rate == meter.rate) return meter;
  // A new quota begins with a full bucket; a changed one keeps what is there, or owed.
  meter.tokens = meter.rate == 0 ? static_cast<double>(rate)
                                 : std::min(meter.tokens, static_cast<double>(rate));
  meter.rate = rate;
  return meter;
}

absl::Status TenantMeters::CheckTokens(const storage::Tenant& tenant) {
  if (tenant.quota.tokens_per_minute == 0) return absl::OkStatus();
  const std::lock_guard lock(mutex_);
  const Meter& meter = Refill(tenant);
  if (meter.tokens >= 1) return absl::OkStatus();
  const double rate = static_cast<double>(meter.rate);
  const double wait_ms = std::ceil((1 - meter.tokens) / rate * kMicrosPerMinute / 1000);
  return Error(absl::StatusCode::kResourceExhausted, "TOKEN_QUOTA_EXCEEDED",
               fmt::format("the tenant has used its {} tokens a minute; there are some again in "
                           "{:.1f} s",
                           meter.rate, wait_ms / 1000),
               {{"limit", std::to_string(meter.rate)},
                {"retry_after_ms", std::to_string(static_cast<int64_t>(wait_ms))}});
}

void TenantMeters::Charge(uint64_t tenant_uid, int64_t tokens) {
  const std::lock_guard lock(mutex_);
  Meter& meter = Refill(tenant_uid);
  meter.tokens_total += tokens;
  if (meter.rate > 0) meter.tokens -= static_cast<double>(tokens);
}

absl::StatusOr<TenantMeters::Permit> TenantMeters::Enter(const storage::Tenant& tenant) {
  const std::lock_guard lock(mutex_);
  Meter& meter = Refill(tenant);
  const uint64_t limit = tenant.quota.concurrent_requests;
  if (limit > 0 && static_cast<uint64_t>(meter.requests) >= limit) {
    return Error(
        absl::StatusCode::kResourceExhausted, "REQUEST_QUOTA_EXCEEDED",
        fmt::format("the tenant has {} questions and uploads in progress, which is its "
                    "limit; wait for one to end",
                    meter.requests),
        {{"limit", std::to_string(limit)}, {"retry_after_ms", std::to_string(kRequestRetryMs)}});
  }
  ++meter.requests;
  // The pointer means nothing; its end does.
  return Permit(this, [uid = tenant.uid](void* meters) {
    auto* self = static_cast<TenantMeters*>(meters);
    const std::lock_guard lock(self->mutex_);
    if (const auto found = self->meters_.find(uid); found != self->meters_.end()) {
      --found->second.requests;
    }
  });
}

TenantMeters::Usage TenantMeters::Get(const storage::Tenant& tenant) {
  const std::lock_guard lock(mutex_);
  const Meter& meter = Refill(tenant);
  return {.requests = meter.requests,
          .tokens_available = meter.rate > 0 ? static_cast<int64_t>(std::floor(meter.tokens)) : 0,
          .tokens_total = meter.tokens_total};
}

void TenantMeters::Forget(uint64_t tenant_uid) {
  const std::lock_guard lock(mutex_);
  meters_.erase(tenant_uid);
}

}  // namespace lectern::engine
