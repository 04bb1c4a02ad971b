// The step thread: admits runs, plans batches, runs the decoder, and hands results back. Everything
// that touches contexts and the block pool happens on this thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/decoder.h"
#include "engine/schedule/batch_policy.h"
#include "engine/schedule/run.h"

namespace lectern::engine {

struct SchedulerOptions {
  BatchLimits limits;
  int32_t question_limit = 256;         // waiting or running
  int32_t active_questions_limit = 32;  // in steps at the same time
  int64_t pool_slots = 0;               // K/V slots that runs may hold between them
  int64_t pool_slot_bytes = 0;
  int64_t index_slots = 0;  // the same of blocks' index keys
  int64_t index_slot_bytes = 0;
};

class Scheduler {
 public:
  // `decoder` must outlive it; `clock_us` gives Unix microseconds.
  Scheduler(Decoder* decoder, const SchedulerOptions& options, std::function<int64_t()> clock_us);
  // Fails what is left (draining) and joins the thread.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Takes a run over, or returns an error and destroys it without calling it:
  //   RESOURCE_EXHAUSTED QUEUE_FULL (limit)
  //   RESOURCE_EXHAUSTED POOL_TOO_SMALL, INDEX_MEMORY_TOO_SMALL (needed_bytes, limit_bytes): it
  //   could
  //     never be admitted
  //   UNAVAILABLE DRAINING
  absl::Status Submit(std::unique_ptr<Run> run);

  // Refuses new runs from now on. Ingests stop after the step at hand; questions run on for at most
  // `grace_us`, then fail with UNAVAILABLE DRAINING. Returns when nothing runs any more.
  void Drain(int64_t grace_us);

  // Wakes the step thread to look at cancel flags. Any thread.
  void Wake();

  int64_t queued() const;
  int64_t running() const;

 private:
  void Loop();
  absl::Status CheckNeeds(const Run::Needs& needs) const;
  // Step thread only.
  bool Fits(const Run::Needs& needs) const;
  void Hold(const Run::Needs& needs);
  void Release(const Run::Needs& needs);
  void Admit(std::unique_lock<std::mutex>* lock);
  void FailCancelled(int64_t now_us);
  void RunStep();
  void EndRun(size_t index, const absl::Status& status, bool draining);

  Decoder* const decoder_;
  const SchedulerOptions options_;
  const std::function<int64_t()> clock_us_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  struct Waiting {
    std::unique_ptr<Run> run;
    int32_t overtaken = 0;  // by runs that came later and needed less
  };
  std::deque<Waiting> waiting_;    // guarded by mutex_
  int32_t questions_ = 0;          // waiting or active; guarded by mutex_
  int64_t active_count_ = 0;       // guarded by mutex_
  bool draining_ = false;          // guarded by mutex_
  int64_t drain_deadline_us_ = 0;  // guarded by mutex_
  bool stop_ = false;              // guarded by mutex_
  bool woken_ = false;             // guarded by mutex_

  // Step thread only.
  struct Active {
    std::unique_ptr<Run> run;
    Run::Needs needs;
  };
  std::vector<Active> active_;
  int64_t kv_slots_held_ = 0;
  int64_t index_slots_held_ = 0;  // bases included
  struct Base {
    int64_t runs = 0;
    int64_t slots = 0;  // the most that any of them named
  };
  std::map<uint64_t, Base> bases_;
  uint64_t turn_ = 0;

  std::thread thread_;
};

}  // namespace lectern::engine
