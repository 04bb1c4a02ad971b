// How many calls a server takes at once, and how it stops taking them. Thread-safe.
#pragma once

#include <absl/status/status.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace lectern::services {

class Admission {
 public:
  explicit Admission(int limit);

  // OK, and then Leave must follow; or RESOURCE_EXHAUSTED QUEUE_FULL, or UNAVAILABLE
  // SERVER_DRAINING after Close.
  absl::Status Enter();
  void Leave();

  // Refuses every later call.
  void Close();
  // Whether all that entered have left; waits for it until `deadline`.
  bool WaitIdle(std::chrono::steady_clock::time_point deadline);

 private:
  const int limit_;
  std::mutex mutex_;
  std::condition_variable idle_;
  int inside_ = 0;
  bool closed_ = false;
};

// UNAVAILABLE SERVER_DRAINING.
absl::Status DrainingError();

}  // namespace lectern::services
