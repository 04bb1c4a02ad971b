// Something that wants tokens computed, step after step: an ingest or a question. The scheduler
// owns runs and calls them on the step thread only; Cancel may come from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/decoder.h"
#include "engine/schedule/memory_ledger.h"
#include "engine/types.h"

namespace lectern::engine {

// Set by whoever holds the ticket, read by the step thread: cancellation takes effect before the
// next step.
class CancelFlag {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> cancelled_{false};
};

enum class RunKind {
  kQuestion,  // somebody waits
  kIngest,    // runs with what questions leave
};

// What decides whose turn it is (schedule_policy.h).
struct RunTerms {
  RunKind kind = RunKind::kQuestion;
  Priority priority = Priority::kInteractive;  // of questions
  uint64_t tenant_uid = 0;
  int32_t weight = 1;       // of the tenant, 1 to kMaxTenantWeight
  int64_t deadline_us = 0;  // Unix microseconds; 0: none
};

class Run {
 public:
  Run(const RunTerms& terms, std::shared_ptr<CancelFlag> cancel)
      : terms_(terms), cancel_(std::move(cancel)) {}
  virtual ~Run() = default;
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  const RunTerms& terms() const { return terms_; }
  bool cancelled() const { return cancel_->cancelled(); }
  const std::shared_ptr<CancelFlag>& cancel_flag() const { return cancel_; }
  // Memory that it holds from Start to its end, or until it is between two contexts: admission
  // waits until all of it can be spared.
  virtual RunNeeds MemoryNeeds() const = 0;

  // Called once, when it is admitted: opens its context. An error ends the run through Fail. It may
  // be done with that: there was nothing left to do.
  virtual absl::Status Start() = 0;

  // True after a step, if what it does next needs another context: it has given back what it held,
  // waits again with MemoryNeeds as they are now, and is started once more. It keeps its place in
  // the order of arrival, and makes no room for others any more. Must be false once Start was
  // called.
  virtual bool between_contexts() const { return false; }

  // What the next step shall do for it. REQUIRES: started, not done.
  struct Wish {
    int64_t tokens = 0;  // > 0; fewer may be granted when `tiled`, all or none otherwise
    bool tiled = true;   // prefill, else decode
    int64_t spare = 0;   // decode rows beside `tokens` that the step may hold, or some, or none
  };
  virtual Wish NextWish() const = 0;

  // The next step's segment with `tokens` tokens, spare ones included; what it points to must live
  // until AfterStep. An error ends the run through Fail.
  virtual absl::StatusOr<StepSegment> Prepare(int64_t tokens) = 0;

  // Takes in what the step computed. An error ends the run through Fail.
  virtual absl::Status AfterStep(SegmentResult result) = 0;

  // The step failed for it, which may be due to what it need not have asked for. True: it asks for
  // less now and goes on.
  virtual bool AsksForLess() { return false; }

  // Nothing is left to do; the scheduler then destroys it.
  virtual bool done() const = 0;

  // It ends with an error: its own, cancellation, a deadline, or the engine draining (`draining`:
  // an ingest keeps what it has and resumes at the next start). The scheduler then destroys it.
  virtual void Fail(const absl::Status& status, bool draining) = 0;

 private:
  const RunTerms terms_;
  const std::shared_ptr<CancelFlag> cancel_;
};

}  // namespace lectern::engine
