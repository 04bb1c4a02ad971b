// KeyValueStore over RocksDB (rocksdb_store.h). Split over files by what it does: rocksdb_store.cc
// (opening, reading, writing, recovering), rocksdb_bulk_load.cc, rocksdb_space.cc (what it takes on
// disk, and giving that back). Internal to storage.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include "storage/background_listener.h"
#include "storage/key_value_store.h"
#include "storage/manifest_mark.h"
#include "storage/recoverable_file_system.h"
#include "storage/rocksdb_cursor.h"
#include "storage/rocksdb_status.h"
#include "storage/rocksdb_store.h"
#include "storage/rocksdb_tuning.h"
#include "storage/timed_reads.h"
#include "storage/watermark.h"
#include "storage/write_gate.h"

namespace lectern::storage {

// Families with bulk data; what comes to them through the log lies in a family beside.
inline constexpr std::array kSplitFamilies = {ColumnFamily::kIndexKeys, ColumnFamily::kKv};

class RocksStore final : public KeyValueStore {
 public:
  explicit RocksStore(const RocksDbOptions& options);
  ~RocksStore() override;

  absl::Status Open();

  absl::Status Get(ColumnFamily family, std::string_view key, PinnedValue* value) const override {
    auto pinned = std::make_shared<rocksdb::PinnableSlice>();
    rocksdb::Status status;
    for (rocksdb::ColumnFamilyHandle* layer : Layers(family)) {
      pinned->Reset();
      status = db_->Get(TunedReadOptions(family), layer, ToSlice(key), pinned.get());
      if (!status.IsNotFound()) break;
    }
    if (!status.ok()) return ToStatus(status, "get");
    const std::string_view view = ToView(*pinned);
    *value = PinnedValue(view, std::move(pinned));
    return absl::OkStatus();
  }

  std::vector<absl::Status> MultiGet(ColumnFamily family, std::span<const std::string> keys,
                                     std::span<PinnedValue> values) const override;

  absl::Status Write(const Batch& batch, Durability durability) override;

  std::unique_ptr<Cursor> NewCursor(ColumnFamily family, std::string_view begin,
                                    std::string_view end, size_t read_ahead) const override {
    rocksdb::ReadOptions options = TunedReadOptions(family);
    options.readahead_size = read_ahead;
    return NewRocksCursor(db_.get(), Layers(family), options, begin, end);
  }

  absl::StatusOr<std::unique_ptr<BulkLoad>> NewBulkLoad() override;

  absl::Status ReclaimRange(ColumnFamily family, std::string_view begin,
                            std::string_view end) override;

  absl::Status Flush() override {
    const std::vector<rocksdb::ColumnFamilyHandle*> all(handles_.begin(), handles_.end());
    return Attempt(WriteGate::Entry::kWrite, "flush",
                   [&] { return db_->Flush(rocksdb::FlushOptions(), all); });
  }

  absl::Status Expunge(ColumnFamily family) override;

  absl::StatusOr<DiskUsage> Usage() const override;
  BackgroundCounters Background() const override {
    BackgroundCounters counters = background_->Counters();
    counters.timed_out_reads = reads_.timed_out();
    return counters;
  }
  absl::StatusOr<uint64_t> Checkpoint(const std::string& directory) override;

  // Runs a write; where the store stopped writing (disk full, I/O error), waits a bounded time for
  // it to recover and tries once more. Repeating is safe: every write of ours sets the same keys to
  // the same values.
  template <typename Operation>
  absl::Status Attempt(WriteGate::Entry entry, std::string_view doing, const Operation& operation) {
    constexpr int kAttempts = 2;
    rocksdb::Status status;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      status = gate_.Enter(entry);
      if (!status.ok()) break;
      status = operation();
      const bool failed = status.IsIOError();
      const bool edit = entry == WriteGate::Entry::kEdit;
      if (failed && edit) db_->DisableFileDeletions();  // see MendManifest
      gate_.Leave(entry);
      if (!failed) break;
      if (edit) MendManifest();
    }
    return ToStatus(status, doing);
  }

  rocksdb::DB* db() const { return db_.get(); }
  rocksdb::Env* env() const { return env_.get(); }
  const StoreSizes& sizes() const { return sizes_; }
  // What is bulk loaded lies in the family of its name, and what comes through the log, for the two
  // families that have bulk data, in one beside it. A small record between large files would have
  // all of them rewritten with it, and space for twice the data while that lasts; as it is, bulk
  // files are never compacted, and a deleted range drops whole files.
  rocksdb::ColumnFamilyHandle* BulkHandle(ColumnFamily family) const {
    return handles_[static_cast<size_t>(family)];
  }
  rocksdb::ColumnFamilyHandle* LogHandle(ColumnFamily family) const {
    for (size_t i = 0; i < kSplitFamilies.size(); ++i) {
      if (kSplitFamilies[i] == family) return handles_[kColumnFamilyCount + i];
    }
    return BulkHandle(family);
  }
  // Where a key may be, in the order in which they hide one another.
  std::vector<rocksdb::ColumnFamilyHandle*> Layers(ColumnFamily family) const {
    if (LogHandle(family) == BulkHandle(family)) return {BulkHandle(family)};
    return {LogHandle(family), BulkHandle(family)};
  }
  rocksdb::Options FileOptions(ColumnFamily family) const {
    rocksdb::Options options(TunedDbOptions(sizes_, /*direct_reads=*/false),
                             TunedFamilyOptions(family, sizes_, block_cache_));
    options.env = env();
    return options;
  }
  // Adds the deletion of `key` if the log has it, where it would hide a bulk loaded one.
  void FindHidden(ColumnFamily family, std::string_view key, Batch* hidden) const {
    if (LogHandle(family) == BulkHandle(family)) return;
    rocksdb::PinnableSlice ignored;
    if (!db_->Get(TunedReadOptions(family), LogHandle(family), ToSlice(key), &ignored).ok()) return;
    hidden->Delete(family, std::string(key));
  }
  std::string NextLoadFile() {
    return fmt::format("{}/{:06}.sst", options_.load_directory, next_load_file_++);
  }

 private:
  absl::Status EmptyLoadDirectory();
  absl::Status DropFiles(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                         std::string_view end);
  absl::Status Compact(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                       std::string_view end);
  uint64_t Property(rocksdb::ColumnFamilyHandle* family, const std::string& name) const {
    uint64_t value = 0;
    db_->GetIntProperty(family, name, &value);
    return value;
  }
  rocksdb::Status WriteNothing(bool to_log);
  rocksdb::Status AfterRecovery();
  rocksdb::Status RecoverAnew();
  void MendManifest();
  uint64_t LogNumber() const;

  const RocksDbOptions options_;
  FileSystemState files_;
  ManifestMark manifest_mark_{options_.manifest_mark};
  TimedReads reads_{options_.read_timeout};
  const StoreSizes sizes_ = SizesFor(options_.disk_cap);
  const std::unique_ptr<rocksdb::Env> env_;
  std::shared_ptr<rocksdb::Cache> block_cache_ = NewBlockCache();
  WriteGate gate_{[this] { return AfterRecovery(); }, [this] { return RecoverAnew(); }};
  const std::shared_ptr<BackgroundListener> background_ =
      std::make_shared<BackgroundListener>(&gate_);
  std::unique_ptr<Watermark> watermark_;  // may be null
  std::unique_ptr<rocksdb::DB> db_;
  // By ColumnFamily, then those beside kSplitFamilies.
  std::array<rocksdb::ColumnFamilyHandle*, kColumnFamilyCount + kSplitFamilies.size()> handles_ =
      {};
  std::atomic<uint64_t> next_load_file_ = 0;
};

}  // namespace lectern::storage
