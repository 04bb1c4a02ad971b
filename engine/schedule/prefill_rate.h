// How fast documents are prefilled, measured. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>

namespace lectern::engine {

class PrefillRate {
 public:
  // `tokens` were computed and stored within `seconds`, beside whatever else ran.
  void Add(int64_t tokens, double seconds) {
    const std::lock_guard lock(mutex_);
    tokens_ += static_cast<double>(tokens);
    seconds_ += seconds;
    if (seconds_ < kWindowSeconds) return;
    tokens_ /= 2;
    seconds_ /= 2;
  }
  // 0 as long as nothing was measured.
  double tokens_per_second() const {
    const std::lock_guard lock(mutex_);
    return seconds_ > 0 ? tokens_ / seconds_ : 0;
  }

 private:
  // What lies further back counts half, a quarter, ...
  static constexpr double kWindowSeconds = 30;

  mutable std::mutex mutex_;
  double tokens_ = 0;   // guarded by mutex_
  double seconds_ = 0;  // guarded by mutex_
};

}  // namespace lectern::engine
