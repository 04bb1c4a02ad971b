#include "engine/room/request_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

constexpr std::chrono::milliseconds kStopPoll(100);

}  // namespace

RequestMemory::Hold::Hold(Hold&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

RequestMemory::Hold& RequestMemory::Hold::operator=(Hold&& other) noexcept {
  std::swap(memory_, other.memory_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

RequestMemory::Hold::~Hold() {
  if (memory_ != nullptr) memory_->Release(bytes_);
}

absl::StatusOr<RequestMemory::Hold> RequestMemory::Acquire(int64_t bytes, std::string_view what,
                                                           const std::function<bool()>& stop) {
  if (bytes > limit_bytes_) {
    return Error(
        absl::StatusCode::kResourceExhausted, "MEMORY_LIMIT_EXCEEDED",
        fmt::format("{} needs {} bytes of memory, and requests may hold {} between them: "
                    "split it, or raise --request_bytes",
                    what, bytes, limit_bytes_),
        {{"needed_bytes", fmt::to_string(bytes)}, {"limit_bytes", fmt::to_string(limit_bytes_)}});
  }
  std::unique_lock lock(mutex_);
  const uint64_t ticket = next_ticket_++;
  waiting_.push_back(ticket);
  while (waiting_.front() != ticket || held_ + bytes > limit_bytes_) {
    if (stop()) {
      std::erase(waiting_, ticket);
      freed_.notify_all();
      return Error(absl::StatusCode::kCancelled, "CANCELLED",
                   fmt::format("cancelled while {} waited for memory", what));
    }
    freed_.wait_for(lock, kStopPoll);
  }
  waiting_.pop_front();
  held_ += bytes;
  freed_.notify_all();  // whoever is next may fit as well
  return Hold(this, bytes);
}

void RequestMemory::Release(int64_t bytes) {
  {
    std::lock_guard lock(mutex_);
    held_ -= bytes;
  }
  freed_.notify_all();
}

int64_t RequestMemory::held_bytes() const {
  std::lock_guard lock(mutex_);
  return held_;
}

}  // namespace lectern::engine
