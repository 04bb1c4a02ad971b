// Who may write to RocksDB now. Internal to storage.
//
// After a failed write RocksDB refuses all others, and a thread of its own writes what memory holds
// to new files, again and again until that succeeds (recoverable_file_system.h makes it do so for
// every kind of write error). Reading goes on. In 7.8.3 that recovery has faults, by each of which
// Debian's build, which has assertions on, ends the process; the gate keeps us out of their way:
//   - DB::Resume leaves a mark behind with which IngestExternalFiles reserves no file numbers and
//     Flush does not wait. The automatic recovery removes it, a little after it has cleared the
//     error: it alone is used, and nothing is let in before its second report of success.
//   - It takes for granted that no edit of the manifest fails beside it. Edits that callers make
//     themselves (ingesting, dropping files) are therefore alone, and an error that is reported
//     meanwhile waits for the end of the edit.
//   - Of two errors at once, each waits for the end of the thread of the recovery before: they are
//     let through one after the other.
//   - Two errors at once can make it give up; it may also end with the log that failed still in
//     use. Then it is made to begin anew.
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include <rocksdb/status.h>

namespace lectern::storage {

class WriteGate {
 public:
  enum class Entry {
    kWrite,       // beside others
    kEdit,        // of the manifest; alone
    kCompaction,  // beside everything; only refused while writing is not possible
  };

  // Called without a lock, one at a time: `reopen` after each recovery, by the first who wants to
  // enter; `recover` after one that gave up, on a thread of its own, since it can hang until
  // RocksDB is shut down. OK: the gate opens. kAborted: it was tried in vain. kBusy: a recovery is
  // under way. Any other error: RocksDB has reported one from which it recovers, or it was in vain.
  WriteGate(std::function<rocksdb::Status()> reopen, std::function<rocksdb::Status()> recover)
      : reopen_(std::move(reopen)), recover_(std::move(recover)) {}

  // OK: go on, and then Leave. Else the error that keeps the store from writing, after waiting a
  // bounded time for it to pass: longer at the start of an outage than later.
  rocksdb::Status Enter(Entry entry);
  void Leave(Entry entry);

  // What RocksDB reports, on the threads where it does, before it acts on it.
  void Failed(const rocksdb::Status& error, bool recovers);
  void RecoveryEnded(const rocksdb::Status& before, const rocksdb::Status& after);

  // Until no recovery is under way, or one is held (the count of `holds` has grown), or so long
  // that none will end; then until `recover` has returned. Nobody may enter any more.
  void AwaitRecovery(const std::atomic<int>& holds);

  // Times that writing stopped, and that it went on.
  uint64_t outages() const { return Count(outages_); }
  uint64_t recoveries() const { return Count(recoveries_); }

 private:
  enum class State {
    kOpen,
    kRecovering,
    kRecovered,  // and nobody was let in yet
    kGaveUp,
    kReopening,  // by one of those who want to enter
    kShut,       // until the store is opened again
  };

  uint64_t Count(const uint64_t& counter) const {
    std::lock_guard lock(mutex_);
    return counter;
  }
  void Reopen(std::unique_lock<std::mutex>* lock, const std::function<rocksdb::Status()>& how);
  void RecoverBehind();
  bool HasRoom(Entry entry) const;

  const std::function<rocksdb::Status()> reopen_;
  const std::function<rocksdb::Status()> recover_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All below: guarded by mutex_.
  State state_ = State::kOpen;
  rocksdb::Status error_;
  std::chrono::steady_clock::time_point failed_at_;  // when the outage began
  std::chrono::steady_clock::time_point next_error_;
  std::chrono::steady_clock::time_point next_recovery_;  // of those that gave up
  int successes_ = 0;                                    // reports of success since the last error
  int writers_ = 0;
  int edits_waiting_ = 0;
  bool editing_ = false;
  std::thread::id editor_;
  uint64_t outages_ = 0;
  uint64_t recoveries_ = 0;
  bool recovering_behind_ = false;  // recoverer_ is at work
  std::thread recoverer_;
};

}  // namespace lectern::storage
