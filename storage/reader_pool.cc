#include "storage/reader_pool.h"

#include <algorithm>
#include <atomic>

namespace lectern::storage {

// Indices are handed out one by one. A worker that comes late finds none left and does not touch
// `body`, which may be gone by then.
struct ReaderPool::Loop {
  Loop(size_t count, const std::function<void(size_t)>& body) : count(count), body(body) {}

  void Run() {
    for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      body(i);
      if (done.fetch_add(1) + 1 == count) {
        std::lock_guard lock(mutex);
        finished.notify_all();
      }
    }
  }

  const size_t count;
  const std::function<void(size_t)>& body;
  std::atomic<size_t> next = 0;
  std::atomic<size_t> done = 0;
  std::mutex mutex;
  std::condition_variable finished;
};

ReaderPool::ReaderPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { Work(); });
}

ReaderPool::~ReaderPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ReaderPool::ParallelFor(size_t count, const std::function<void(size_t)>& body) {
  if (count <= 1 || workers_.empty()) {
    for (size_t i = 0; i < count; ++i) body(i);
    return;
  }
  auto loop = std::make_shared<Loop>(count, body);
  {
    std::lock_guard lock(mutex_);
    // One entry per worker that can find work.
    for (size_t i = 0; i < std::min(workers_.size(), count - 1); ++i) loops_.push_back(loop);
  }
  wake_.notify_all();
  loop->Run();
  std::unique_lock lock(loop->mutex);
  loop->finished.wait(lock, [&] { return loop->done.load() == count; });
}

void ReaderPool::Work() {
  while (true) {
    std::shared_ptr<Loop> loop;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !loops_.empty(); });
      if (stopping_) return;
      loop = std::move(loops_.front());
      loops_.pop_front();
    }
    loop->Run();
  }
}

}  // namespace lectern::storage
