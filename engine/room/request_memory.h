// Memory that requests hold besides the block pool and the index keys: documents being read and
// tokenized, what a step computes in. Each request says what it needs before it allocates; it waits
// until that is free, or is refused if it never will be, so that no request takes the process with
// it. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::engine {

class RequestMemory {
 public:
  explicit RequestMemory(int64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  RequestMemory(const RequestMemory&) = delete;
  RequestMemory& operator=(const RequestMemory&) = delete;

  // Bytes held until it goes; must not outlive the RequestMemory.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();

   private:
    friend class RequestMemory;
    Hold(RequestMemory* memory, int64_t bytes) : memory_(memory), bytes_(bytes) {}
    RequestMemory* memory_ = nullptr;
    int64_t bytes_ = 0;
  };

  // In order of arrival; `stop` is asked about ten times a second while it waits.
  //   RESOURCE_EXHAUSTED MEMORY_LIMIT_EXCEEDED (needed_bytes, limit_bytes): more than there is at
  //   all CANCELLED: `stop` said so
  absl::StatusOr<Hold> Acquire(
      int64_t bytes, std::string_view what,
      const std::function<bool()>& stop = [] { return false; });

  int64_t limit_bytes() const { return limit_bytes_; }
  int64_t held_bytes() const;

 private:
  void Release(int64_t bytes);

  const int64_t limit_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable freed_;
  int64_t held_ = 0;
  uint64_t next_ticket_ = 0;
  std::deque<uint64_t> waiting_;  // tickets, in order of arrival
};

}  // namespace lectern::engine
