// The keys that a server knows, kept as the keys file is. Thread-safe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "services/security/keys_file.h"

namespace lectern::services {

// Whom a key stands for.
struct Principal {
  std::string key_id;
  std::string tenant;  // "" for operators
  Role role = Role::kReader;
};

class KeyRing {
 public:
  // Reads the file, and again whenever it changes: within a second, also when it is replaced, as by
  // a mounted secret. A new state that cannot be read is logged and refused: the keys of the last
  // good one stay. Errors as ReadKeysFile.
  static absl::StatusOr<std::unique_ptr<KeyRing>> Open(const std::string& path);
  ~KeyRing();

  // `header`: the value of `authorization`, or "" if the call has none.
  //   UNAUTHENTICATED KEY_MISSING, KEY_INVALID: unknown, revoked or expired, and it does not say
  //   which
  absl::StatusOr<Principal> Authenticate(std::string_view header, int64_t now_us) const;

  size_t size() const;

 private:
  using Keys = std::unordered_map<std::string, KeyEntry>;  // by id

  explicit KeyRing(std::string path) : path_(std::move(path)) {}
  absl::Status Load();
  void Watch();
  std::string Stamp() const;  // of the file's state: differs when it was changed

  const std::string path_;
  std::string stamp_;  // of what was read last; the watching thread's
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::shared_ptr<const Keys> keys_;
  std::thread watcher_;
};

}  // namespace lectern::services
