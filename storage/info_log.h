// RocksDB's own notes for post-mortems, in db/LOG. RocksDB writes them by the same code as its
// data, and Debian's build (assertions on) ends the process at the note that follows one that did
// not fit on a full disk. These are written aside, and lost where they cannot be written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <rocksdb/env.h>

namespace lectern::storage {

// Appends to `directory`/LOG; past `bytes` it becomes LOG.old, and a new one is begun. Thread-safe.
std::shared_ptr<rocksdb::Logger> OpenInfoLog(const std::string& directory, uint64_t bytes);

}  // namespace lectern::storage
