// Reads that a hung disk does not hold for ever: each runs on a thread of its own, and who waits
// for it goes on after a while without it. The thread stays with the disk until that answers.
// Internal to storage.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace lectern::storage {

class TimedReads {
 public:
  // `patience`: how long a read may take; 0: as long as it takes, on the caller's thread.
  explicit TimedReads(std::chrono::milliseconds patience);
  // Does not wait for reads that hang.
  ~TimedReads();
  TimedReads(const TimedReads&) = delete;
  TimedReads& operator=(const TimedReads&) = delete;

  // True when `read` has run. False when it has not ended in time: it may run on, or still begin,
  // and must own whatever it touches. Thread-safe. At most kMostThreads run at once, and others
  // wait for one of them within the same time.
  bool Run(std::function<void()> read);

  std::chrono::milliseconds patience() const { return patience_; }
  uint64_t timed_out() const;

 private:
  struct Threads;

  const std::chrono::milliseconds patience_;
  const std::shared_ptr<Threads> threads_;
};

}  // namespace lectern::storage
