#include "engine/quota/disk_quota.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

int64_t LimitOf(const storage::Tenant& tenant) {
  return static_cast<int64_t>(
      std::min<uint64_t>(tenant.quota.disk_bytes, std::numeric_limits<int64_t>::max()));
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> DiskQuotaLeft(const storage::Catalog& catalog,
                                                     const storage::Tenant& tenant) {
  if (tenant.quota.disk_bytes == 0) return std::optional<int64_t>();
  absl::StatusOr<storage::TenantUsage> usage = catalog.MeasureTenant(tenant.uid);
  if (!usage.ok()) return usage.status();
  const auto used = static_cast<int64_t>(usage->document_bytes + usage->cache_bytes);
  return std::optional<int64_t>(std::max<int64_t>(0, LimitOf(tenant) - used));
}

absl::Status CheckDiskQuota(const storage::Tenant& tenant, std::optional<int64_t> left,
                            int64_t bytes) {
  if (!left.has_value() || bytes <= *left) return absl::OkStatus();
  const int64_t limit = LimitOf(tenant);
  return Error(
      absl::StatusCode::kResourceExhausted, "DISK_QUOTA_EXCEEDED",
      fmt::format("{} more bytes do not fit into the tenant's disk quota of {}, of which {} "
                  "are used: delete corpora or documents, or ask for a larger quota",
                  bytes, limit, limit - *left),
      {{"bytes", std::to_string(bytes)},
       {"used", std::to_string(limit - *left)},
       {"limit", std::to_string(limit)}});
}

}  // namespace lectern::engine
