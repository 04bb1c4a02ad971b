// The one narrow interface below every record: an ordered map of byte strings in a few column
// families.
//
// Two implementations, one test body (tests/storage/key_value_store_test.cc): RocksDB
// (rocksdb_store.h) and an in-memory twin (memory_store.h). Nothing above this interface knows
// which one it runs on, so all record logic is written once. Keys are compared as unsigned bytes.
//
// Errors, the same for both twins, mapped in one place (rocksdb_status.cc):
//   kNotFound            the key is not there (Get, MultiGet only)
//   kDataLoss            bytes on disk are damaged; the message names file and offset where RocksDB
//   does kResourceExhausted   the disk, or the quota on it, is full: free space; writing works
//   again without a restart kUnavailable         an I/O error that may pass, or the store is
//   shutting down: retry kInternal            an I/O error that did not pass, or a call RocksDB
//   refuses: our bug
// Every member is safe to call from any number of threads, unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::storage {

// Column families. The numbers are bound into every record's checksum: never reuse or renumber one.
enum class ColumnFamily : uint8_t {
  kCatalog = 0,    // every small typed record; RocksDB's "default"
  kHash = 1,       // (tenant, block hash) -> (lineage, block)
  kIndexKeys = 2,  // index keys, one record per layer and run of blocks
  kKv = 3,         // keys and values, one record per block and layer
  kDocument = 4,   // document bytes and layout parts, in pieces of 1 MiB
};
inline constexpr int kColumnFamilyCount = 5;

// The name RocksDB knows it by: "default", "hash", "index_keys", "kv", "document".
std::string_view ColumnFamilyName(ColumnFamily family);

// kSynced: survives power loss when the call returns OK, together with everything written before it
// (the log is one). kBuffered: survives a crash of the process; power loss may take it, but never
// leaves a hole before a later survivor.
enum class Durability : uint8_t { kSynced, kBuffered };

// A value that lives as long as this object. Movable; the view stays valid across a move.
class PinnedValue {
 public:
  PinnedValue() = default;
  PinnedValue(std::string_view view, std::shared_ptr<const void> owner)
      : view_(view), owner_(std::move(owner)) {}

  std::string_view view() const { return view_; }

 private:
  std::string_view view_;
  std::shared_ptr<const void> owner_;
};

// Writes that take effect together. Later operations win over earlier ones on the same key. Not
// thread-safe.
class Batch {
 public:
  enum class Kind : uint8_t { kPut, kDelete, kDeleteRange };
  struct Operation {
    Kind kind;
    ColumnFamily family;
    std::string key;    // first key of the range for kDeleteRange
    std::string value;  // end of the range (exclusive) for kDeleteRange
  };

  void Put(ColumnFamily family, std::string key, std::string value);
  // Keys that a bulk load brought into kKv or kIndexKeys may stay to be seen until ReclaimRange has
  // taken the range they lie in: delete those by range, and look at none that nothing points to.
  void Delete(ColumnFamily family, std::string key);
  void DeleteRange(ColumnFamily family, std::string begin, std::string end);

  bool empty() const { return operations_.empty(); }
  size_t bytes() const { return bytes_; }  // keys and values
  std::span<const Operation> operations() const { return operations_; }

 private:
  std::vector<Operation> operations_;
  size_t bytes_ = 0;
};

// Walks keys of [begin, end) upwards, as they were when the cursor was made. Owned by one thread;
// must not outlive the store. Use: for (; cursor->Valid(); cursor->Next()) {...}  then return
// cursor->status().
class Cursor {
 public:
  virtual ~Cursor() = default;
  virtual bool Valid() const = 0;  // false at the end and after an error
  virtual void Next() = 0;
  virtual std::string_view key() const = 0;    // valid until Next
  virtual std::string_view value() const = 0;  // valid until Next
  virtual absl::Status status() const = 0;     // OK at the end of the range, else why it stopped
};

// Large sorted data written beside the log: files are built while Add is called and enter the store
// in one atomic, synced step. Destroyed before Commit: nothing was written. Owned by one thread;
// must not outlive the store.
class BulkLoad {
 public:
  virtual ~BulkLoad() = default;
  // Keys ascend strictly within a column family. kInvalidArgument otherwise.
  virtual absl::Status Add(ColumnFamily family, std::string_view key, std::string_view value) = 0;
  // All records of all column families become readable together and durable. At most once. After an
  // error nothing is readable, except that after kInternal/kUnavailable the outcome may be unknown
  // until the store is opened again: callers make bulk data visible by a later batch and so never
  // depend on it.
  virtual absl::Status Commit() = 0;
};

struct DiskUsage {
  // Blocks of disk that files take.
  uint64_t table_bytes = 0;    // SST files, including ones dropped but not yet unlinked
  uint64_t log_bytes = 0;      // write-ahead log
  uint64_t loading_bytes = 0;  // bulk files under construction
  uint64_t other_bytes = 0;    // manifest, options, info log
  uint64_t free_bytes = 0;     // of the file system, for an unprivileged process
  // Live table and memtable bytes per column family, estimated.
  uint64_t family_bytes[kColumnFamilyCount] = {};
  uint64_t family_table_bytes[kColumnFamilyCount] = {};  // of these, tables alone
  // Of table_bytes: tables that wait to be deleted, or are being written by a flush or compaction.
  uint64_t dropped_bytes = 0;
  // What the store may take for a while besides, however little is written: see StoreSizes.
  uint64_t headroom_bytes = 0;

  uint64_t total() const { return table_bytes + log_bytes + loading_bytes + other_bytes; }
};

// Work that the store does by itself, since it was opened.
struct BackgroundCounters {
  uint64_t flushes = 0;      // memtables written to tables
  uint64_t compactions = 0;  // rewritings of tables, by its own choice or asked for
  uint64_t outages = 0;      // times that a failed write stopped all writing
  uint64_t recoveries = 0;   // times that it went on
  uint64_t timed_out_reads = 0;
};

class KeyValueStore {
 public:
  virtual ~KeyValueStore() = default;

  virtual absl::Status Get(ColumnFamily family, std::string_view key, PinnedValue* value) const = 0;

  // One status per key, in the order of keys; values.size() == keys.size(). Not a snapshot across
  // keys.
  virtual std::vector<absl::Status> MultiGet(ColumnFamily family, std::span<const std::string> keys,
                                             std::span<PinnedValue> values) const = 0;

  // All or nothing, also across a crash. After an error nothing of it is seen; only a crash before
  // the next successful write may still bring it to light, whole.
  virtual absl::Status Write(const Batch& batch, Durability durability) = 0;

  // read_ahead: bytes to fetch ahead on a long scan of large records; 0 lets the store decide.
  virtual std::unique_ptr<Cursor> NewCursor(ColumnFamily family, std::string_view begin,
                                            std::string_view end, size_t read_ahead = 0) const = 0;

  virtual absl::StatusOr<std::unique_ptr<BulkLoad>> NewBulkLoad() = 0;

  // Gives the bytes of [begin, end) back to the file system: whole files are dropped, the rest is
  // compacted away. The keys must already be deleted and unused: this is about space, not about
  // visibility. Slow; idempotent.
  virtual absl::Status ReclaimRange(ColumnFamily family, std::string_view begin,
                                    std::string_view end) = 0;

  // Writes memtables to tables, so that the log can be dropped.
  virtual absl::Status Flush() = 0;

  // Removes from disk what was deleted from `family`: writes its tables anew without it, and with
  // Flush drops the logs that held it. Reads and writes all of the family; idempotent.
  virtual absl::Status Expunge(ColumnFamily family) = 0;

  virtual absl::StatusOr<DiskUsage> Usage() const = 0;
  virtual BackgroundCounters Background() const = 0;

  // A copy of everything as it is at one moment, in a new directory whose parent exists: what is
  // written meanwhile goes on. Files are linked where the file system is the same. Returns a
  // sequence number that the copy has reached (watermark.h). kAlreadyExists: the directory is
  // there. kFailedPrecondition: this store is in memory.
  virtual absl::StatusOr<uint64_t> Checkpoint(const std::string& directory) = 0;
};

}  // namespace lectern::storage
