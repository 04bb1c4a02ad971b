// Between RocksDB's types and ours. Internal to storage.
#pragma once

#include <string_view>

#include <rocksdb/slice.h>
#include <rocksdb/status.h>

#include "absl/status/status.h"

namespace lectern::storage {

inline rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

// Whether the message has the text of this errno: as packaged, RocksDB keeps no number.
bool Mentions(std::string_view message, int error_number);

// The one place where RocksDB's errors become ours.
absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing);

}  // namespace lectern::storage
