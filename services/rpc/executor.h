// A few threads for calls that read or write storage, so that gRPC's own threads never wait for a
// disk.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace lectern::services {

class Executor {
 public:
  Executor(int threads, size_t queue_limit);
  // Runs what is queued, then ends.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False when `queue_limit` tasks wait already; `task` is then not run.
  [[nodiscard]] bool Submit(std::function<void()> task);
  // For what must run (the end of a call that was accepted): never refused.
  void MustSubmit(std::function<void()> task);

 private:
  void Run();

  const size_t queue_limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace lectern::services
