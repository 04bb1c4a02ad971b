#include "services/security/key_ring.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kPoll{500};
constexpr std::string_view kScheme = "Bearer ";

absl::Status Unauthenticated(std::string_view why, std::string_view message) {
  return engine::Error(absl::StatusCode::kUnauthenticated, why, message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyRing>> KeyRing::Open(const std::string& path) {
  std::unique_ptr<KeyRing> ring(new KeyRing(path));
  ring->stamp_ = ring->Stamp();
  LECTERN_RETURN_IF_ERROR(ring->Load());
  ring->watcher_ = std::thread([raw = ring.get()] { raw->Watch(); });
  return ring;
}

KeyRing::~KeyRing() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (watcher_.joinable()) watcher_.join();
}

absl::Status KeyRing::Load() {
  LECTERN_ASSIGN_OR_RETURN(std::vector<KeyEntry> entries, ReadKeysFile(path_));
  auto keys = std::make_shared<Keys>();
  for (KeyEntry& entry : entries) {
    std::string id = entry.id;
    keys->emplace(std::move(id), std::move(entry));
  }
  const std::lock_guard lock(mutex_);
  keys_ = std::move(keys);
  return absl::OkStatus();
}

std::string KeyRing::Stamp() const {
  struct stat state = {};
  if (stat(path_.c_str(), &state) != 0) return "missing";
  return fmt::format("{} {} {} {}.{} {}.{}", state.st_dev, state.st_ino, state.st_size,
                     state.st_mtim.tv_sec, state.st_mtim.tv_nsec, state.st_ctim.tv_sec,
                     state.st_ctim.tv_nsec);
}

void KeyRing::Watch() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, kPoll, [this] { return stop_; })) return;
    }
    std::string stamp = Stamp();
    if (stamp == stamp_) continue;
    // Before reading: a change while we read is a change after this stamp.
    stamp_ = std::move(stamp);
    if (const absl::Status status = Load(); status.ok()) {
      Log(LogLevel::kInfo, "keys_loaded", {{"keys", static_cast<int64_t>(size())}});
    } else {
      Log(LogLevel::kError, "keys_refused",
          {{"reason", engine::ReasonOf(status)}, {"message", std::string(status.message())}});
    }
  }
}

size_t KeyRing::size() const {
  const std::lock_guard lock(mutex_);
  return keys_->size();
}

absl::StatusOr<Principal> KeyRing::Authenticate(std::string_view header, int64_t now_us) const {
  if (header.empty()) {
    return Unauthenticated(reason::kKeyMissing,
                           "this server needs an API key: send the header \"authorization: Bearer "
                           "<key>\"");
  }
  const absl::Status invalid = Unauthenticated(
      reason::kKeyInvalid, "the API key is not valid: it is unknown, was revoked or has expired");
  if (!header.starts_with(kScheme)) return invalid;
  const std::string_view text = header.substr(kScheme.size());
  const std::optional<std::string_view> id = KeyIdOf(text);
  if (!id) return invalid;
  std::shared_ptr<const Keys> keys;
  {
    const std::lock_guard lock(mutex_);
    keys = keys_;
  }
  const KeyHash hash = HashKey(text);
  const auto found = keys->find(std::string(*id));
  // An id that nobody has costs the same comparison.
  static const KeyEntry nobody;
  const KeyEntry& entry = found == keys->end() ? nobody : found->second;
  const bool same = SameHash(hash, entry.hash);
  if (found == keys->end() || !same) return invalid;
  if (entry.expire_time_us != 0 && entry.expire_time_us <= now_us) return invalid;
  return Principal{entry.id, entry.tenant, entry.role};
}

}  // namespace lectern::services
