// The power goes at a random write: files keep what was synced, names keep what their directory's
// sync covered. What was acknowledged is there.
#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "crash_workload.h"
#include "storage/rocksdb_store.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;
using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr int kSeeds = 6;
constexpr int64_t kMostOperations = 2500;

// What a disk would hold if the power went now. Deletions and renames count at once, which is the
// harder case for deletions; RocksDB syncs the directory after its only rename.
class Disk {
 public:
  explicit Disk(int64_t operations) : operations_left_(operations) {}

  // False once the power is gone.
  bool Operate() { return operations_left_.fetch_sub(1) > 0; }
  bool gone() const { return operations_left_.load() <= 0; }

  void Created(const std::string& name) { Set(name, {0, 0, false}); }
  void Grew(const std::string& name, uint64_t size) {
    Change(name, [&](File& f) { f.size += size; });
  }
  void Synced(const std::string& name) {
    Change(name, [&](File& f) { f.synced = f.size; });
  }
  void Deleted(const std::string& name) {
    std::lock_guard lock(mutex_);
    files_.erase(name);
  }
  void Renamed(const std::string& from, const std::string& to) { Move(from, to, true); }
  void Linked(const std::string& from, const std::string& to) { Move(from, to, false); }
  void DirectorySynced(const std::string& directory) {
    std::lock_guard lock(mutex_);
    for (auto& [name, file] : files_) {
      if (fs::path(name).parent_path() == fs::path(directory).lexically_normal()) file.named = true;
    }
  }

  // Cuts every file back to what was durable.
  void Lose() {
    std::lock_guard lock(mutex_);
    for (const auto& [name, file] : files_) {
      if (!fs::exists(name)) continue;
      if (!file.named) {
        fs::remove(name);
      } else if (file.synced < fs::file_size(name)) {
        fs::resize_file(name, file.synced);
      }
    }
  }

 private:
  struct File {
    uint64_t size = 0;
    uint64_t synced = 0;
    bool named = false;  // its directory was synced since it came
  };

  void Set(const std::string& name, File file) {
    std::lock_guard lock(mutex_);
    files_[fs::path(name).lexically_normal()] = file;
  }
  template <typename F>
  void Change(const std::string& name, const F& change) {
    std::lock_guard lock(mutex_);
    change(files_[fs::path(name).lexically_normal()]);
  }
  void Move(const std::string& from, const std::string& to, bool rename) {
    std::lock_guard lock(mutex_);
    const auto found = files_.find(fs::path(from).lexically_normal());
    if (found == files_.end()) return;
    File file = found->second;
    if (rename) {
      files_.erase(found);
    } else {
      file.named = false;
    }
    files_[fs::path(to).lexically_normal()] = file;
  }

  std::atomic<int64_t> operations_left_;
  std::mutex mutex_;
  std::map<std::string, File> files_;  // guarded by mutex_
};

IOStatus NoPower() { return IOStatus::IOError("the power is gone"); }

class DiskFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  DiskFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string name, Disk* disk)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)), name_(std::move(name)), disk_(disk) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    IOStatus status = target()->Append(data, options, debug);
    if (status.ok()) disk_->Grew(name_, data.size());
    return status;
  }
  IOStatus Append(const Slice& data, const IOOptions& options, const rocksdb::DataVerificationInfo&,
                  IODebugContext* debug) override {
    return Append(data, options, debug);
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    // What is appended while the sync runs may be missed by it.
    disk_->Synced(name_);
    return target()->Flush(options, debug);  // the bytes themselves need not reach this disk
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    return Sync(options, debug);
  }

 private:
  const std::string name_;
  Disk* const disk_;
};

class DiskDirectory final : public rocksdb::FSDirectoryWrapper {
 public:
  DiskDirectory(std::unique_ptr<rocksdb::FSDirectory> directory, std::string name, Disk* disk)
      : rocksdb::FSDirectoryWrapper(std::move(directory)), name_(std::move(name)), disk_(disk) {}

  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    disk_->DirectorySynced(name_);
    return IOStatus::OK();
  }
  IOStatus FsyncWithDirOptions(const IOOptions& options, IODebugContext* debug,
                               const rocksdb::DirFsyncOptions&) override {
    return Fsync(options, debug);
  }

 private:
  const std::string name_;
  Disk* const disk_;
};

class DiskFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit DiskFileSystem(Disk* disk)
      : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()), disk_(disk) {}

  const char* Name() const override { return "DiskFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const FileOptions& options,
                           std::unique_ptr<rocksdb::FSWritableFile>* file,
                           IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    std::unique_ptr<rocksdb::FSWritableFile> opened;
    IOStatus status = target()->NewWritableFile(name, options, &opened, debug);
    if (!status.ok()) return status;
    disk_->Created(name);
    *file = std::make_unique<DiskFile>(std::move(opened), name, disk_);
    return status;
  }
  IOStatus NewDirectory(const std::string& name, const IOOptions& options,
                        std::unique_ptr<rocksdb::FSDirectory>* directory,
                        IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSDirectory> opened;
    IOStatus status = target()->NewDirectory(name, options, &opened, debug);
    if (status.ok()) {
      *directory = std::make_unique<DiskDirectory>(std::move(opened), name, disk_);
    }
    return status;
  }
  IOStatus DeleteFile(const std::string& name, const IOOptions& options,
                      IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    disk_->Deleted(name);
    return target()->DeleteFile(name, options, debug);
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    disk_->Renamed(from, to);
    return target()->RenameFile(from, to, options, debug);
  }
  IOStatus LinkFile(const std::string& from, const std::string& to, const IOOptions& options,
                    IODebugContext* debug) override {
    if (!disk_->Operate()) return NoPower();
    disk_->Linked(from, to);
    return target()->LinkFile(from, to, options, debug);
  }

 private:
  Disk* const disk_;
};

std::unique_ptr<Store> OpenOn(const std::string& directory, Disk* disk) {
  RocksDbOptions options;
  options.directory = directory + "/db";
  options.load_directory = directory + "/load";
  options.watermark = directory + "/WATERMARK";
  if (disk != nullptr) options.file_system = std::make_shared<DiskFileSystem>(disk);
  return Must(Store::OpenOn(Must(OpenRocksDbStore(options)), StoreOptions()));
}

TEST(PowerLossTest, WhatWasAcknowledgedIsOnTheDisk) {
  std::mt19937_64 random(7);
  uint64_t commits = 0;
  for (int seed = 0; seed < kSeeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    ScratchDirectory scratch;
    Acknowledged acknowledged;
    // Twice on the same disk: the second loss meets a store that has recovered from one.
    for (int loss = 0; loss < 2; ++loss) {
      Disk disk(static_cast<int64_t>(random() % kMostOperations));
      try {
        const auto store = OpenOn(scratch.path(), &disk);
        CrashWorker(store.get(), random(), [&](const std::string& line) {
          acknowledged.Add(line);
        }).Run();
      } catch (const std::runtime_error& error) {
        ASSERT_TRUE(disk.gone()) << error.what();
      }
      disk.Lose();
      ExpectAcknowledged(OpenOn(scratch.path(), nullptr).get(), acknowledged);
      ExpectNoOrphans(scratch.path());
    }
    commits += acknowledged.committed_tokens.size();
  }
  EXPECT_GT(commits, 0u);
}

}  // namespace
}  // namespace lectern::storage
