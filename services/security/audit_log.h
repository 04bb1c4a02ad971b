// The audit log: who administered what, one JSON object a line, appended.
//
//   {"time":"2026-11-23T06:00:00.123Z","event":"begin","method":"Tenants/DeleteTenant",
//    "resource":"tenants/acme","key":"0123456789abcdef","role":"operator","peer":"ipv4:10.0.0.7:51234",
//    "request_id":"..."}
//
// An act is written twice: "begin" before it is done, synced, and without it nothing is done; "end"
// with its code. A begin without an end was cut off by the end of the process. Refused attempts
// ("denied") are written, too.
//
// It is a file of its own, not the log stream: a stream is filtered by level, sampled, and lost
// with its collector, and none of that may happen to these lines. Without a file they go to the log
// stream as events "audit". Thread-safe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace lectern::services {

struct AuditEvent {
  std::string_view event;  // "begin", "end", "denied"
  std::string_view method;
  std::string resource;
  std::string key_id;  // "" on a server without keys
  std::string role;
  std::string peer;
  std::string request_id;
  std::string code;  // of "end" and "denied"
};

class AuditLog {
 public:
  // Opens or makes the file (0600); empty path: the log stream. UNAVAILABLE AUDIT_LOG_FAILED.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path);
  ~AuditLog();

  // Returns once the line is on disk. A file that was moved away (by a log rotation) is made anew.
  // UNAVAILABLE AUDIT_LOG_FAILED.
  absl::Status Record(const AuditEvent& event);

 private:
  explicit AuditLog(std::string path) : path_(std::move(path)) {}
  absl::Status Reopen();
  bool Moved() const;

  const std::string path_;
  std::mutex mutex_;
  int file_ = -1;
};

}  // namespace lectern::services
