// KeyValueStore over RocksDB 7.8. Tuning, with a reason for each constant, is in rocksdb_tuning.cc.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "storage/key_value_store.h"

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace lectern::storage {

struct RocksDbOptions {
  std::string directory;       // of the database; created if its parent exists
  std::string load_directory;  // bulk files under construction; same file system; emptied at open
  std::string watermark;       // file that witnesses how far writes were acknowledged; empty: none
  std::string manifest_mark;   // file that witnesses how far the manifest was synced; empty: none
  bool direct_reads = false;   // bypass the page cache for tables: honest cold reads
  // A read of a table that takes longer is given up: kDeadlineExceeded, and nothing else waits for
  // it. 0: none is. Writes are waited for as long as they take.
  std::chrono::milliseconds read_timeout{30'000};
  // Bytes that the directory is meant to stay under; 0: no limit. Buffers, log and files are sized
  // by it. Whoever writes asks first whether there is room (Usage).
  uint64_t disk_cap = 0;
  // Null: the system's. Tests pass one that runs out of space, loses unsynced bytes or fails.
  std::shared_ptr<rocksdb::FileSystem> file_system;
};

// Opens or creates. kFailedPrecondition: another process holds it, or a newer program wrote it.
// kDataLoss: damaged. kPermissionDenied: the directory cannot be written.
//
// After kResourceExhausted the store keeps serving reads, and writing works again once space has
// returned.
absl::StatusOr<std::unique_ptr<KeyValueStore>> OpenRocksDbStore(const RocksDbOptions& options);

}  // namespace lectern::storage
