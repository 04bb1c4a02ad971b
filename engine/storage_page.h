// Pages of lists as callers ask for them, for storage.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/types.h"
#include "storage/catalog_types.h"

namespace lectern::engine {

// ARGUMENT_OUT_OF_RANGE for a page size that the API does not allow.
absl::StatusOr<storage::PageRequest> StoragePage(const PageRequest& page);

// What a list call of storage failed with; a bad token, the one thing that can be wrong with the
// request, is BAD_PAGE_TOKEN.
absl::Status PageError(const absl::Status& status);

}  // namespace lectern::engine
