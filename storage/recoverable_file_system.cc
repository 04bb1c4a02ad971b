#include "storage/recoverable_file_system.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <xxhash.h>

#include "storage/manifest_mark.h"
#include "storage/timed_reads.h"

namespace lectern::storage {
namespace {

using rocksdb::DataVerificationInfo;
using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSRandomAccessFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// Far longer than it takes to close the database after `held`.
constexpr std::chrono::seconds kHold(1);

IOStatus Recoverable(IOStatus status, bool retryable) {
  if (!status.IsIOError() || status.IsPathNotFound()) return status;
  IOStatus recoverable = IOStatus::IOError(status.ToString());
  recoverable.SetRetryable(retryable);
  return recoverable;
}

// 0: it is no log's name.
uint64_t LogNumber(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  uint64_t number = 0;
  if (name.ends_with(".log")) std::from_chars(name.data(), name.data() + name.size(), number);
  return number;
}

// RocksDB's own reads a file by a call that waits for the disk, and does not give away the
// descriptor with which it could be asked first whether that is necessary.
class SystemFile final : public FSRandomAccessFile {
 public:
  static IOStatus Open(const std::string& name, std::shared_ptr<SystemFile>* file) {
    const int descriptor = open(name.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return Failed("open", name);
    *file = std::shared_ptr<SystemFile>(new SystemFile(name, descriptor));
    return IOStatus::OK();
  }
  ~SystemFile() override { close(descriptor_); }

  IOStatus Read(uint64_t offset, size_t size, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    size_t done = 0;
    while (done < size) {
      const ssize_t got =
          pread(descriptor_, scratch + done, size - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Failed("read", name_);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    *result = Slice(scratch, done);
    return IOStatus::OK();
  }
  // True if all of it was in memory.
  bool ReadCached(uint64_t offset, size_t size, char* scratch) const {
    const iovec piece = {scratch, size};
    return preadv2(descriptor_, &piece, 1, static_cast<off_t>(offset), RWF_NOWAIT) ==
           static_cast<ssize_t>(size);
  }
  IOStatus Prefetch(uint64_t offset, size_t size, const IOOptions&, IODebugContext*) override {
    if (readahead(descriptor_, static_cast<off_t>(offset), size) == 0) return IOStatus::OK();
    return Failed("read ahead", name_);
  }
  void Hint(AccessPattern pattern) override {
    const int advice = pattern == kRandom       ? POSIX_FADV_RANDOM
                       : pattern == kSequential ? POSIX_FADV_SEQUENTIAL
                                                : POSIX_FADV_NORMAL;
    posix_fadvise(descriptor_, 0, 0, advice);
  }
  IOStatus InvalidateCache(size_t offset, size_t size) override {
    posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(size),
                  POSIX_FADV_DONTNEED);
    return IOStatus::OK();
  }

 private:
  SystemFile(std::string name, int descriptor) : name_(std::move(name)), descriptor_(descriptor) {}

  static IOStatus Failed(const char* doing, const std::string& name) {
    const int error = errno;
    const std::string what = std::string(doing) + " " + name;
    if (error == ENOENT) return IOStatus::PathNotFound(what, std::strerror(error));
    return IOStatus::IOError(what, std::strerror(error));
  }

  const std::string name_;
  const int descriptor_;
};

// Waits for the disk only so long.
class TimedFile final : public rocksdb::FSRandomAccessFileWrapper {
 public:
  // `system` is `file`, or null where it is another's.
  TimedFile(std::string name, std::shared_ptr<FSRandomAccessFile> file, const SystemFile* system,
            TimedReads* reads)
      : rocksdb::FSRandomAccessFileWrapper(file.get()),
        name_(std::move(name)),
        file_(std::move(file)),
        system_(system),
        reads_(reads) {}

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& options, Slice* result,
                char* scratch, IODebugContext* debug) const override {
    if (system_ != nullptr && system_->ReadCached(offset, size, scratch)) {
      *result = Slice(scratch, size);
      return IOStatus::OK();
    }
    if (reads_->patience().count() == 0 || use_direct_io()) {  // direct: an aligned buffer
      return Recoverable(file_->Read(offset, size, options, result, scratch, debug), true);
    }
    struct Answer {
      std::unique_ptr<char[]> buffer;
      Slice data;
      IOStatus status;
    };
    auto answer = std::make_shared<Answer>();
    answer->buffer = std::make_unique_for_overwrite<char[]>(size);
    const bool ended = reads_->Run([answer, file = file_, offset, size] {
      answer->status = file->Read(offset, size, IOOptions(), &answer->data, answer->buffer.get(),
                                  /*dbg=*/nullptr);
    });
    if (!ended) return TimedOut();
    std::memcpy(scratch, answer->data.data(), answer->data.size());
    *result = Slice(scratch, answer->data.size());
    return Recoverable(std::move(answer->status), true);
  }
  IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                     IODebugContext* debug) override {
    for (size_t i = 0; i < count; ++i) {
      requests[i].status = Read(requests[i].offset, requests[i].len, options, &requests[i].result,
                                requests[i].scratch, debug);
    }
    return IOStatus::OK();
  }

 private:
  IOStatus TimedOut() const {
    IOStatus status = IOStatus::IOError(
        kReadTimedOut, name_ + " after " + std::to_string(reads_->patience().count()) + " ms");
    status.SetRetryable(true);
    return status;
  }

  const std::string name_;
  const std::shared_ptr<FSRandomAccessFile> file_;
  const SystemFile* const system_;
  TimedReads* const reads_;
};

class RecoverableFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  // `log`: its number if it is a log, else 0.
  RecoverableFile(std::unique_ptr<FSWritableFile> file, uint64_t log, FileSystemState* state)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), log_(log), state_(state) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Append(data, options, debug));
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const DataVerificationInfo& info,
                  IODebugContext* debug) override {
    return Recoverable(target()->Append(data, options, info, debug));
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            IODebugContext* debug) override {
    return Recoverable(target()->PositionedAppend(data, offset, options, debug));
  }
  IOStatus PositionedAppend(const Slice& data, uint64_t offset, const IOOptions& options,
                            const DataVerificationInfo& info, IODebugContext* debug) override {
    return Recoverable(target()->PositionedAppend(data, offset, options, info, debug));
  }
  IOStatus Truncate(uint64_t size, const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Truncate(size, options, debug));
  }
  IOStatus Close(const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Close(options, debug));
  }
  IOStatus Flush(const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Flush(options, debug));
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Sync(options, debug));
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(target()->Fsync(options, debug));
  }
  IOStatus RangeSync(uint64_t offset, uint64_t size, const IOOptions& options,
                     IODebugContext* debug) override {
    return Recoverable(target()->RangeSync(offset, size, options, debug));
  }

 private:
  IOStatus Recoverable(IOStatus status) const {
    if (!status.ok()) {
      // An older one, which a flush syncs, must not take the place of the one in use.
      uint64_t broken = state_->broken_log;
      while (broken < log_ && !state_->broken_log.compare_exchange_weak(broken, log_)) {
      }
    }
    return storage::Recoverable(std::move(status), !state_->closing);
  }

  const uint64_t log_;
  FileSystemState* const state_;
};

// Appended to by one thread at a time.
class ManifestFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  ManifestFile(std::unique_ptr<FSWritableFile> file, uint64_t number, ManifestMark* mark)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), number_(number), mark_(mark) {
    XXH3_64bits_reset(checksum_.get());
  }

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    return Count(data, target()->Append(data, options, debug));
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const DataVerificationInfo& info,
                  IODebugContext* debug) override {
    return Count(data, target()->Append(data, options, info, debug));
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    return Mark(target()->Sync(options, debug));
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Mark(target()->Fsync(options, debug));
  }

 private:
  IOStatus Count(const Slice& data, IOStatus status) {
    if (status.ok()) {
      bytes_ += data.size();
      XXH3_64bits_update(checksum_.get(), data.data(), data.size());
    }
    return status;
  }
  IOStatus Mark(IOStatus status) const {
    if (!status.ok()) return status;
    const absl::Status marked = mark_->Raise(number_, bytes_, XXH3_64bits_digest(checksum_.get()));
    if (marked.ok()) return status;
    return IOStatus::IOError(std::string(marked.message()));
  }

  const uint64_t number_;
  ManifestMark* const mark_;
  uint64_t bytes_ = 0;
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> checksum_{XXH3_createState(),
                                                                           &XXH3_freeState};
};

class RecoverableDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  RecoverableDirectory(std::unique_ptr<FSDirectory> directory, FileSystemState* state)
      : rocksdb::FSDirectoryWrapper(std::move(directory)), state_(state) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Recoverable(rocksdb::FSDirectoryWrapper::Fsync(options, debug));
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions& what) override {
    return Recoverable(rocksdb::FSDirectoryWrapper::FsyncWithDirOptions(options, debug, what));
  }

 private:
  IOStatus Recoverable(IOStatus status) const {
    return storage::Recoverable(std::move(status), !state_->closing);
  }

  FileSystemState* const state_;
};

class RecoverableFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  RecoverableFileSystem(std::shared_ptr<rocksdb::FileSystem> target, FileSystemState* state,
                        ManifestMark* mark, TimedReads* reads)
      : rocksdb::FileSystemWrapper(std::move(target)), state_(state), mark_(mark), reads_(reads) {}

  const char* Name() const override { return "lectern.RecoverableFileSystem"; }

  IOStatus NewRandomAccessFile(const std::string& name, const FileOptions& options,
                               std::unique_ptr<FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    std::shared_ptr<FSRandomAccessFile> opened;
    std::shared_ptr<SystemFile> system;
    IOStatus status;
    if (target() == rocksdb::FileSystem::Default().get() && !options.use_direct_reads) {
      status = SystemFile::Open(name, &system);
      opened = system;
    } else {
      std::unique_ptr<FSRandomAccessFile> others;
      status = target()->NewRandomAccessFile(name, options, &others, debug);
      opened = std::move(others);
    }
    if (status.ok()) {
      *file = std::make_unique<TimedFile>(name, std::move(opened), system.get(), reads_);
    }
    return storage::Recoverable(std::move(status), true);
  }
  IOStatus NewWritableFile(const std::string& name, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* file, IODebugContext* debug) override {
    const uint64_t manifest = ManifestNumber(name);
    if (manifest != 0 && state_->closing) {
      ++state_->holds;
      std::this_thread::sleep_for(kHold);
    }
    if (LogNumber(name) != 0 && state_->refuse_log) {
      return Recoverable(IOStatus::IOError("the log is to be replaced"));
    }
    IOStatus status = target()->NewWritableFile(name, options, file, debug);
    if (status.ok() && manifest != 0) {
      *file = std::make_unique<ManifestFile>(std::move(*file), manifest, mark_);
    }
    return Wrap(std::move(status), name, file);
  }
  IOStatus ReopenWritableFile(const std::string& name, const FileOptions& options,
                              std::unique_ptr<FSWritableFile>* file,
                              IODebugContext* debug) override {
    return Wrap(target()->ReopenWritableFile(name, options, file, debug), name, file);
  }
  IOStatus ReuseWritableFile(const std::string& name, const std::string& old_name,
                             const FileOptions& options, std::unique_ptr<FSWritableFile>* file,
                             IODebugContext* debug) override {
    return Wrap(target()->ReuseWritableFile(name, old_name, options, file, debug), name, file);
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<FSDirectory>* directory, IODebugContext* debug) override {
    IOStatus status = target()->NewDirectory(name, options, directory, debug);
    if (status.ok())
      *directory = std::make_unique<RecoverableDirectory>(std::move(*directory), state_);
    return Recoverable(status);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    return Recoverable(target()->RenameFile(from, to, options, debug));
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    IODebugContext* debug) override {
    return Recoverable(target()->LinkFile(from, to, options, debug));
  }

 private:
  IOStatus Recoverable(IOStatus status) const {
    return storage::Recoverable(std::move(status), !state_->closing);
  }
  IOStatus Wrap(IOStatus status, const std::string& name,
                std::unique_ptr<FSWritableFile>* file) const {
    if (status.ok()) {
      *file = std::make_unique<RecoverableFile>(std::move(*file), LogNumber(name), state_);
    }
    return Recoverable(std::move(status));
  }

  FileSystemState* const state_;
  ManifestMark* const mark_;
  TimedReads* const reads_;
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> NewRecoverableFileSystem(
    std::shared_ptr<rocksdb::FileSystem> target, FileSystemState* state, ManifestMark* mark,
    TimedReads* reads) {
  return std::make_shared<RecoverableFileSystem>(std::move(target), state, mark, reads);
}

}  // namespace lectern::storage
