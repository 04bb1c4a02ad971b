// The directory of a store: who may use it, and what is in it. Internal to storage.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::storage {

// Held while a store is open. Errors are those of Store::Open.
class DataDirectory {
 public:
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(const std::string& path);
  ~DataDirectory();
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  // From FORMAT; empty in a directory that has none yet.
  const std::string& store_id() const { return store_id_; }
  // Writes FORMAT. Last of all: a directory without it holds nothing yet.
  absl::Status WriteFormat(const std::string& store_id);

  std::string database() const { return path_ + "/db"; }
  std::string load() const { return path_ + "/load"; }
  std::string watermark() const { return path_ + "/WATERMARK"; }
  std::string manifest_mark() const { return path_ + "/MANIFEST_MARK"; }

 private:
  explicit DataDirectory(std::string path) : path_(std::move(path)) {}
  absl::Status Lock();
  absl::Status ReadFormat();

  const std::string path_;
  std::string store_id_;
  int lock_file_ = -1;
};

// A system call's errno as a Status that says what to do.
absl::Status SystemError(int error_number, const std::string& doing);

}  // namespace lectern::storage
