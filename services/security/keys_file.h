// The keys file: JSON that `lectern keys` writes and servers read.
//
//   {"keys": [{"id": "0123456789abcdef", "tenant": "acme", "role": "writer", "sha256": "<64
//   digits>",
//              "create_time": "2026-11-23T06:00:00Z", "expire_time": "...", "note": "CI"}]}
//
// tenant is absent for operators; expire_time and note may be absent. Anything else in it is
// refused: a key with a misspelt limit must not become a key without one.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "services/security/access.h"
#include "services/security/api_key.h"

namespace lectern::services {

struct KeyEntry {
  std::string id;
  std::string tenant;  // "" for operators
  Role role = Role::kReader;
  KeyHash hash = {};
  int64_t create_time_us = 0;
  int64_t expire_time_us = 0;  // 0: never
  std::string note;
};

// INVALID_ARGUMENT KEYS_FILE_INVALID: says what is wrong with which key.
absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view json);
std::string FormatKeys(const std::vector<KeyEntry>& keys);

//   NOT_FOUND          KEYS_FILE_MISSING
//   PERMISSION_DENIED  KEYS_FILE_UNREADABLE; KEYS_FILE_EXPOSED: everybody may write it, and so make
//   keys INVALID_ARGUMENT   KEYS_FILE_INVALID
absl::StatusOr<std::vector<KeyEntry>> ReadKeysFile(const std::string& path);

// Reads the file (a missing one is empty), lets `change` change the keys, and puts the new file in
// the place of the old one, synced, readable by its owner only. Other programs that do the same
// wait. UNAVAILABLE KEYS_FILE_UNWRITABLE, and what ReadKeysFile and `change` return.
absl::Status ChangeKeysFile(const std::string& path,
                            const std::function<absl::Status(std::vector<KeyEntry>&)>& change);

}  // namespace lectern::services
