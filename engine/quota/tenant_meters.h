// What each tenant uses now, held against its quotas: a bucket of tokens that refills evenly, and
// the requests that wait or run. Nothing here is stored: a restart begins with full buckets.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog_types.h"

namespace lectern::engine {

// Microseconds of a clock that never goes back.
int64_t SteadyMicros();

class TenantMeters {
 public:
  explicit TenantMeters(std::function<int64_t()> clock_us = SteadyMicros)
      : clock_us_(std::move(clock_us)) {}
  TenantMeters(const TenantMeters&) = delete;
  TenantMeters& operator=(const TenantMeters&) = delete;

  // Whether the tenant has tokens left: work is let in while it has, and charged as it is done.
  // RESOURCE_EXHAUSTED TOKEN_QUOTA_EXCEEDED (limit, retry_after_ms: until there is one token
  // again).
  absl::Status CheckTokens(const storage::Tenant& tenant);
  void Charge(uint64_t tenant_uid, int64_t tokens);

  // Counts a request for as long as the permit lives, which must not outlive the meters.
  // RESOURCE_EXHAUSTED REQUEST_QUOTA_EXCEEDED (limit, retry_after_ms).
  using Permit = std::shared_ptr<void>;
  absl::StatusOr<Permit> Enter(const storage::Tenant& tenant);

  struct Usage {
    int64_t requests = 0;
    int64_t tokens_available = 0;  // 0 without a quota
    int64_t tokens_total = 0;
  };
  Usage Get(const storage::Tenant& tenant);
  // Of a tenant that is gone.
  void Forget(uint64_t tenant_uid);

 private:
  struct Meter {
    int64_t requests = 0;
    int64_t tokens_total = 0;
    int64_t rate = 0;     // tokens per minute, as last seen; 0: none
    double tokens = 0;    // in the bucket
    int64_t time_us = 0;  // of `tokens`
  };

  // The tenant's meter with its bucket as it is now, under mutex_.
  Meter& Refill(uint64_t tenant_uid);
  Meter& Refill(const storage::Tenant& tenant);

  const std::function<int64_t()> clock_us_;
  std::mutex mutex_;
  std::map<uint64_t, Meter> meters_;
};

}  // namespace lectern::engine
