// Cursors over RocksDB's iterators. Internal to storage.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <rocksdb/db.h>

#include "storage/key_value_store.h"

namespace lectern::storage {

// [begin, end) of one or several of RocksDB's families as one: where two have the same key, the
// earlier one's value is shown.
std::unique_ptr<Cursor> NewRocksCursor(rocksdb::DB* db,
                                       const std::vector<rocksdb::ColumnFamilyHandle*>& layers,
                                       const rocksdb::ReadOptions& options, std::string_view begin,
                                       std::string_view end);

}  // namespace lectern::storage
