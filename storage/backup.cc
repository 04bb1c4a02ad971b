#include "storage/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "storage/data_directory.h"
#include "storage/store.h"
#include "storage/watermark.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

// What a data directory is made of, the file that makes it one last (README, "The directory").
constexpr const char* kDatabase = "db";
constexpr const char* kWatermark = "WATERMARK";
constexpr const char* kFormat = "FORMAT";

absl::Status MakeEmptyDirectory(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error)) {
    if (!fs::is_directory(path, error) || !fs::is_empty(path, error)) {
      return absl::AlreadyExistsError(
          fmt::format("{} is not an empty directory: name one that does not exist", path));
    }
    return absl::OkStatus();
  }
  if (fs::create_directory(path, error)) return absl::OkStatus();
  return SystemError(error.value(), fmt::format("make {}", path));
}

absl::Status Sync(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return SystemError(errno, fmt::format("open {}", path.string()));
  const int failed = fsync(file) == 0 ? 0 : errno;
  close(file);
  return failed == 0 ? absl::OkStatus()
                     : SystemError(failed, fmt::format("sync {}", path.string()));
}

absl::Status CopySynced(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, error);
  if (error) {
    return SystemError(error.value(), fmt::format("copy {} to {}", from.string(), to.string()));
  }
  return Sync(to);
}

}  // namespace

absl::Status WriteBackup(StoreState* state, const std::string& directory) {
  if (absl::Status status = MakeEmptyDirectory(directory); !status.ok()) return status;
  const fs::path root = directory;
  absl::StatusOr<uint64_t> sequence = state->store().Checkpoint(root / kDatabase);
  if (!sequence.ok()) return sequence.status();
  {
    absl::StatusOr<std::unique_ptr<Watermark>> watermark = Watermark::Open(root / kWatermark);
    if (!watermark.ok()) return watermark.status();
    (*watermark)->Raise(*sequence);
  }
  for (const fs::path& path : {root / kWatermark, root / kDatabase}) {
    if (absl::Status status = Sync(path); !status.ok()) return status;
  }
  // From here on it is a data directory. Locked while it is written, as any other.
  absl::StatusOr<std::unique_ptr<DataDirectory>> made = DataDirectory::Open(directory);
  if (!made.ok()) return made.status();
  return (*made)->WriteFormat(state->store_id());
}

absl::Status RestoreBackup(const std::string& backup, const std::string& directory) {
  const fs::path from = backup;
  std::error_code error;
  if (!fs::exists(from / kFormat, error)) {
    return absl::NotFoundError(
        fmt::format("{} holds no complete backup: it has no {}", backup, kFormat));
  }
  // Checks the format, and keeps others out while it is copied.
  absl::StatusOr<std::unique_ptr<DataDirectory>> source = DataDirectory::Open(backup);
  if (!source.ok()) return source.status();
  if (absl::Status status = MakeEmptyDirectory(directory); !status.ok()) return status;
  const fs::path to = directory;
  if (!fs::create_directory(to / kDatabase, error)) {
    return SystemError(error.value(), fmt::format("make {}/{}", directory, kDatabase));
  }
  std::vector<fs::path> files;
  for (fs::directory_iterator it(from / kDatabase, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_regular_file(error)) files.push_back(fs::path(kDatabase) / it->path().filename());
  }
  if (error) return SystemError(error.value(), fmt::format("list {}/{}", backup, kDatabase));
  if (fs::exists(from / kWatermark, error)) files.push_back(kWatermark);
  for (const fs::path& file : files) {
    if (absl::Status status = CopySynced(from / file, to / file); !status.ok()) return status;
  }
  if (absl::Status status = Sync(to / kDatabase); !status.ok()) return status;
  if (absl::Status status = CopySynced(from / kFormat, to / kFormat); !status.ok()) return status;
  return Sync(to);
}

}  // namespace lectern::storage
