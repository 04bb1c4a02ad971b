// Until when this process may act as the owner of its group, by a clock that goes on while the
// process is stopped or the machine sleeps. etcd takes a lease away at its own time; the fence is
// always closed before that. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

namespace lectern::services {

class Fence {
 public:
  // Nanoseconds of a clock that never goes back and never stands still. The default is
  // CLOCK_BOOTTIME: CLOCK_MONOTONIC stands still while a machine is suspended, leases do not.
  using Clock = std::function<std::chrono::nanoseconds()>;
  explicit Fence(Clock clock = BootTime) : clock_(std::move(clock)) {}

  static std::chrono::nanoseconds BootTime();
  std::chrono::nanoseconds Now() const { return clock_(); }

  // etcd has promised `ttl` in answer to a question that left at `asked`. The promise began no
  // earlier than that. A tenth is kept back for clocks that run at different speeds.
  void Renew(std::chrono::nanoseconds asked, std::chrono::seconds ttl);
  // At once: the lease is known to be gone, or given back.
  void Close() { until_ = std::chrono::nanoseconds::min(); }

  bool Open() const { return clock_() < until_.load(); }
  // 0 when closed.
  std::chrono::nanoseconds Remaining() const;

 private:
  const Clock clock_;
  std::atomic<std::chrono::nanoseconds> until_ = std::chrono::nanoseconds::min();
};

}  // namespace lectern::services
