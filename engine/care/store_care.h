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
// Besides the walk, a question that met damage has its corpus walked at once (Suspect).
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/ingest/ingest.h"
#include "storage/store.h"

namespace lectern::engine {

class StoreCare {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    Ingest* ingest = nullptr;
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
    int64_t quarantined = 0;                 // generations
    int64_t rebuilds = 0;                    // begun
  };
  Counters counters() const;

 private:
  void Loop();
  void Walk(uint64_t corpus_uid);  // 0: everything
  void Treat(const storage::Damage& damage);
  void Rebuild(const storage::Generation& generation);
  void RetryRebuilds();
  // What an earlier process quarantined and did not come to rebuild.
  void FindQuarantined();

  const Surroundings around_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<uint64_t> suspects_;  // corpora
  Counters counters_;
  // Damage that was counted before: a walk meets it again until it is gone.
  std::set<std::string> known_;
  std::set<uint64_t> to_rebuild_;  // generations whose rebuild could not be begun yet
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace lectern::engine
