// Who uses which corpus now, and when each was used last: what eviction must not touch, and the
// order in which it goes. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "storage/catalog.h"

namespace lectern::engine {

class CorpusUses {
 public:
  CorpusUses(storage::Catalog* catalog, std::function<int64_t()> clock_us)
      : catalog_(catalog), clock_us_(std::move(clock_us)) {}
  CorpusUses(const CorpusUses&) = delete;
  CorpusUses& operator=(const CorpusUses&) = delete;

  // The corpus is in use for as long as this lives, which must not outlive the CorpusUses. Taken
  // before a generation is looked up: from then on its blocks stay.
  using Use = std::shared_ptr<void>;
  Use Begin(uint64_t corpus_uid);

  // Runs `evict` unless the corpus is in use, and lets no use begin before it has returned. Returns
  // false, and runs nothing, if it is in use.
  bool IfIdle(uint64_t corpus_uid, const std::function<void()>& evict);

  bool InUse(uint64_t corpus_uid) const;
  // Unix microseconds: the later of what storage knows and the last use of this process.
  int64_t LastUsed(uint64_t corpus_uid, int64_t stored) const;

  // Writes the times that have changed to storage, so that the order outlives the process. What a
  // crash takes of it is the time since the last call.
  absl::Status Save();

 private:
  struct Entry {
    int64_t running = 0;
    int64_t last_used = 0;
    bool changed = false;
  };
  void End(uint64_t corpus_uid);

  storage::Catalog* const catalog_;
  const std::function<int64_t()> clock_us_;
  mutable std::mutex mutex_;
  std::map<uint64_t, Entry> entries_;  // of corpora in use, or used since the last Save
};

}  // namespace lectern::engine
