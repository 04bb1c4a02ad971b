#include "storage/timed_reads.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace lectern::storage {
namespace {

constexpr int kMostThreads = 64;

struct Job {
  std::function<void()> read;
  bool done = false;  // all but read: guarded by Threads::mutex
  bool abandoned = false;
  std::condition_variable ended;
};

}  // namespace

// Outlives the object, with the reads that hang.
struct TimedReads::Threads {
  static void Serve(const std::shared_ptr<Threads>& self) {
    std::unique_lock lock(self->mutex);
    while (true) {
      ++self->idle;
      self->wake.wait(lock, [&] { return self->stopped || !self->waiting.empty(); });
      --self->idle;
      if (self->waiting.empty()) return;  // stopped
      const std::shared_ptr<Job> job = std::move(self->waiting.front());
      self->waiting.pop_front();
      if (job->abandoned) continue;
      lock.unlock();
      job->read();
      job->read = nullptr;  // what it owns goes here, not with the lock held
      lock.lock();
      job->done = true;
      job->ended.notify_all();
    }
  }

  std::mutex mutex;
  std::condition_variable wake;
  // All below: guarded by mutex.
  std::deque<std::shared_ptr<Job>> waiting;
  int threads = 0;
  int idle = 0;
  bool stopped = false;
  uint64_t timed_out = 0;
};

TimedReads::TimedReads(std::chrono::milliseconds patience)
    : patience_(patience), threads_(std::make_shared<Threads>()) {}

TimedReads::~TimedReads() {
  std::lock_guard lock(threads_->mutex);
  threads_->stopped = true;
  threads_->wake.notify_all();
}

bool TimedReads::Run(std::function<void()> read) {
  if (patience_.count() == 0) {
    read();
    return true;
  }
  auto job = std::make_shared<Job>();
  job->read = std::move(read);
  std::unique_lock lock(threads_->mutex);
  threads_->waiting.push_back(job);
  const bool one_is_free = threads_->idle >= static_cast<int>(threads_->waiting.size());
  if (!one_is_free && threads_->threads < kMostThreads) {
    ++threads_->threads;
    std::thread(&Threads::Serve, threads_).detach();
  }
  threads_->wake.notify_one();
  if (job->ended.wait_for(lock, patience_, [&] { return job->done; })) return true;
  job->abandoned = true;
  ++threads_->timed_out;
  return false;
}

uint64_t TimedReads::timed_out() const {
  std::lock_guard lock(threads_->mutex);
  return threads_->timed_out;
}

}  // namespace lectern::storage
