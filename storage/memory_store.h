// The in-memory twin of RocksDB: the same contract without durability. For tests and for a server
// without a data directory.
#pragma once

#include <memory>

#include "storage/key_value_store.h"

namespace lectern::storage {

// Cursors copy references to the values of their range when made, so a scan sees one moment.
std::unique_ptr<KeyValueStore> NewMemoryStore();

}  // namespace lectern::storage
