// Something that wants tokens computed, step after step: an ingest or a question. The scheduler
// owns runs and calls them on the step thread only; Cancel may come from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/decoder.h"

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

class Run {
 public:
  Run(RunKind kind, std::shared_ptr<CancelFlag> cancel, int64_t deadline_us)
      : kind_(kind), cancel_(std::move(cancel)), deadline_us_(deadline_us) {}
  virtual ~Run() = default;
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  RunKind kind() const { return kind_; }
  bool cancelled() const { return cancel_->cancelled(); }
  const std::shared_ptr<CancelFlag>& cancel_flag() const { return cancel_; }
  // Unix microseconds; 0: none.
  int64_t deadline_us() const { return deadline_us_; }

  // Memory that it holds from Start to its end: admission waits until all of it can be spared.
  // Never less than what it takes.
  struct Needs {
    int64_t kv_slots = 0;     // K/V slots: one layer of one block
    int64_t index_slots = 0;  // blocks whose index keys are its own
    // Blocks that it shares with every run of the same base (a generation's uid; 0: none): counted
    // once, however many there are.
    uint64_t base = 0;
    int64_t base_index_slots = 0;
  };
  virtual Needs MemoryNeeds() const = 0;

  // Called once, when it is admitted: opens its context. An error ends the run through Fail.
  virtual absl::Status Start() = 0;

  // What the next step shall do for it. REQUIRES: started, not done.
  struct Wish {
    int64_t tokens = 0;  // > 0; fewer may be granted when `tiled`, all or none otherwise
    bool tiled = true;   // prefill, else decode
  };
  virtual Wish NextWish() const = 0;

  // The next step's segment with `tokens` tokens; what it points to must live until AfterStep. An
  // error ends the run through Fail.
  virtual absl::StatusOr<StepSegment> Prepare(int64_t tokens) = 0;

  // Takes in what the step computed. An error ends the run through Fail.
  virtual absl::Status AfterStep(SegmentResult result) = 0;

  // Nothing is left to do; the scheduler then destroys it.
  virtual bool done() const = 0;

  // It ends with an error: its own, cancellation, a deadline, or the engine draining (`draining`:
  // an ingest keeps what it has and resumes at the next start). The scheduler then destroys it.
  virtual void Fail(const absl::Status& status, bool draining) = 0;

 private:
  const RunKind kind_;
  const std::shared_ptr<CancelFlag> cancel_;
  const int64_t deadline_us_;
};

}  // namespace lectern::engine
