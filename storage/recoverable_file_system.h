// A file system whose errors RocksDB recovers from by itself. As packaged, RocksDB takes
// a failed write of the log (EIO, EDQUOT) for fatal until it is opened again, and after ENOSPC
// polls every five seconds. It may resume because resuming writes what memory holds to new files
// and trusts none that failed. Internal to storage.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace rocksdb {
class FileSystem;
}  // namespace rocksdb

namespace lectern::storage {

class ManifestMark;
class TimedReads;

// In the text of the error of a read that `reads` gave up.
inline constexpr char kReadTimedOut[] = "The disk did not answer: a read timed out";

// What the store and its file system tell each other.
struct FileSystemState {
  // Set by the store: write errors are final from now on, so that a recovery under way ends. One
  // that goes on all the same, since RocksDB remembers an earlier error of its manifest, is held
  // for a moment with the next manifest that it makes: if RocksDB is closed then, it ends.
  std::atomic<bool> closing = false;
  std::atomic<int> holds = 0;  // begun
  // Set by the store: the next log cannot be made.
  std::atomic<bool> refuse_log = false;
  // The newest log that something failed on; 0: none.
  std::atomic<uint64_t> broken_log = 0;
};

// Every error of a read, write, sync, rename or link of `target` becomes a retryable I/O error with
// the same text. (Reads: a compaction that cannot read would end all writing.) Syncing a manifest
// raises `mark`, and fails where that fails. What is read of tables and is not in memory goes
// through `reads`. All must outlive the file system.
std::shared_ptr<rocksdb::FileSystem> NewRecoverableFileSystem(
    std::shared_ptr<rocksdb::FileSystem> target, FileSystemState* state, ManifestMark* mark,
    TimedReads* reads);

}  // namespace lectern::storage
