#include "storage/data_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include <absl/strings/cord.h>
#include <absl/types/optional.h>
#include <fmt/format.h>

#include "storage/store.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

constexpr char kSignature[] = "lectern-store";

constexpr char kOpenFailureUrl[] = "lectern.dev/storage-open-failure";

absl::Status Refused(OpenFailure failure, const std::string& message) {
  absl::Status status = absl::FailedPreconditionError(message);
  status.SetPayload(kOpenFailureUrl, absl::Cord(fmt::format("{}", static_cast<int>(failure))));
  return status;
}

// Writes and syncs a new file; false leaves errno.
bool WriteFileSynced(const std::string& path, std::string_view bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) return false;
  bool ok = write(file, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) &&
            fsync(file) == 0;
  const int error_number = errno;
  close(file);
  errno = error_number;
  return ok;
}

bool SyncDirectory(const std::string& path) {
  const int directory = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return false;
  const bool ok = fsync(directory) == 0;
  const int error_number = errno;
  close(directory);
  errno = error_number;
  return ok;
}

}  // namespace

absl::Status SystemError(int error_number, const std::string& doing) {
  const std::string message = fmt::format("{}: {}", doing, std::strerror(error_number));
  switch (error_number) {
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(fmt::format(
          "{}: give this user write access, or choose another data directory", message));
    case ENOENT:
      return absl::NotFoundError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(fmt::format("{}: free space on the disk", message));
    default:
      return absl::UnavailableError(message);
  }
}

std::optional<OpenFailure> OpenFailureOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kOpenFailureUrl);
  if (!payload.has_value() || payload->empty()) return std::nullopt;
  return static_cast<OpenFailure>((*payload)[0] - '0');
}

absl::StatusOr<std::unique_ptr<DataDirectory>> DataDirectory::Open(const std::string& path) {
  std::error_code error;
  if (path.empty()) return absl::InvalidArgumentError("no data directory was given");
  if (fs::exists(path, error) && !fs::is_directory(path, error)) {
    return Refused(OpenFailure::kForeign, fmt::format("{} is not a directory", path));
  }
  if (!fs::exists(path, error) && !fs::create_directory(path, error)) {
    return SystemError(error.value(), fmt::format("make the data directory {}", path));
  }
  std::unique_ptr<DataDirectory> directory(new DataDirectory(path));
  if (absl::Status status = directory->ReadFormat(); !status.ok()) return status;
  if (absl::Status status = directory->Lock(); !status.ok()) return status;
  fs::create_directory(directory->database(), error);
  if (error) return SystemError(error.value(), fmt::format("make {}", directory->database()));
  return directory;
}

DataDirectory::~DataDirectory() {
  if (lock_file_ >= 0) close(lock_file_);
}

absl::Status DataDirectory::ReadFormat() {
  const std::string path = path_ + "/FORMAT";
  std::error_code error;
  if (!fs::exists(path, error)) {
    // What a store leaves behind that was killed before it wrote FORMAT is a new store; anything
    // else is not ours.
    for (fs::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename();
      if (name == "LOCK" || name == "db" || name == "load" || name == "WATERMARK" ||
          name == "MANIFEST_MARK" || name == "FORMAT.new" || name == "lost+found") {
        continue;
      }
      return Refused(OpenFailure::kForeign,
                     fmt::format("{} holds other files (\"{}\") and no Lectern store: choose an "
                                 "empty directory",
                                 path_, name));
    }
    if (error) return SystemError(error.value(), fmt::format("list {}", path_));
    return absl::OkStatus();
  }
  std::ifstream file(path);
  std::string signature, format_word, id_word;
  uint64_t version = 0;
  file >> signature >> format_word >> version;
  if (!file) {
    if (errno == EACCES) return SystemError(EACCES, fmt::format("read {}", path));
    return absl::DataLossError(fmt::format("{} is damaged: restore it from a backup", path));
  }
  if (signature != kSignature || format_word != "format") {
    return Refused(OpenFailure::kForeign,
                   fmt::format("{} is not a Lectern store's: choose another data directory", path));
  }
  if (version > kFormatVersion) {
    return Refused(OpenFailure::kFormat,
                   fmt::format("{} has format {}, and this program reads formats up to {}: it was "
                               "written by a newer Lectern; use that one",
                               path_, version, kFormatVersion));
  }
  file >> id_word >> store_id_;
  if (!file || version == 0 || id_word != "id" || store_id_.size() != 32) {
    return absl::DataLossError(fmt::format("{} is damaged: restore it from a backup", path));
  }
  return absl::OkStatus();
}

absl::Status DataDirectory::Lock() {
  const std::string path = path_ + "/LOCK";
  lock_file_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_file_ < 0) return SystemError(errno, fmt::format("open {}", path));
  if (flock(lock_file_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno == EWOULDBLOCK) {
    return Refused(
        OpenFailure::kLocked,
        fmt::format("{} is open in another process: stop that one, or choose another data "
                    "directory",
                    path_));
  }
  return SystemError(errno, fmt::format("lock {}", path));
}

absl::Status DataDirectory::WriteFormat(const std::string& store_id) {
  const std::string path = path_ + "/FORMAT";
  const std::string fresh = path + ".new";
  const std::string text =
      fmt::format("{}\nformat {}\nid {}\n", kSignature, kFormatVersion, store_id);
  if (!WriteFileSynced(fresh, text) || rename(fresh.c_str(), path.c_str()) != 0 ||
      !SyncDirectory(path_)) {
    return SystemError(errno, fmt::format("write {}", path));
  }
  store_id_ = store_id;
  return absl::OkStatus();
}

}  // namespace lectern::storage
