#include "storage/rocksdb_store.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include "storage/background_listener.h"
#include "storage/fail_point.h"
#include "storage/info_log.h"
#include "storage/manifest_mark.h"
#include "storage/recoverable_file_system.h"
#include "storage/rocksdb_cursor.h"
#include "storage/rocksdb_tuning.h"
#include "storage/timed_reads.h"
#include "storage/watermark.h"
#include "storage/write_gate.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

bool Mentions(const std::string& message, int error_number) {
  return message.find(std::strerror(error_number)) != std::string::npos;
}

// A key that nothing has.
const rocksdb::Slice kNoKey("\0", 1);

// Families with bulk data; what comes to them through the log lies in a family beside.
constexpr std::array kSplitFamilies = {ColumnFamily::kIndexKeys, ColumnFamily::kKv};

struct FileSize {
  uint64_t allocated = 0;  // blocks of disk
  uint64_t length = 0;
  bool linked = false;  // under another name too
};

// All zeros if it has gone.
FileSize SizeOf(const fs::path& path) {
  constexpr uint64_t kStatBlockBytes = 512;
  struct stat file;
  if (lstat(path.c_str(), &file) != 0 || !S_ISREG(file.st_mode)) return {};
  return {static_cast<uint64_t>(file.st_blocks) * kStatBlockBytes,
          static_cast<uint64_t>(file.st_size), file.st_nlink > 1};
}

bool IsOutOfSpace(const rocksdb::Status& status) {
  return status.IsIOError() &&
         (Mentions(status.ToString(), ENOSPC) || Mentions(status.ToString(), EDQUOT));
}

}  // namespace

// The one place where RocksDB's errors become ours.
absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = fmt::format("{}: {}", doing, status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(message);
  if (IsOutOfSpace(status)) {
    return absl::ResourceExhaustedError(
        fmt::format("{}. The disk is full: free space on it or raise its quota; writing goes on "
                    "without a restart",
                    message));
  }
  if (status.subcode() == rocksdb::Status::kSpaceLimit || status.IsCompactionTooLarge()) {
    return absl::ResourceExhaustedError(fmt::format(
        "{}. The disk cap leaves no room for it: raise the cap or delete corpora", message));
  }
  if (status.IsIOError() && message.find(kReadTimedOut) != std::string::npos) {
    return absl::DeadlineExceededError(message);
  }
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsIOError()) {
    if (Mentions(message, EACCES) || Mentions(message, EROFS) || Mentions(message, EPERM)) {
      return absl::PermissionDeniedError(message);
    }
    return absl::UnavailableError(message);
  }
  if (status.IsBusy() || status.IsTimedOut() || status.IsTryAgain() || status.IsAborted() ||
      status.IsShutdownInProgress() || status.IsIncomplete()) {
    return absl::UnavailableError(message);
  }
  if (status.IsInvalidArgument()) return absl::InvalidArgumentError(message);
  return absl::InternalError(message);
}

namespace {

class RocksStore final : public KeyValueStore {
 public:
  explicit RocksStore(const RocksDbOptions& options)
      : options_(options),
        env_(rocksdb::NewCompositeEnv(NewRecoverableFileSystem(
            options.file_system != nullptr ? options.file_system : rocksdb::FileSystem::Default(),
            &files_, &manifest_mark_, &reads_))) {}

  ~RocksStore() override {
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

class RocksBulkLoad final : public BulkLoad {
 public:
  explicit RocksBulkLoad(RocksStore* store) : store_(store) {}

  ~RocksBulkLoad() override {
    for (auto& [family, table] : tables_) {
      // An unfinished writer must be closed before its file can go; the result does not matter.
      if (table.writer != nullptr) table.writer->Finish().PermitUncheckedError();
      for (const std::string& path : table.files) {
        store_->env()->DeleteFile(path).PermitUncheckedError();
      }
    }
  }

  absl::Status Add(ColumnFamily family, std::string_view key, std::string_view value) override {
    Table& table = tables_[family];
    if (table.writer != nullptr && table.writer->FileSize() >= store_->sizes().bulk_file) {
      if (absl::Status status = Finish(&table); !status.ok()) return status;
    }
    if (table.writer == nullptr) {
      if (!table.last_key.empty() && key <= table.last_key) {
        return absl::InvalidArgumentError("bulk load: keys must ascend");
      }
      if (absl::Status status = Begin(family, &table); !status.ok()) return status;
    }
    table.last_key = key;
    store_->FindHidden(family, key, &hidden_);
    return ToStatus(table.writer->Put(ToSlice(key), ToSlice(value)), "bulk load");
  }

  absl::Status Commit() override {
    std::vector<rocksdb::IngestExternalFileArg> arguments;
    for (auto& [family, table] : tables_) {
      if (absl::Status status = Finish(&table); !status.ok()) return status;
      rocksdb::IngestExternalFileArg& argument = arguments.emplace_back();
      argument.column_family = store_->BulkHandle(family);
      argument.external_files = table.files;
      argument.options = TunedIngestOptions();
    }
    if (arguments.empty()) return absl::OkStatus();
    const absl::Status status = store_->Attempt(WriteGate::Entry::kEdit, "ingest", [&] {
      return store_->db()->IngestExternalFiles(arguments);
    });
    if (!status.ok() || hidden_.empty()) return status;
    return store_->Write(hidden_, Durability::kBuffered);
  }

 private:
  struct Table {
    std::unique_ptr<rocksdb::SstFileWriter> writer;
    std::vector<std::string> files;
    std::string last_key;
  };

  absl::Status Begin(ColumnFamily family, Table* table) {
    // The pages are kept: what was just ingested is what the next question reads.
    table->writer = std::make_unique<rocksdb::SstFileWriter>(
        rocksdb::EnvOptions(), store_->FileOptions(family), store_->BulkHandle(family),
        /*invalidate_page_cache=*/false);
    table->files.push_back(store_->NextLoadFile());
    return ToStatus(table->writer->Open(table->files.back()), "open a bulk file");
  }

  static absl::Status Finish(Table* table) {
    if (table->writer == nullptr) return absl::OkStatus();
    const rocksdb::Status status = table->writer->Finish();  // syncs the file
    table->writer.reset();
    LECTERN_FAIL_POINT(kCommitBulkFileBuilt);
    return ToStatus(status, "finish a bulk file");
  }

  RocksStore* store_;
  std::map<ColumnFamily, Table> tables_;
  Batch hidden_;  // deletes what would hide a loaded key
};

absl::StatusOr<std::unique_ptr<BulkLoad>> RocksStore::NewBulkLoad() {
  return std::make_unique<RocksBulkLoad>(this);
}

absl::Status RocksStore::DropFiles(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                                   std::string_view end) {
  const rocksdb::Slice first = ToSlice(begin);
  const rocksdb::Slice last = ToSlice(end);
  return Attempt(WriteGate::Entry::kEdit, "drop files", [&] {
    return rocksdb::DeleteFilesInRange(db_.get(), family, &first, &last, /*include_end=*/false);
  });
}

absl::Status RocksStore::Compact(rocksdb::ColumnFamilyHandle* family, std::string_view begin,
                                 std::string_view end) {
  const rocksdb::Slice first = ToSlice(begin);
  const rocksdb::Slice last = ToSlice(end);
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  return Attempt(WriteGate::Entry::kCompaction, "compact",
                 [&] { return db_->CompactRange(options, family, &first, &last); });
}

absl::Status RocksStore::ReclaimRange(ColumnFamily family, std::string_view begin,
                                      std::string_view end) {
  rocksdb::ColumnFamilyHandle* const bulk = BulkHandle(family);
  rocksdb::ColumnFamilyHandle* const log = LogHandle(family);
  LECTERN_FAIL_POINT(kReclaimDropFiles);
  // Files wholly inside go without being read ...
  if (absl::Status status = DropFiles(bulk, begin, end); !status.ok()) return status;
  LECTERN_FAIL_POINT(kReclaimCompact);
  if (bulk != log) {
    // ... which is all of them, but for what stores of the first release hold in mixed files.
    auto left = NewRocksCursor(db_.get(), {bulk}, TunedReadOptions(family), begin, end);
    const bool any_left = left->Valid();
    if (!left->status().ok()) return left->status();
    left.reset();
    if (any_left) {
      rocksdb::WriteBatch mixed;
      rocksdb::Status status = mixed.DeleteRange(bulk, ToSlice(begin), ToSlice(end));
      if (!status.ok()) return ToStatus(status, "delete a range");
      absl::Status deleted = Attempt(WriteGate::Entry::kWrite, "delete a range",
                                     [&] { return db_->Write(rocksdb::WriteOptions(), &mixed); });
      if (deleted.ok()) deleted = Compact(bulk, begin, end);
      if (!deleted.ok()) return deleted;
    }
  }
  // ... and compaction takes the range's tombstone down through the rest, which removes the bytes.
  return Compact(log, begin, end);
}

absl::Status RocksStore::Expunge(ColumnFamily family) {
  if (absl::Status status = Flush(); !status.ok()) return status;
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  // The last level, too: what was deleted may lie there beside its tombstone.
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  return Attempt(WriteGate::Entry::kCompaction, "expunge",
                 [&] { return db_->CompactRange(options, LogHandle(family), nullptr, nullptr); });
}

absl::StatusOr<DiskUsage> RocksStore::Usage() const {
  DiskUsage usage;
  uint64_t table_length = 0;
  std::error_code error;
  for (fs::directory_iterator it(options_.directory, error), end; !error && it != end;
       it.increment(error)) {
    const FileSize size = SizeOf(it->path());
    const fs::path extension = it->path().extension();
    if (extension == ".sst") {
      usage.table_bytes += size.allocated;
      table_length += size.length;
    } else if (extension == ".log") {
      usage.log_bytes += size.allocated;
    } else {
      usage.other_bytes += size.allocated;
    }
  }
  if (error) {
    return absl::UnavailableError(fmt::format("list {}: {}", options_.directory, error.message()));
  }
  for (fs::directory_iterator it(options_.load_directory, error), end; !error && it != end;
       it.increment(error)) {
    // One that has entered the database is a link to a file counted there.
    const FileSize size = SizeOf(it->path());
    if (!size.linked) usage.loading_bytes += size.allocated;
  }
  struct statvfs file_system;
  if (statvfs(options_.directory.c_str(), &file_system) == 0) {
    usage.free_bytes = uint64_t{file_system.f_bavail} * file_system.f_frsize;
  }
  uint64_t rewritable = 0;
  for (int i = 0; i < kColumnFamilyCount; ++i) {
    for (rocksdb::ColumnFamilyHandle* layer : Layers(static_cast<ColumnFamily>(i))) {
      const uint64_t tables = Property(layer, rocksdb::DB::Properties::kLiveSstFilesSize);
      usage.family_table_bytes[i] += tables;
      usage.family_bytes[i] +=
          tables + Property(layer, rocksdb::DB::Properties::kCurSizeAllMemTables);
      if (layer == LogHandle(static_cast<ColumnFamily>(i))) rewritable += tables;
    }
    table_length -= std::min(table_length, usage.family_table_bytes[i]);
  }
  usage.dropped_bytes = table_length;
  // A compaction may write anew all that came through the log before the old tables go.
  usage.headroom_bytes = sizes_.Headroom() + rewritable;
  return usage;
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyValueStore>> OpenRocksDbStore(const RocksDbOptions& options) {
  auto store = std::make_unique<RocksStore>(options);
  if (absl::Status status = store->Open(); !status.ok()) return status;
  return std::unique_ptr<KeyValueStore>(std::move(store));
}

}  // namespace lectern::storage
