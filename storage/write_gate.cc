#include "storage/write_gate.h"

#include <algorithm>

namespace lectern::storage {
namespace {

using Clock = std::chrono::steady_clock;

// A writer waits until an outage is so old, and then this long at least: space may have returned,
// and RocksDB looks every half second (rocksdb_tuning.cc).
constexpr std::chrono::seconds kPatience(5);
constexpr std::chrono::milliseconds kLeastPatience(1500);

// An edit is a few syncs. One that waits for the thread that reports the error goes on after this.
constexpr std::chrono::seconds kEditPatience(10);

// Between two attempts to recover where RocksDB gave up.
constexpr std::chrono::milliseconds kRecoveryPause(500);

// From the report of an error to RocksDB's acting on it: microseconds, or a turn of the scheduler.
constexpr std::chrono::milliseconds kErrorSpacing(50);

// While the store closes; every attempt to recover ends then, whatever comes of it.
constexpr std::chrono::seconds kClosingPatience(30);
constexpr std::chrono::milliseconds kClosingPoll(5);

}  // namespace

bool WriteGate::HasRoom(Entry entry) const {
  switch (entry) {
    case Entry::kWrite:
      return !editing_ && edits_waiting_ == 0;
    case Entry::kEdit:
      return !editing_ && writers_ == 0;
    case Entry::kCompaction:
      return true;
  }
  return false;
}

void WriteGate::Reopen(std::unique_lock<std::mutex>* lock,
                       const std::function<rocksdb::Status()>& how) {
  state_ = State::kReopening;
  lock->unlock();
  const rocksdb::Status status = how();
  lock->lock();
  changed_.notify_all();
  if (status.IsAborted()) {
    // What was reported meanwhile was the error of the attempt.
    if (state_ == State::kReopening || state_ == State::kRecovering) state_ = State::kGaveUp;
    next_recovery_ = Clock::now() + kRecoveryPause;
    return;
  }
  if (state_ != State::kReopening) return;  // RocksDB has reported something
  if (status.ok()) {
    ++recoveries_;
    state_ = State::kOpen;
  } else if (status.IsBusy()) {
    state_ = State::kRecovering;
  } else {
    state_ = State::kGaveUp;
    next_recovery_ = Clock::now() + kRecoveryPause;
    error_ = status;
  }
}

// The mutex is held.
void WriteGate::RecoverBehind() {
  if (recoverer_.joinable()) recoverer_.join();
  recovering_behind_ = true;
  recoverer_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    Reopen(&lock, recover_);
    recovering_behind_ = false;
  });
  state_ = State::kReopening;
}

rocksdb::Status WriteGate::Enter(Entry entry) {
  std::unique_lock lock(mutex_);
  const auto least = Clock::now() + kLeastPatience;
  const bool alone = entry == Entry::kEdit;
  if (alone) ++edits_waiting_;
  rocksdb::Status status;
  while (true) {
    const auto until = std::max(least, failed_at_ + kPatience);
    if (state_ == State::kRecovered) {
      Reopen(&lock, reopen_);
    } else if (state_ == State::kGaveUp && !recovering_behind_ && Clock::now() >= next_recovery_) {
      RecoverBehind();
    } else if (state_ == State::kShut) {
      status = error_;
      break;
    } else if (state_ == State::kOpen) {
      if (HasRoom(entry)) break;
      changed_.wait(lock);
    } else if (Clock::now() >= until) {
      status = error_;
      break;
    } else {
      changed_.wait_until(lock, state_ == State::kGaveUp && !recovering_behind_
                                    ? std::min(until, next_recovery_)
                                    : until);
    }
  }
  if (alone) --edits_waiting_;
  if (!status.ok()) {
    changed_.notify_all();
    return status;
  }
  if (entry == Entry::kWrite) ++writers_;
  if (alone) {
    editing_ = true;
    editor_ = std::this_thread::get_id();
  }
  return status;
}

void WriteGate::Leave(Entry entry) {
  std::lock_guard lock(mutex_);
  if (entry == Entry::kWrite) --writers_;
  if (entry == Entry::kEdit) editing_ = false;
  changed_.notify_all();
}

void WriteGate::Failed(const rocksdb::Status& error, bool recovers) {
  std::unique_lock lock(mutex_);
  const auto fail = [&] {
    if (state_ == State::kOpen) {
      ++outages_;
      failed_at_ = Clock::now();
    }
    if (state_ != State::kShut) state_ = recovers ? State::kRecovering : State::kShut;
    error_ = error;
    successes_ = 0;
    changed_.notify_all();
  };
  fail();
  if (std::this_thread::get_id() != editor_) {
    changed_.wait_for(lock, kEditPatience, [this] { return !editing_; });
  }
  const auto turn = std::max(Clock::now(), next_error_);
  next_error_ = turn + kErrorSpacing;
  changed_.wait_until(lock, turn, [&] { return Clock::now() >= turn; });
  fail();  // a recovery that ended meanwhile knew nothing of this error
}

void WriteGate::RecoveryEnded(const rocksdb::Status& before, const rocksdb::Status& after) {
  std::lock_guard lock(mutex_);
  if (!after.ok()) {
    const bool final =
        after.IsShutdownInProgress() || before.severity() >= rocksdb::Status::Severity::kFatalError;
    state_ = final ? State::kShut : State::kGaveUp;
    error_ = after;
  } else if (++successes_ >= 2 && before.ok() && state_ != State::kOpen) {
    state_ = State::kRecovered;
  }
  changed_.notify_all();
}

void WriteGate::AwaitRecovery(const std::atomic<int>& holds) {
  const int before = holds;
  const auto until = Clock::now() + kClosingPatience;
  std::unique_lock lock(mutex_);
  while (state_ == State::kRecovering && holds == before && Clock::now() < until) {
    changed_.wait_for(lock, kClosingPoll);
  }
  lock.unlock();
  if (recoverer_.joinable()) recoverer_.join();
}

}  // namespace lectern::storage
