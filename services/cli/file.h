// Files on the client's side: reading, hashing, and the ids that uploads give them.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

namespace lectern::services {

// Regular files, in the order of their names; a folder stands for all files below it (hidden ones
// left out). NOT_FOUND, PERMISSION_DENIED.
struct LocalFile {
  std::string path;
  std::string display_name;  // relative to the folder that was named, or the file's own name
  std::string document_id;
};
absl::StatusOr<std::vector<LocalFile>> FindFiles(const std::vector<std::string>& paths);

// An id of the API made from a display name: always the same for the same name, and different for
// different names (a short hash is added when characters had to be replaced).
std::string DocumentId(const std::string& display_name);

absl::StatusOr<std::string> ReadFile(const std::string& path);

// SHA-256 of a file's bytes: 32 bytes.
absl::StatusOr<std::string> HashFile(const std::string& path);

}  // namespace lectern::services
