// Keeps the data directory under its cap. Whoever is going to write bytes has them promised first;
// when there is no room for them, caches are evicted until there is, or the promise is refused.
//
// The account is the file system's: blocks that the files of the directory take
// (storage::DiskUsage), plus what is promised and not yet written, plus the headroom that the
// store's log, flushes and compactions need for a while. A promise is given only while the three
// together stay under the cap.
//
// What goes first: whatever has expired or was deleted already; generations that were superseded
// and that no session runs on (they go altogether, with documents that only they hold); then the
// caches of corpora by the time of their last use, the oldest first. Pinned corpora and those in
// use (a question, an ingest, a rebuild) are never touched. An eviction drops blocks and never
// documents. Room counts once files are gone from the directory, not before.
//
// Thread-safe. Reserve may take seconds while it evicts; other reservations wait for it only if
// they need room to be made as well.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/room/corpus_uses.h"
#include "storage/store.h"

namespace lectern::engine {

class DiskRoom;

// Bytes that may be written. Given back as they are written (they are then on disk, and counted
// there) and with the object.
class DiskPromise {
 public:
  DiskPromise() = default;
  DiskPromise(DiskPromise&& other) noexcept;
  DiskPromise& operator=(DiskPromise&& other) noexcept;
  ~DiskPromise();

  int64_t bytes() const { return bytes_; }
  void Written(int64_t bytes);

 private:
  friend class DiskRoom;
  DiskPromise(DiskRoom* room, int64_t bytes) : room_(room), bytes_(bytes) {}

  DiskRoom* room_ = nullptr;
  int64_t bytes_ = 0;
};

// A generation that may be evicted.
struct Evictable {
  storage::CachedGeneration generation;
  int64_t last_used = 0;
  // Superseded, and no session runs on it: it goes altogether.
  bool superseded() const { return !generation.current && generation.sessions == 0; }
};

class DiskRoom {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    CorpusUses* uses = nullptr;
    int64_t cap_bytes = 0;  // 0: none; everything is promised then
    // Deletes corpora and sessions that have expired.
    std::function<void()> delete_expired;
  };
  explicit DiskRoom(const Surroundings& surroundings) : around_(surroundings) {}
  DiskRoom(const DiskRoom&) = delete;
  DiskRoom& operator=(const DiskRoom&) = delete;

  int64_t cap_bytes() const { return around_.cap_bytes; }
  // The least cap that leaves something beside the store's own headroom.
  static constexpr int64_t kLeastCapBytes = int64_t{64} << 20;

  // Promises `bytes` for `what` ("the cache of corpus x"), making room if it must; `stop` is asked
  // in between.
  //   RESOURCE_EXHAUSTED DISK_CAP_EXCEEDED (needed_bytes, available_bytes, cap_bytes): it would not
  //     fit with everything evicted that may be; nothing is evicted then
  //   RESOURCE_EXHAUSTED DISK_FULL: the file system itself has no room for it
  //   CANCELLED: `stop` said so
  absl::StatusOr<DiskPromise> Reserve(
      int64_t bytes, std::string_view what,
      const std::function<bool()>& stop = [] { return false; });

  // Evicts until the directory is under its cap, as far as that goes: after the cap was lowered.
  absl::Status ShrinkToCap();

  // In the order in which they go. Corpora that are pinned or in use are not in it.
  absl::StatusOr<std::vector<Evictable>> EvictionOrder() const;
  // The same of generations that were looked up already.
  std::vector<Evictable> EvictionOrder(std::vector<storage::CachedGeneration> cached) const;

  int64_t promised_bytes() const;
  struct Evictions {
    int64_t superseded = 0;
    int64_t least_recently_used = 0;
  };
  Evictions evictions() const;

 private:
  friend class DiskPromise;

  // Bytes that may still be promised; negative when the cap is exceeded. Under mutex_.
  absl::StatusOr<int64_t> Available() const;
  // A promise if there is room, else none.
  absl::StatusOr<std::optional<DiskPromise>> TryReserve(int64_t bytes);
  absl::StatusOr<DiskPromise> MakeRoom(int64_t bytes, std::string_view what,
                                       const std::function<bool()>& stop);
  // Gives back what is deleted already and waits for the files to go.
  absl::Status Collect(const std::function<bool()>& stop);
  // The first that is still evictable. False: there is none.
  absl::StatusOr<bool> EvictFirst();
  void GiveBack(int64_t bytes);

  const Surroundings around_;
  std::mutex making_;  // one maker of room at a time; taken before mutex_
  mutable std::mutex mutex_;
  int64_t promised_ = 0;  // guarded by mutex_
  std::atomic<int64_t> superseded_{0};
  std::atomic<int64_t> least_recently_used_{0};
};

}  // namespace lectern::engine
