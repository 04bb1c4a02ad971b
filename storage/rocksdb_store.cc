#include "storage/rocksdb_store.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <filesystem>

#include <fmt/format.h>
#include <rocksdb/convenience.h>
#include <rocksdb/file_system.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include "storage/fail_point.h"
#include "storage/info_log.h"
#include "storage/rocks_store.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

// A key that nothing has.
const rocksdb::Slice kNoKey("\0", 1);

}  // namespace

RocksStore::RocksStore(const RocksDbOptions& options)
    : options_(options),
      env_(rocksdb::NewCompositeEnv(NewRecoverableFileSystem(
          options.file_system != nullptr ? options.file_system : rocksdb::FileSystem::Default(),
          &files_, &manifest_mark_, &reads_))) {}

RocksStore::~RocksStore() {
  if (db_ == nullptr) return;
  // What can be flushed is flushed here, since a flush of RocksDB's own that fails while it
  // closes makes it wait for ever; so does a recovery that is still under way.
  Flush().IgnoreError();
  files_.closing = true;
  rocksdb::CancelAllBackgroundWork(db_.get(), /*wait=*/true);
  gate_.AwaitRecovery(files_.holds);
  for (rocksdb::ColumnFamilyHandle* handle : handles_) {
    if (handle != nullptr) db_->DestroyColumnFamilyHandle(handle);
  }
  db_->Close();
}

uint64_t RocksStore::LogNumber() const {
  std::unique_ptr<rocksdb::LogFile> log;
  return db_->GetCurrentWalFile(&log).ok() ? log->LogNumber() : 0;
}

// A deletion of no key: it makes a memtable that is not empty.
rocksdb::Status RocksStore::WriteNothing(bool to_log) {
  rocksdb::WriteOptions options;
  options.disableWAL = !to_log;
  return db_->Delete(options, LogHandle(ColumnFamily::kCatalog), kNoKey);
}

// RocksDB may have come to an end with the log that failed still in use: where there was nothing to
// flush, or where a flush had failed before the log did. The next write to it would end the process
// by an assertion.
rocksdb::Status RocksStore::AfterRecovery() {
  const bool in_use = files_.broken_log != 0 && LogNumber() == files_.broken_log;
  return in_use ? RecoverAnew() : rocksdb::Status::OK();
}

// Has the automatic recovery begin, also where it gave up (two errors at once can make it), with
// something to flush and a log to replace: by a new log that cannot be made.
rocksdb::Status RocksStore::RecoverAnew() {
  // Only clears the error where the recovery gave up; what else it leaves behind (write_gate.h) the
  // automatic one removes.
  rocksdb::Status status = db_->Resume();
  if (!status.ok()) return status.IsBusy() ? status : rocksdb::Status::Aborted(status.ToString());
  // From here on: a write may make a new log as well, where the one that failed is full.
  files_.refuse_log = true;
  status = WriteNothing(/*to_log=*/false);
  // A log that was never written to is not replaced.
  if (status.ok() && LogNumber() != files_.broken_log) status = WriteNothing(/*to_log=*/true);
  if (status.ok()) {
    status = db_->Flush(rocksdb::FlushOptions(), LogHandle(ColumnFamily::kCatalog));
  }
  files_.refuse_log = false;
  return status.ok() ? rocksdb::Status::IOError("no recovery could be begun") : status;
}

// After an edit that failed, the manifest waits to be begun anew, which the next edit does.
// RocksDB's recovery from another error that comes before asserts that it knows of this one, by
// file deletions being disabled; so they are, and a flush makes the next edit: it mends the
// manifest, or fails in a way that RocksDB recovers from, enabling deletions.
void RocksStore::MendManifest() {
  if (!gate_.Enter(WriteGate::Entry::kWrite).ok()) return;
  rocksdb::Status status = WriteNothing(/*to_log=*/false);
  if (status.ok()) {
    status = db_->Flush(rocksdb::FlushOptions(), LogHandle(ColumnFamily::kCatalog));
  }
  gate_.Leave(WriteGate::Entry::kWrite);
  if (status.ok()) db_->EnableFileDeletions(/*force=*/false);
}

absl::Status RocksStore::EmptyLoadDirectory() {
  rocksdb::Env* const env = env_.get();
  if (rocksdb::Status status = env->CreateDirIfMissing(options_.load_directory); !status.ok()) {
    return ToStatus(status, fmt::format("make {}", options_.load_directory));
  }
  std::vector<std::string> names;
  if (rocksdb::Status status = env->GetChildren(options_.load_directory, &names); !status.ok()) {
    return ToStatus(status, fmt::format("list {}", options_.load_directory));
  }
  for (const std::string& name : names) {
    if (!name.ends_with(".sst")) continue;
    const std::string path = options_.load_directory + "/" + name;
    if (rocksdb::Status status = env->DeleteFile(path); !status.ok()) {
      return ToStatus(status, fmt::format("delete {}", path));
    }
  }
  return absl::OkStatus();
}

absl::Status RocksStore::Open() {
  if (absl::Status status = EmptyLoadDirectory(); !status.ok()) return status;
  LECTERN_FAIL_POINT(kOpenLoadEmptied);
  rocksdb::DBOptions db_options = TunedDbOptions(sizes_, options_.direct_reads);
  db_options.env = env();
  if (options_.disk_cap > 0) {
    // Space that is allocated ahead would count against the cap, and hold nothing.
    db_options.allow_fallocate = false;
  }
  db_options.info_log = OpenInfoLog(options_.directory, sizes_.info_log);
  if (absl::Status status = manifest_mark_.Open(); !status.ok()) return status;
  const absl::StatusOr<uint64_t> cut = manifest_mark_.Apply(options_.directory);
  if (!cut.ok()) return cut.status();
  if (*cut > 0) {
    rocksdb::Warn(db_options.info_log.get(),
                  "%" PRIu64 " bytes at the end of the manifest were never synced: cut off", *cut);
  }
  db_options.listeners.push_back(background_);
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (int i = 0; i < kColumnFamilyCount; ++i) {
    const auto family = static_cast<ColumnFamily>(i);
    descriptors.emplace_back(std::string(ColumnFamilyName(family)),
                             TunedFamilyOptions(family, sizes_, block_cache_));
  }
  for (const ColumnFamily family : kSplitFamilies) {
    descriptors.emplace_back(fmt::format("{}_log", ColumnFamilyName(family)),
                             TunedFamilyOptions(family, sizes_, block_cache_));
  }
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(db_options, options_.directory, descriptors, &handles, &db);
  if (!status.ok()) {
    const std::string doing = fmt::format("open {}", options_.directory);
    if (status.IsInvalidArgument() && status.ToString().find("not opened") != std::string::npos) {
      return absl::FailedPreconditionError(fmt::format(
          "{}: {}. It was written by a newer Lectern; use that one", doing, status.ToString()));
    }
    if (status.IsIOError() && status.ToString().find("lock") != std::string::npos) {
      return absl::FailedPreconditionError(
          fmt::format("{}: another process has it open ({})", doing, status.ToString()));
    }
    if (status.IsIOError() && Mentions(status.ToString(), ENOENT)) {
      return absl::DataLossError(
          fmt::format("{}: a file of the database is gone ({}): restore it from a backup", doing,
                      status.ToString()));
    }
    return ToStatus(status, doing);
  }
  db_.reset(db);
  std::copy(handles.begin(), handles.end(), handles_.begin());
  LECTERN_FAIL_POINT(kOpenDatabaseOpened);
  if (options_.watermark.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<Watermark>> watermark = Watermark::Open(options_.watermark);
  if (!watermark.ok()) return watermark.status();
  watermark_ = *std::move(watermark);
  return watermark_->Check(db_->GetLatestSequenceNumber());
}

std::vector<absl::Status> RocksStore::MultiGet(ColumnFamily family,
                                               std::span<const std::string> keys,
                                               std::span<PinnedValue> values) const {
  std::vector<rocksdb::Slice> slices;
  slices.reserve(keys.size());
  for (const std::string& key : keys) slices.push_back(ToSlice(key));
  auto pinned = std::make_shared<std::vector<rocksdb::PinnableSlice>>(keys.size());
  std::vector<rocksdb::Status> found(keys.size());
  std::vector<absl::Status> statuses;
  statuses.reserve(keys.size());
  if (LogHandle(family) != BulkHandle(family)) {
    for (size_t i = 0; i < keys.size(); ++i) statuses.push_back(Get(family, keys[i], &values[i]));
    return statuses;
  }
  db_->MultiGet(TunedReadOptions(family), BulkHandle(family), keys.size(), slices.data(),
                pinned->data(), found.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (found[i].ok()) values[i] = PinnedValue(ToView((*pinned)[i]), pinned);
    statuses.push_back(ToStatus(found[i], "get"));
  }
  return statuses;
}

absl::Status RocksStore::Write(const Batch& batch, Durability durability) {
  LECTERN_FAIL_POINT(kLogWrite);
  constexpr size_t kBytesPerOperation = 16;  // tag, family and lengths
  rocksdb::WriteBatch write(batch.bytes() + batch.operations().size() * kBytesPerOperation);
  for (const Batch::Operation& operation : batch.operations()) {
    rocksdb::ColumnFamilyHandle* const handle = LogHandle(operation.family);
    rocksdb::Status status;
    switch (operation.kind) {
      case Batch::Kind::kPut:
        status = write.Put(handle, operation.key, operation.value);
        break;
      case Batch::Kind::kDelete:
        status = write.Delete(handle, operation.key);
        break;
      case Batch::Kind::kDeleteRange:
        status = write.DeleteRange(handle, operation.key, operation.value);
        break;
    }
    if (!status.ok()) return ToStatus(status, "compose a batch");
  }
  rocksdb::WriteOptions options;
  options.sync = durability == Durability::kSynced;
  // Everything up to here is in the log before this batch, and is synced with it.
  const uint64_t sequence_before = db_->GetLatestSequenceNumber();
  absl::Status status =
      Attempt(WriteGate::Entry::kWrite, "write", [&] { return db_->Write(options, &write); });
  if (status.ok() && options.sync && watermark_ != nullptr) {
    LECTERN_KILL_POINT(kLogWritten);
    watermark_->Raise(sequence_before + batch.operations().size());
    LECTERN_KILL_POINT(kWatermarkRaised);
  }
  return status;
}

absl::StatusOr<uint64_t> RocksStore::Checkpoint(const std::string& directory) {
  std::error_code error;
  if (fs::exists(directory, error)) {
    return absl::AlreadyExistsError(fmt::format("{} exists already", directory));
  }
  // Acknowledged before the copy begins, so it is in the copy.
  const uint64_t sequence = db_->GetLatestSequenceNumber();
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(db_.get(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  if (status.ok()) status = gate_.Enter(WriteGate::Entry::kWrite);
  if (status.ok()) {
    status = checkpoint->CreateCheckpoint(directory);
    gate_.Leave(WriteGate::Entry::kWrite);
  }
  if (!status.ok()) return ToStatus(status, fmt::format("copy to {}", directory));
  return sequence;
}

absl::StatusOr<std::unique_ptr<KeyValueStore>> OpenRocksDbStore(const RocksDbOptions& options) {
  auto store = std::make_unique<RocksStore>(options);
  if (absl::Status status = store->Open(); !status.ok()) return status;
  return std::unique_ptr<KeyValueStore>(std::move(store));
}

}  // namespace lectern::storage
