// What the database takes on disk, and giving back what was deleted.
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>

#include <rocksdb/convenience.h>
#include <rocksdb/write_batch.h>

#include "storage/fail_point.h"
#include "storage/rocks_store.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

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

}  // namespace

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

}  // namespace lectern::storage
