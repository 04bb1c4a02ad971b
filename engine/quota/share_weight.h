// How much of what tenants compete for goes to each, against the others' weights.
#pragma once

#include <cstdint>

#include "storage/catalog_types.h"

namespace lectern::engine {

inline constexpr int32_t kMaxTenantWeight = 1000;

// 1 to kMaxTenantWeight.
inline int32_t ShareWeight(const storage::Tenant& tenant) {
  return tenant.quota.weight == 0 ? 1 : static_cast<int32_t>(tenant.quota.weight);
}

}  // namespace lectern::engine
