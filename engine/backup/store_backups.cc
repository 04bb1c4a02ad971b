#include "engine/backup/store_backups.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;
constexpr std::string_view kPartialPrefix = ".partial-";
// Without it a directory is no store: the last file of a backup.
constexpr char kFormat[] = "FORMAT";
constexpr char kLock[] = "LOCK";

absl::Status SystemFailure(int error_number, std::string_view doing, const fs::path& path) {
  const std::string message =
      fmt::format("{} {}: {}", doing, path.string(), std::strerror(error_number));
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return Error(absl::StatusCode::kResourceExhausted, "BACKUP_DISK_FULL",
                   fmt::format("{}: free space there, and begin the backup again", message));
    case EACCES:
    case EPERM:
    case EROFS:
      return Error(absl::StatusCode::kPermissionDenied, "BACKUP_DIR_FORBIDDEN",
                   fmt::format("{}: give the server write access to it", message));
    default:
      return Error(absl::StatusCode::kUnavailable, "BACKUP_FAILED", message);
  }
}

class File {
 public:
  File(const fs::path& path, int flags) : number_(open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  ~File() {
    if (number_ >= 0) close(number_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

absl::Status Sync(const fs::path& path) {
  const File file(path, O_RDONLY);
  if (file.number() < 0 || fsync(file.number()) != 0) return SystemFailure(errno, "sync", path);
  return absl::OkStatus();
}

struct FoundFile {
  fs::path path;  // below the root
  int64_t bytes = 0;
};

// Regular files below `root`, and how much they hold.
absl::StatusOr<std::vector<FoundFile>> FilesBelow(const fs::path& root) {
  std::vector<FoundFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_regular_file(error)) continue;
    files.push_back({fs::relative(it->path(), root), static_cast<int64_t>(it->file_size(error))});
  }
  if (error) return SystemFailure(error.value(), "list", root);
  std::sort(files.begin(), files.end(),
            [](const FoundFile& a, const FoundFile& b) { return a.path < b.path; });
  return files;
}

absl::Status NotFound(std::string_view id) {
  return Error(absl::StatusCode::kNotFound, "BACKUP_NOT_FOUND",
               fmt::format("there is no backup \"{}\"", id));
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreBackups>> StoreBackups::Open(const Surroundings& surroundings) {
  std::unique_ptr<StoreBackups> backups(new StoreBackups(surroundings));
  if (!surroundings.directory.empty()) {
    std::error_code error;
    fs::create_directory(surroundings.directory, error);
    const bool usable = fs::is_directory(surroundings.directory, error) &&
                        access(surroundings.directory.c_str(), W_OK) == 0;
    if (!usable) {
      return InvalidArgument(
          "OPTION_INVALID",
          fmt::format("--backup_dir: {} is no directory that this user can write to",
                      surroundings.directory),
          {{"option", "backup_dir"}});
    }
  }
  backups->RemoveLeftovers();
  return backups;
}

StoreBackups::~StoreBackups() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

absl::Status StoreBackups::CheckEnabled() const {
  if (!around_.directory.empty()) return absl::OkStatus();
  return Error(absl::StatusCode::kFailedPrecondition, "BACKUP_DIR_MISSING",
               "this server was started without --backup_dir, the directory that backups go to",
               {{"flag", "backup_dir"}});
}

std::string StoreBackups::Partial(std::string_view id) const {
  return fmt::format("{}/{}{}-{}", around_.directory, kPartialPrefix, around_.store->store_id(),
                     id);
}

void StoreBackups::RemoveLeftovers() {
  std::error_code ignored;
  if (!around_.staging.empty()) fs::remove_all(around_.staging, ignored);
  if (around_.directory.empty()) return;
  // Several servers may share the directory: only what is this store's goes.
  const std::string prefix = fs::path(Partial("")).filename();
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (fs::directory_iterator it(around_.directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with(prefix)) leftovers.push_back(it->path());
  }
  for (const fs::path& leftover : leftovers) fs::remove_all(leftover, ignored);
}

std::map<std::string, Backup> StoreBackups::Known() const {
  std::map<std::string, Backup> known;
  std::error_code error;
  for (fs::directory_iterator it(around_.directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string id = it->path().filename();
    struct stat format;
    if (id.starts_with('.') || stat((it->path() / kFormat).c_str(), &format) != 0) continue;
    Backup& backup = known[id];
    backup = {.id = id, .state = BackupState::kComplete, .directory = it->path()};
    if (const auto files = FilesBelow(it->path()); files.ok()) {
      for (const FoundFile& file : *files) backup.bytes_total += file.bytes;
    }
    backup.bytes_done = backup.bytes_total;
    backup.end_time_us = format.st_mtim.tv_sec * 1'000'000 + format.st_mtim.tv_nsec / 1000;
    backup.create_time_us = backup.end_time_us;
  }
  for (const auto& [id, backup] : own_) {
    // A complete one whose files somebody has removed is gone.
    if (backup.state != BackupState::kComplete || known.contains(id)) known[id] = backup;
  }
  return known;
}

absl::StatusOr<Backup> StoreBackups::Create(std::string_view id) {
  LECTERN_RETURN_IF_ERROR(CheckEnabled());
  const std::lock_guard lock(mutex_);
  if (!running_.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "BACKUP_RUNNING",
                 fmt::format("backup \"{}\" is running: wait for it, or cancel it", running_),
                 {{"backup", running_}});
  }
  const int64_t now = around_.clock_us();
  std::string name(id);
  if (name.empty()) name = fmt::format("{:%Y%m%d-%H%M%S}", fmt::gmtime(now / 1'000'000));
  const fs::path target = fs::path(around_.directory) / name;
  std::error_code error;
  if (fs::exists(target, error)) {
    return Error(absl::StatusCode::kAlreadyExists, "BACKUP_EXISTS",
                 fmt::format("{} exists already: choose another id", target.string()));
  }
  if (thread_.joinable()) thread_.join();
  own_[name] = {.id = name,
                .state = BackupState::kRunning,
                .create_time_us = now,
                .directory = target.string()};
  running_ = name;
  cancelled_ = false;
  thread_ = std::thread([this, name] { Run(name); });
  return own_[name];
}

absl::StatusOr<Backup> StoreBackups::Get(std::string_view id) {
  LECTERN_RETURN_IF_ERROR(CheckEnabled());
  const std::lock_guard lock(mutex_);
  // One that is not complete is known here alone: who waits for it need not list every directory.
  const auto own = own_.find(std::string(id));
  if (own != own_.end() && own->second.state != BackupState::kComplete) return own->second;
  const std::map<std::string, Backup> known = Known();
  const auto found = known.find(std::string(id));
  if (found == known.end()) return NotFound(id);
  return found->second;
}

absl::StatusOr<Page<Backup>> StoreBackups::List(const PageRequest& page) {
  LECTERN_RETURN_IF_ERROR(CheckEnabled());
  if (page.page_size < 0 || page.page_size > kMaxPageSize) {
    return InvalidArgument(
        "ARGUMENT_OUT_OF_RANGE",
        fmt::format("page_size is {}: it may be 0 to {}", page.page_size, kMaxPageSize),
        {{"field", "page_size"}, {"limit", fmt::to_string(kMaxPageSize)}});
  }
  const auto size = static_cast<size_t>(page.page_size == 0 ? kDefaultPageSize : page.page_size);
  const std::lock_guard lock(mutex_);
  const std::map<std::string, Backup> known = Known();
  // The token is the id that the page before ended with, so that it stays valid whatever goes.
  Page<Backup> result;
  auto next = known.upper_bound(page.page_token);
  for (; next != known.end() && result.items.size() < size; ++next) {
    result.items.push_back(next->second);
  }
  if (next != known.end()) result.next_page_token = result.items.back().id;
  return result;
}

absl::StatusOr<Backup> StoreBackups::Cancel(std::string_view id) {
  LECTERN_RETURN_IF_ERROR(CheckEnabled());
  {
    std::unique_lock lock(mutex_);
    if (running_ == id) {
      cancelled_ = true;
      changed_.notify_all();
      changed_.wait(lock, [&] { return running_ != id; });
    }
  }
  return Get(id);
}

void StoreBackups::Run(const std::string& id) {
  const absl::Status status = Copy(id);
  std::error_code ignored;
  fs::remove_all(around_.staging, ignored);
  if (!status.ok()) fs::remove_all(Partial(id), ignored);
  const std::lock_guard lock(mutex_);
  Backup& backup = own_[id];
  backup.state = status.ok()                 ? BackupState::kComplete
                 : absl::IsCancelled(status) ? BackupState::kCancelled
                                             : BackupState::kFailed;
  backup.error = status;
  backup.end_time_us = around_.clock_us();
  running_.clear();
  changed_.notify_all();
}

absl::Status StoreBackups::Copy(const std::string& id) {
  copied_bytes_ = 0;
  LECTERN_RETURN_IF_ERROR(Account(0));
  if (const absl::Status status = around_.store->Backup(around_.staging); !status.ok()) {
    return ReasonOf(status).empty()
               ? Error(status.code(), "BACKUP_FAILED", std::string(status.message()))
               : status;
  }
  LECTERN_ASSIGN_OR_RETURN(const std::vector<FoundFile> files, FilesBelow(around_.staging));
  {
    const std::lock_guard lock(mutex_);
    for (const FoundFile& file : files) own_[id].bytes_total += file.bytes;
  }
  copy_begin_ = std::chrono::steady_clock::now();
  const fs::path from = around_.staging;
  const fs::path to = Partial(id);
  std::error_code error;
  fs::remove_all(to, error);
  for (const FoundFile& file : files) {
    if (file.path == kFormat || file.path == kLock) continue;
    fs::create_directories((to / file.path).parent_path(), error);
    if (error) return SystemFailure(error.value(), "make", (to / file.path).parent_path());
    LECTERN_RETURN_IF_ERROR(CopyFile(from / file.path, to / file.path));
    fs::remove(from / file.path, error);
  }
  for (fs::recursive_directory_iterator it(to, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_directory(error)) LECTERN_RETURN_IF_ERROR(Sync(it->path()));
  }
  LECTERN_RETURN_IF_ERROR(Sync(to));
  LECTERN_RETURN_IF_ERROR(CopyFile(from / kFormat, to / kFormat));
  LECTERN_RETURN_IF_ERROR(Sync(to));
  const fs::path target = fs::path(around_.directory) / id;
  if (rename(to.c_str(), target.c_str()) != 0) return SystemFailure(errno, "make", target);
  LECTERN_RETURN_IF_ERROR(Sync(around_.directory));
  const std::lock_guard lock(mutex_);
  own_[id].bytes_done = own_[id].bytes_total;  // LOCK is empty
  return absl::OkStatus();
}

absl::Status StoreBackups::CopyFile(const std::string& from, const std::string& to) {
  const File source(from, O_RDONLY);
  if (source.number() < 0) return SystemFailure(errno, "open", from);
  const File target(to, O_WRONLY | O_CREAT | O_EXCL);
  if (target.number() < 0) return SystemFailure(errno, "make", to);
  std::vector<char> piece(kPieceBytes);
  while (true) {
    const ssize_t count = read(source.number(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemFailure(errno, "read", from);
    if (count == 0) break;
    for (ssize_t done = 0; done < count;) {
      const ssize_t written =
          write(target.number(), piece.data() + done, static_cast<size_t>(count - done));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return SystemFailure(errno, "write", to);
      done += written;
    }
    LECTERN_RETURN_IF_ERROR(Account(count));
  }
  if (fsync(target.number()) != 0) return SystemFailure(errno, "sync", to);
  return absl::OkStatus();
}

absl::Status StoreBackups::Account(int64_t bytes) {
  copied_bytes_ += bytes;
  std::unique_lock lock(mutex_);
  own_[running_].bytes_done += bytes;
  if (around_.bytes_per_second > 0 && bytes > 0) {
    const std::chrono::duration<double> due(static_cast<double>(copied_bytes_) /
                                            static_cast<double>(around_.bytes_per_second));
    changed_.wait_until(
        lock, copy_begin_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(due),
        [this] { return cancelled_; });
  }
  if (!cancelled_) return absl::OkStatus();
  return Error(absl::StatusCode::kCancelled, "CANCELLED",
               "the backup was cancelled, or the server was stopped");
}

}  // namespace lectern::engine
