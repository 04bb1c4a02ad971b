// The life of a document after its upload: ingest operations, from the request to the committed
// generation.
//
// An operation is a durable record (storage). Its work is done by two threads: the preparing thread
// extracts, tokenizes and writes the ingest intent; the scheduler's step thread prefills
// (ingest_run.h). Every state between is on disk, so that Resume, called when the engine opens,
// continues whatever an earlier process left. All public methods may be called from any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/ingest/ingest_plan.h"
#include "engine/ingest/ingest_run.h"
#include "engine/room/corpus_uses.h"
#include "engine/room/disk_room.h"
#include "engine/room/request_memory.h"
#include "engine/schedule/scheduler.h"
#include "storage/store.h"

namespace lectern::engine {

// What an ingest operation keeps in storage::Operation::detail.
struct IngestDetail {
  uint64_t source_generation = 0;  // of a rebuild: what it rebuilds
  int64_t tokens_cached = 0;
  int64_t documents = 0;
  int64_t contexts = 0;
  int64_t cache_bytes = 0;
  int resumed = 0;
  std::map<std::string, std::string> error_metadata;

  std::string Serialize() const;
  static IngestDetail Parse(const std::string& bytes);  // what cannot be read is zero
};

class Ingest {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    ServingModel* model = nullptr;
    KvMemory* memory = nullptr;
    Scheduler* scheduler = nullptr;
    Counters* counters = nullptr;
    CorpusUses* uses = nullptr;
    DiskRoom* room = nullptr;
    RequestMemory* request_memory = nullptr;
    std::function<int64_t()> clock_us;
    int64_t chunk_tokens = 0;
  };

  explicit Ingest(const Surroundings& surroundings);
  // REQUIRES: the scheduler is drained. Operations that were not finished resume at the next start.
  ~Ingest();

  // Continues the operations that storage knows as running.
  absl::Status Resume();

  // Creates and enqueues an operation. FAILED_PRECONDITION: CORPUS_EMPTY, INGEST_RUNNING
  // (operation).
  absl::StatusOr<storage::Operation> Begin(const storage::Corpus& corpus);
  // The same for a rebuild of one of its generations: restores it if its cache was evicted, makes a
  // new generation of its documents if it is of another model, does nothing if it is complete.
  absl::StatusOr<storage::Operation> BeginRebuild(const storage::Corpus& corpus,
                                                  uint64_t generation_uid);

  // What Begin would prefill, without storing anything; takes as long as reading and tokenizing the
  // documents.
  struct Estimate {
    int64_t tokens_total = 0;
    IngestDetail detail;
  };
  absl::StatusOr<Estimate> Validate(const storage::Corpus& corpus);

  // Asks a running operation to stop; what has ended already stays as it is.
  void Cancel(uint64_t operation_uid);
  // The same for whatever runs on a corpus that is about to be deleted.
  void CancelCorpus(uint64_t corpus_uid);

  // Operations whose end could not be written, the disk being full, are ended once it can. Until
  // then storage shows them as running; after a crash they resume.
  void RetryEnds();

  // Calls `done` from the thread that ends the operation. Returns false, and does not keep `done`,
  // if it is not running. The number names the watch for Unwatch, after which `done` is not called
  // any more.
  bool Watch(uint64_t operation_uid, std::function<void()> done, uint64_t* watch);
  void Unwatch(uint64_t watch);

 private:
  struct Job {
    uint64_t operation_uid = 0;
    uint64_t corpus_uid = 0;
    std::shared_ptr<CancelFlag> cancel;
    CorpusUses::Use use;  // nothing of the corpus is evicted meanwhile
    // For the tenant's disk quota: bytes that running ingests are going to store.
    uint64_t tenant_uid = 0;
    int64_t promised_bytes = 0;
  };

  absl::StatusOr<storage::Operation> Enqueue(const storage::Corpus& corpus,
                                             const storage::NewOperation& operation);
  void Loop();
  absl::Status Prepare(const Job& job);
  // DISK_QUOTA_EXCEEDED unless `bytes` more fit beside what the tenant's other ingests are going to
  // store; they are promised to this one then.
  absl::Status PromiseDisk(const Job& job, uint64_t tenant_uid, int64_t bytes);
  absl::Status WriteLayout(const Job& job, const IngestPlan& plan);
  void Ended(uint64_t operation_uid);
  // Writes how an operation ended that did not succeed: now, or as soon as it can be written.
  void End(uint64_t operation_uid, const absl::Status& status);
  bool TryEnd(uint64_t operation_uid, const absl::Status& status);
  // What an operation that has no intent yet is going to read, and where its blocks are to go.
  struct Source {
    std::vector<storage::Document> documents;
    std::vector<int64_t> sizes;  // of the contexts, if they are to be those that were
    uint64_t generation = 0;     // of a rebuild
    bool restore = false;
    bool complete = false;  // there is nothing to do
  };
  absl::StatusOr<Source> FindSource(const storage::Operation& operation) const;
  absl::StatusOr<std::vector<storage::Document>> Load(const std::vector<uint64_t>& uids) const;
  // Room on disk for what of `plan` is not stored yet, layout included.
  absl::StatusOr<DiskPromise> PromiseRoom(const Job& job, const IngestPlan& plan,
                                          const storage::IngestIntent& intent) const;
  // Whether the work on `job` shall stop: cancelled, or the engine is closing.
  bool Stopping(const Job& job) const;
  absl::StatusOr<std::vector<storage::Document>> Documents(uint64_t corpus_uid) const;
  absl::StatusOr<IngestPlan> Plan(uint64_t tenant_uid,
                                  const std::vector<storage::Document>& documents,
                                  std::span<const int64_t> sizes) const;
  // `cached_blocks`: of each context.
  IngestDetail Measure(const IngestPlan& plan, std::span<const int64_t> cached_blocks,
                       size_t documents) const;

  const Surroundings around_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;                     // to be prepared
  std::map<uint64_t, Job> running_;           // by operation, from Begin to Ended
  std::map<uint64_t, absl::Status> unended_;  // by operation: ended, and storage does not know it
  struct Watcher {
    uint64_t operation_uid;
    std::function<void()> done;
  };
  std::map<uint64_t, Watcher> watchers_;
  uint64_t next_watch_ = 1;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace lectern::engine
