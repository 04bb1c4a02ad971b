// Backups of a store that goes on being used: everything as it was at one moment, copied to a
// directory at a bounded rate.
//
// The moment is a checkpoint of the store beside its data, which links files and copies none of
// them. They are then copied one after the other to `.partial-<store>-<id>` in the directory of
// backups, each synced and its link dropped, FORMAT last; the finished backup gets its name by one
// rename. Whatever ends a backup before that (an error, a cancellation, the end of the process)
// leaves nothing under that name; what it had copied goes with it, or with the next Open.
//
// While a backup runs, tables that the store drops stay on the disk until they have been copied,
// and are not in its account of bytes. One backup runs at a time. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/types.h"
#include "storage/store.h"

namespace lectern::engine {

class StoreBackups {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    std::string directory;         // of backups; empty: there are none
    std::string staging;           // where the checkpoint goes: on the file system of the data
    int64_t bytes_per_second = 0;  // of copying; 0: as fast as it goes
    std::function<int64_t()> clock_us;
  };
  // Makes the directory if it is absent, and removes what a process before this one left
  // unfinished. INVALID_ARGUMENT OPTION_INVALID: the directory cannot be used.
  static absl::StatusOr<std::unique_ptr<StoreBackups>> Open(const Surroundings& surroundings);
  // Cancels the one that runs.
  ~StoreBackups();
  StoreBackups(const StoreBackups&) = delete;
  StoreBackups& operator=(const StoreBackups&) = delete;

  // Begins one and returns. `id` empty: made of the time. The id of one that failed or was
  // cancelled may be used again.
  //   FAILED_PRECONDITION BACKUP_DIR_MISSING, BACKUP_RUNNING (metadata: backup)
  //   ALREADY_EXISTS      BACKUP_EXISTS
  absl::StatusOr<Backup> Create(std::string_view id);
  // NOT_FOUND BACKUP_NOT_FOUND.
  absl::StatusOr<Backup> Get(std::string_view id);
  // By id: those that lie in the directory, complete, and those of this process that are not.
  absl::StatusOr<Page<Backup>> List(const PageRequest& page);
  // Returns when it has ended. One that has ended already is returned as it is.
  absl::StatusOr<Backup> Cancel(std::string_view id);

 private:
  explicit StoreBackups(const Surroundings& surroundings) : around_(surroundings) {}

  absl::Status CheckEnabled() const;
  std::string Partial(std::string_view id) const;
  void RemoveLeftovers();
  // All of List, and its lock must be held.
  std::map<std::string, Backup> Known() const;
  void Run(const std::string& id);
  absl::Status Copy(const std::string& id);
  absl::Status CopyFile(const std::string& from, const std::string& to);
  // Waits until `bytes` more may have been copied; CANCELLED.
  absl::Status Account(int64_t bytes);

  const Surroundings around_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Backup> own_;  // guarded by mutex_: begun by this process, by id
  std::string running_;                // guarded by mutex_: an id, or empty
  bool cancelled_ = false;             // guarded by mutex_: `running_` is to end
  int64_t copied_bytes_ = 0;           // of the thread alone, as is the next
  std::chrono::steady_clock::time_point copy_begin_;
  std::thread thread_;  // joined before the next one begins
};

}  // namespace lectern::engine
