#include "storage/info_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <mutex>

namespace lectern::storage {
namespace {

constexpr size_t kMaxLine = 2048;  // longer notes are cut

class InfoLog final : public rocksdb::Logger {
 public:
  InfoLog(std::string path, uint64_t bytes)
      : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL), path_(std::move(path)), limit_(bytes) {
    Open();
  }
  ~InfoLog() override {
    if (file_ >= 0) close(file_);
  }

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    char line[kMaxLine];
    const std::time_t now = std::time(nullptr);
    std::tm utc;
    gmtime_r(&now, &utc);
    size_t size = std::strftime(line, sizeof(line), "%Y/%m/%d-%H:%M:%S ", &utc);
    const int written = std::vsnprintf(line + size, sizeof(line) - size - 1, format, arguments);
    if (written > 0) size = std::min(size + static_cast<size_t>(written), sizeof(line) - 2);
    line[size++] = '\n';
    std::lock_guard lock(mutex_);
    if (size_ + size > limit_) Rotate();
    // What does not fit is lost: a note is not worth a failure.
    if (file_ >= 0 && write(file_, line, size) > 0) size_ += size;
  }

 private:
  void Open() {
    file_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    struct stat status;
    size_ = file_ >= 0 && fstat(file_, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
  }
  void Rotate() {
    if (file_ >= 0) close(file_);
    if (rename(path_.c_str(), (path_ + ".old").c_str()) != 0) unlink(path_.c_str());
    Open();
  }

  const std::string path_;
  const uint64_t limit_;
  std::mutex mutex_;
  int file_ = -1;      // guarded by mutex_
  uint64_t size_ = 0;  // guarded by mutex_
};

}  // namespace

std::shared_ptr<rocksdb::Logger> OpenInfoLog(const std::string& directory, uint64_t bytes) {
  mkdir(directory.c_str(), 0755);  // where it is missing; RocksDB says so if it cannot be made
  return std::make_shared<InfoLog>(directory + "/LOG", bytes);
}

}  // namespace lectern::storage
