#include "services/security/keys_file.h"

#include <absl/time/time.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

using nlohmann::json;

// A key takes 300 bytes or so: room for a hundred thousand.
constexpr size_t kMaxFileBytes = size_t{32} << 20;
constexpr mode_t kOwnerOnly = 0600;

absl::Status Invalid(std::string_view what) {
  return engine::InvalidArgument(reason::kKeysFileInvalid, fmt::format("the keys file {}", what));
}

absl::StatusOr<int64_t> ParseTime(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return Invalid(fmt::format("has the time \"{}\": {}", text, error));
  }
  return absl::ToUnixMicros(time);
}

std::string FormatTime(int64_t time_us) {
  return absl::FormatTime(absl::RFC3339_sec, absl::FromUnixMicros(time_us), absl::UTCTimeZone());
}

absl::StatusOr<KeyEntry> ParseEntry(const json& item) {
  if (!item.is_object()) return Invalid("has a key that is no object");
  KeyEntry entry;
  std::set<std::string> seen;
  for (const auto& [name, value] : item.items()) {
    if (!value.is_string()) return Invalid(fmt::format("has a key whose {} is no string", name));
    const auto text = value.get<std::string>();
    seen.insert(name);
    if (name == "id") {
      entry.id = text;
    } else if (name == "tenant") {
      entry.tenant = text;
    } else if (name == "role") {
      const std::optional<Role> role = ParseRole(text);
      if (!role) {
        return Invalid(
            fmt::format("has the role \"{}\"; there are reader, writer, admin and operator", text));
      }
      entry.role = *role;
    } else if (name == "sha256") {
      const std::optional<KeyHash> hash = KeyHashFromHex(text);
      if (!hash) return Invalid("has a sha256 that is not 64 lower-case hexadecimal digits");
      entry.hash = *hash;
    } else if (name == "create_time") {
      LECTERN_ASSIGN_OR_RETURN(entry.create_time_us, ParseTime(text));
    } else if (name == "expire_time") {
      LECTERN_ASSIGN_OR_RETURN(entry.expire_time_us, ParseTime(text));
    } else if (name == "note") {
      entry.note = text;
    } else {
      return Invalid(fmt::format("has a key with \"{}\", which means nothing here", name));
    }
  }
  for (const char* name : {"id", "role", "sha256"}) {
    if (!seen.contains(name)) return Invalid(fmt::format("has a key without \"{}\"", name));
  }
  if (entry.role == Role::kOperator ? !entry.tenant.empty() : !IsId(entry.tenant)) {
    return Invalid(
        fmt::format("has key {} of role {} and tenant \"{}\"; operators have none, all "
                    "others one",
                    entry.id, RoleName(entry.role), entry.tenant));
  }
  return entry;
}

absl::Status FileError(absl::StatusCode code, std::string_view why, const std::string& path) {
  return engine::Error(code, why, fmt::format("keys file {}: {}", path, std::strerror(errno)),
                       {{"path", path}});
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  const int number_;
};

bool WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<KeyEntry>> ParseKeys(std::string_view text) {
  const json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return Invalid("is no JSON object");
  if (document.size() != 1 || !document.contains("keys") || !document["keys"].is_array()) {
    return Invalid("must hold a list \"keys\", and nothing else");
  }
  std::vector<KeyEntry> keys;
  std::set<std::string> ids;
  for (const json& item : document["keys"]) {
    LECTERN_ASSIGN_OR_RETURN(KeyEntry entry, ParseEntry(item));
    if (!ids.insert(entry.id).second) return Invalid(fmt::format("has key {} twice", entry.id));
    keys.push_back(std::move(entry));
  }
  return keys;
}

std::string FormatKeys(const std::vector<KeyEntry>& keys) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const KeyEntry& key : keys) {
    nlohmann::ordered_json item = {{"id", key.id}};
    if (!key.tenant.empty()) item["tenant"] = key.tenant;
    item["role"] = RoleName(key.role);
    item["sha256"] = ToHex(key.hash);
    item["create_time"] = FormatTime(key.create_time_us);
    if (key.expire_time_us != 0) item["expire_time"] = FormatTime(key.expire_time_us);
    if (!key.note.empty()) item["note"] = key.note;
    list.push_back(std::move(item));
  }
  return nlohmann::ordered_json{{"keys", list}}.dump(
             1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<std::vector<KeyEntry>> ReadKeysFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file && errno == ENOENT) {
    return FileError(absl::StatusCode::kNotFound, reason::kKeysFileMissing, path);
  }
  struct stat state = {};
  if (!file || fstat(file.get(), &state) != 0) {
    return FileError(absl::StatusCode::kPermissionDenied, reason::kKeysFileUnreadable, path);
  }
  if ((state.st_mode & S_IWOTH) != 0) {
    return engine::Error(absl::StatusCode::kPermissionDenied, reason::kKeysFileExposed,
                         fmt::format("keys file {}: everybody may write it, and so make keys; take "
                                     "that right away with chmod o-w",
                                     path),
                         {{"path", path}});
  }
  std::string bytes;
  char piece[1 << 16];
  ssize_t count = 0;
  while ((count = read(file.get(), piece, sizeof(piece))) != 0) {
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return FileError(absl::StatusCode::kPermissionDenied, reason::kKeysFileUnreadable, path);
    }
    bytes.append(piece, static_cast<size_t>(count));
    if (bytes.size() > kMaxFileBytes) {
      return engine::Annotate(Invalid(fmt::format("has over {} bytes", kMaxFileBytes)), path);
    }
  }
  absl::StatusOr<std::vector<KeyEntry>> keys = ParseKeys(bytes);
  if (!keys.ok()) return engine::Annotate(keys.status(), path);
  return keys;
}

absl::Status ChangeKeysFile(const std::string& path,
                            const std::function<absl::Status(std::vector<KeyEntry>&)>& change) {
  const auto unwritable = [&] {
    return FileError(absl::StatusCode::kUnavailable, reason::kKeysFileUnwritable, path);
  };
  const std::filesystem::path parent = std::filesystem::absolute(path).parent_path();
  const Descriptor folder(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || flock(folder.get(), LOCK_EX) != 0) return unwritable();

  absl::StatusOr<std::vector<KeyEntry>> keys = ReadKeysFile(path);
  if (absl::IsNotFound(keys.status())) keys = std::vector<KeyEntry>();
  if (!keys.ok()) return keys.status();
  LECTERN_RETURN_IF_ERROR(change(*keys));

  const std::string fresh = path + ".new";
  unlink(fresh.c_str());  // what a crash left
  const Descriptor file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly));
  if (!file || !WriteAll(file.get(), FormatKeys(*keys)) || fsync(file.get()) != 0 ||
      rename(fresh.c_str(), path.c_str()) != 0 || fsync(folder.get()) != 0) {
    return unwritable();
  }
  return absl::OkStatus();
}

}  // namespace lectern::services
