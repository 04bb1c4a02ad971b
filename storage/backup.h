// The files of a backup (store.h). Internal to storage.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "storage/transaction.h"

namespace lectern::storage {

absl::Status WriteBackup(StoreState* state, const std::string& directory);

}  // namespace lectern::storage
