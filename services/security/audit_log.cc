#include "services/security/audit_log.h"

#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

constexpr mode_t kOwnerOnly = 0600;

absl::Status Failed(const std::string& path) {
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kAuditLogFailed,
      fmt::format("the audit log {} cannot be written ({}), and nothing is administered without it",
                  path, std::strerror(errno)));
}

std::string Line(const AuditEvent& event) {
  nlohmann::ordered_json line = {
      {"time", absl::FormatTime("%E4Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone())},
      {"event", event.event},
      {"method", event.method},
      {"resource", event.resource},
      {"key", event.key_id},
      {"role", event.role},
      {"peer", event.peer},
      {"request_id", event.request_id}};
  if (!event.code.empty()) line["code"] = event.code;
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path) {
  std::unique_ptr<AuditLog> log(new AuditLog(path));
  if (!path.empty()) LECTERN_RETURN_IF_ERROR(log->Reopen());
  return log;
}

AuditLog::~AuditLog() {
  if (file_ >= 0) close(file_);
}

absl::Status AuditLog::Reopen() {
  if (file_ >= 0) close(file_);
  file_ = open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, kOwnerOnly);
  return file_ >= 0 ? absl::OkStatus() : Failed(path_);
}

bool AuditLog::Moved() const {
  struct stat ours = {};
  struct stat named = {};
  return fstat(file_, &ours) != 0 || stat(path_.c_str(), &named) != 0 ||
         ours.st_ino != named.st_ino || ours.st_dev != named.st_dev;
}

absl::Status AuditLog::Record(const AuditEvent& event) {
  if (path_.empty()) {
    Log(LogLevel::kInfo, "audit",
        {{"act", event.event},
         {"method", event.method},
         {"resource", event.resource},
         {"key", event.key_id},
         {"role", event.role},
         {"peer", event.peer},
         {"request_id", event.request_id},
         {"code", event.code}});
    return absl::OkStatus();
  }
  const std::string line = Line(event);
  const std::lock_guard lock(mutex_);
  if (file_ < 0 || Moved()) LECTERN_RETURN_IF_ERROR(Reopen());
  // One write: lines of several processes do not mix.
  const ssize_t written = write(file_, line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    if (written >= 0) errno = ENOSPC;
    return Failed(path_);
  }
  return fdatasync(file_) == 0 ? absl::OkStatus() : Failed(path_);
}

}  // namespace lectern::services
