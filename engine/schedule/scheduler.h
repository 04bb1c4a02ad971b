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
#include "engine/schedule/run.h"
#include "engine/schedule/schedule_policy.h"

namespace lectern::engine {

struct SchedulerOptions {
  ScheduleLimits limits;
  int64_t pool_slot_bytes = 0;  // for what refusals say
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
  //   RESOURCE_EXHAUSTED QUEUE_FULL (limit); another tenant's question may be ended with the same
  //     error to make room, see SchedulePolicy::Arrive
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
  int64_t displaced() const;  // questions, so far

 private:
  void Loop();
  absl::Status CheckNeeds(const RunNeeds& needs) const;
  // Step thread only.
  void FailEnded(int64_t now_us);
  void Admit();
  void RunStep();
  void WaitAgain(RunId id);
  void EndActive(RunId id, const absl::Status& status, bool draining);

  Decoder* const decoder_;
  const SchedulerOptions options_;
  const std::function<int64_t()> clock_us_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  // Guarded by mutex_.
  SchedulePolicy policy_;
  std::map<RunId, std::unique_ptr<Run>> waiting_;
  std::vector<std::unique_ptr<Run>> displaced_;  // still to be told
  RunId last_id_ = kNoRun;
  int64_t active_count_ = 0;
  int64_t displaced_count_ = 0;
  bool draining_ = false;
  int64_t drain_deadline_us_ = 0;
  bool stop_ = false;
  bool woken_ = false;

  std::map<RunId, std::unique_ptr<Run>> active_;  // step thread only

  std::thread thread_;
};

}  // namespace lectern::engine
