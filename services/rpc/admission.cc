#include "services/rpc/admission.h"

#include <fmt/format.h>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "services/rpc/reason.h"

namespace lectern::services {

absl::Status DrainingError() {
  return engine::Error(absl::StatusCode::kUnavailable, reason::kServerDraining,
                       "the server is shutting down; try again, another one may answer");
}

Admission::Admission(int limit) : limit_(limit) { LECTERN_CHECK(limit > 0); }

absl::Status Admission::Enter() {
  const std::lock_guard lock(mutex_);
  if (closed_) return DrainingError();
  if (inside_ >= limit_) {
    return engine::Error(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                         fmt::format("{} calls are running, which is the limit; try again", limit_),
                         {{"limit", std::to_string(limit_)}});
  }
  ++inside_;
  return absl::OkStatus();
}

void Admission::Leave() {
  const std::lock_guard lock(mutex_);
  LECTERN_CHECK(inside_ > 0);
  if (--inside_ == 0) idle_.notify_all();
}

void Admission::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

bool Admission::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, deadline, [this] { return inside_ == 0; });
}

}  // namespace lectern::services
