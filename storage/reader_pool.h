// A few threads that read in parallel: RocksDB as packaged has no asynchronous I/O. Internal to
// storage.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace lectern::storage {

class ReaderPool {
 public:
  // The caller of ParallelFor is one of the `threads`; 1 starts none.
  explicit ReaderPool(int threads);
  ~ReaderPool();
  ReaderPool(const ReaderPool&) = delete;
  ReaderPool& operator=(const ReaderPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(i) for every i of [0, count), in any order, and returns when all have returned.
  // Thread-safe; calls of different threads share the workers, and none waits for the work of
  // another.
  void ParallelFor(size_t count, const std::function<void(size_t)>& body);

 private:
  struct Loop;

  void Work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Loop>> loops_;  // guarded by mutex_
  bool stopping_ = false;                    // guarded by mutex_
  std::vector<std::thread> workers_;
};

}  // namespace lectern::storage
