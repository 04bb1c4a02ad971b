// Keeps what is stored worth trusting while the engine runs: walks the store at a bounded rate,
// takes what fails verification out of use, and has it computed again from the stored documents.
//
// What is done about a damage:
//   blocks, layout   the generations that stand on it are quarantined (no other is touched) and
//                    rebuilt; a session's own turns cannot be computed again: asking them is
//                    DATA_LOSS
//   hash             the entry goes: those blocks are not shared any more
//   document         reported; the cache made of it goes on answering, a rebuild needs the document
//   catalog          reported; `lectern restore` brings back a backup
// Besides the walk, a question that met damage has its corpus walked at once (Suspect). Blocks that
// are read so slowly that computing them again is quicker, or not at all, are given up as well
// (recompute_policy.h). A rebuild that fails is begun again, with growing pauses, kRebuildAttempts
// times in all.
// Thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/care/read_watch.h"
#include "engine/ingest/ingest.h"
#include "engine/schedule/prefill_rate.h"
#include "storage/store.h"

namespace lectern::engine {

class StoreCare {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    Ingest* ingest = nullptr;
    ReadWatch* reads = nullptr;
    const PrefillRate* prefill_rate = nullptr;
    int64_t bytes_per_second = 0;  // of the walk; 0: only what is suspected is looked at
  };

  explicit StoreCare(const Surroundings& surroundings);
  ~StoreCare();  // ends a walk between two records

  // Something of this corpus failed verification when it was read. Returns at once.
  void Suspect(uint64_t corpus_uid);

  struct Counters {
    int64_t records = 0;
    int64_t bytes = 0;
    int64_t walks = 0;                       // of the whole store, completed
    std::map<std::string, int64_t> damages;  // by kind
    int64_t quarantined = 0;                 // generations, because of damage
    std::map<std::string, int64_t> recomputed = {{"slow", 0}, {"unreadable", 0}};  // generations
    int64_t rebuilds = 0;                                                          // begun
  };
  Counters counters() const;

  static constexpr int kRebuildAttempts = 6;

 private:
  using Clock = std::chrono::steady_clock;
  // A generation that waits for its rebuild to be begun, or to succeed.
  struct Wanted {
    int attempts = 0;
    Clock::time_point not_before;
    uint64_t operation_uid = 0;  // the last one
  };
  // How the contexts of a generation could be read.
  struct Experience {
    int failures = 0;              // in a row
    Clock::time_point not_before;  // given up again
  };

  void Loop();
  void Walk(uint64_t corpus_uid);  // 0: everything
  void Treat(const storage::Damage& damage);
  // What comes up besides, also in the middle of a walk.
  void Tend();
  void WeighReads();
  void WeighReport(const ReadReport& report);
  bool CanReadDocuments(const storage::Generation& generation) const;
  void Rebuild(const std::vector<storage::Generation>& generations);
  void RetryRebuilds();
  // False when there is nothing to be done for it any more.
  bool RetryRebuild(uint64_t generation_uid, Wanted* wanted);
  // What an earlier process quarantined and did not come to rebuild.
  void FindQuarantined();

  const Surroundings around_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint64_t> suspects_;  // corpora
  Counters counters_;
  // Damage that was counted before: a walk meets it again until it is gone.
  std::set<std::string> known_;
  std::map<uint64_t, Wanted> to_rebuild_;  // by generation
  // Of the thread alone, by generation.
  std::map<uint64_t, Experience> experience_;
  Clock::time_point next_tend_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace lectern::engine
