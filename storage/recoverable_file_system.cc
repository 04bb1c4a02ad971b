#include "storage/recoverable_file_system.h"

#include <charconv>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <xxhash.h>

#include "storage/manifest_mark.h"

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

// The number between `prefix` and `suffix`; 0: the name is another.
uint64_t NumberIn(std::string_view path, std::string_view prefix, std::string_view suffix) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return 0;
  name.remove_prefix(prefix.size());
  uint64_t number = 0;
  std::from_chars(name.data(), name.data() + name.size(), number);
  return number;
}

uint64_t ManifestNumber(std::string_view path) { return NumberIn(path, "MANIFEST-", ""); }
uint64_t LogNumber(std::string_view path) { return NumberIn(path, "", ".log"); }

class ReadableFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  explicit ReadableFile(std::unique_ptr<FSRandomAccessFile> file)
      : rocksdb::FSRandomAccessFileOwnerWrapper(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& options, Slice* result,
                char* scratch, IODebugContext* debug) const override {
    return Recoverable(target()->Read(offset, size, options, result, scratch, debug), true);
  }
  IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count, const IOOptions& options,
                     IODebugContext* debug) override {
    IOStatus status = target()->MultiRead(requests, count, options, debug);
    for (size_t i = 0; i < count; ++i) {
      requests[i].status = Recoverable(std::move(requests[i].status), true);
    }
    return Recoverable(std::move(status), true);
  }
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
    if (!status.ok() && log_ != 0) state_->broken_log = log_;
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
                        ManifestMark* mark)
      : rocksdb::FileSystemWrapper(std::move(target)), state_(state), mark_(mark) {}

  const char* Name() const override { return "lectern.RecoverableFileSystem"; }

  IOStatus NewRandomAccessFile(const std::string& name, const FileOptions& options,
                               std::unique_ptr<FSRandomAccessFile>* file,
                               IODebugContext* debug) override {
    IOStatus status = target()->NewRandomAccessFile(name, options, file, debug);
    if (status.ok()) *file = std::make_unique<ReadableFile>(std::move(*file));
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
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> NewRecoverableFileSystem(
    std::shared_ptr<rocksdb::FileSystem> target, FileSystemState* state, ManifestMark* mark) {
  return std::make_shared<RecoverableFileSystem>(std::move(target), state, mark);
}

}  // namespace lectern::storage
