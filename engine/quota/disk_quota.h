// A tenant's bytes on disk against its quota.
#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog.h"

namespace lectern::engine {

// Bytes that the tenant may still store: its quota less what it has (storage::TenantUsage), at
// least 0; nothing if it has no quota, and then nothing is measured.
absl::StatusOr<std::optional<int64_t>> DiskQuotaLeft(const storage::Catalog& catalog,
                                                     const storage::Tenant& tenant);

// RESOURCE_EXHAUSTED DISK_QUOTA_EXCEEDED (bytes, used, limit) unless `bytes` fit into `left`.
absl::Status CheckDiskQuota(const storage::Tenant& tenant, std::optional<int64_t> left,
                            int64_t bytes);

}  // namespace lectern::engine
