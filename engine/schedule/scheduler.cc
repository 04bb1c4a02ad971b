#include "engine/schedule/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

absl::Status Draining() {
  return Error(absl::StatusCode::kUnavailable, "DRAINING",
               "the server is shutting down: ask again in a moment");
}

absl::Status QueueFull(int32_t limit) {
  return Error(
      absl::StatusCode::kResourceExhausted, "QUEUE_FULL",
      fmt::format("{} questions are waiting or running, which is the limit: try again in a moment",
                  limit),
      {{"limit", fmt::to_string(limit)}});
}

absl::Status TooLittle(std::string_view reason, std::string_view what, std::string_view flag,
                       int64_t needed_bytes, int64_t limit_bytes) {
  return Error(absl::StatusCode::kResourceExhausted, reason,
               fmt::format("it needs {} bytes of {} at once, and there are {}: raise {}",
                           needed_bytes, what, limit_bytes, flag),
               {{"needed_bytes", fmt::to_string(needed_bytes)},
                {"limit_bytes", fmt::to_string(limit_bytes)}});
}

}  // namespace

Scheduler::Scheduler(Decoder* decoder, const SchedulerOptions& options,
                     std::function<int64_t()> clock_us)
    : decoder_(decoder),
      options_(options),
      clock_us_(std::move(clock_us)),
      policy_(options.limits),
      thread_([this] { Loop(); }) {}

Scheduler::~Scheduler() {
  Drain(0);
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status Scheduler::Submit(std::unique_ptr<Run> run) {
  const RunNeeds needs = run->MemoryNeeds();
  if (absl::Status status = CheckNeeds(needs); !status.ok()) return status;
  {
    std::lock_guard lock(mutex_);
    if (draining_) return Draining();
    const RunId id = ++last_id_;
    const SchedulePolicy::Arrival arrival = policy_.Arrive(id, run->terms(), needs);
    if (!arrival.accepted) return QueueFull(options_.limits.questions);
    if (arrival.displaced != kNoRun) {
      displaced_.push_back(std::move(waiting_.extract(arrival.displaced).mapped()));
      ++displaced_count_;
    }
    waiting_.emplace(id, std::move(run));
    woken_ = true;
  }
  wake_.notify_all();
  return absl::OkStatus();
}

void Scheduler::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_all();
}

void Scheduler::Drain(int64_t grace_us) {
  std::unique_lock lock(mutex_);
  const int64_t deadline = clock_us_() + grace_us;
  drain_deadline_us_ = draining_ ? std::min(drain_deadline_us_, deadline) : deadline;
  draining_ = true;
  woken_ = true;
  wake_.notify_all();
  idle_.wait(lock, [this] { return waiting_.empty() && displaced_.empty() && active_count_ == 0; });
}

int64_t Scheduler::queued() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(waiting_.size());
}

int64_t Scheduler::running() const {
  std::lock_guard lock(mutex_);
  return active_count_;
}

int64_t Scheduler::displaced() const {
  std::lock_guard lock(mutex_);
  return displaced_count_;
}

void Scheduler::Loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (active_.empty() && waiting_.empty() && displaced_.empty()) {
        idle_.notify_all();
        wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
        if (stop_) return;
      } else if (active_.empty()) {
        // Something waits for room that nobody holds any more, or for its cancellation: look again
        // soon at the latest.
        if (!woken_)
          wake_.wait_for(lock, std::chrono::milliseconds(20), [this] { return woken_ || stop_; });
      }
      woken_ = false;
    }
    FailEnded(clock_us_());
    Admit();
    RunStep();
  }
}

// Cancelled, expired, drained and displaced runs end here, before they cost another step.
void Scheduler::FailEnded(int64_t now_us) {
  bool draining;
  int64_t drain_deadline_us;
  std::vector<std::pair<std::unique_ptr<Run>, absl::Status>> ended;
  const auto verdict = [&](const Run& run) -> absl::Status {
    if (run.cancelled())
      return Error(absl::StatusCode::kCancelled, "CANCELLED", "cancelled by the caller");
    if (run.terms().deadline_us != 0 && now_us >= run.terms().deadline_us) {
      return Error(absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED",
                   "the deadline passed before the answer was complete");
    }
    if (draining && (run.terms().kind == RunKind::kIngest || now_us >= drain_deadline_us))
      return Draining();
    return absl::OkStatus();
  };
  {
    std::lock_guard lock(mutex_);
    draining = draining_;
    drain_deadline_us = drain_deadline_us_;
    for (std::unique_ptr<Run>& run : displaced_) {
      ended.emplace_back(std::move(run), QueueFull(options_.limits.questions));
    }
    displaced_.clear();
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (absl::Status status = verdict(*it->second); !status.ok()) {
        policy_.End(it->first);
        ended.emplace_back(std::move(it->second), std::move(status));
        it = waiting_.erase(it);
      } else {
        ++it;
      }
    }
    active_count_ += static_cast<int64_t>(ended.size());  // until they have been told
  }
  for (auto& [run, status] : ended) {
    run->Fail(status, draining && !run->cancelled());
    run.reset();
    std::lock_guard lock(mutex_);
    --active_count_;
  }
  std::vector<std::pair<RunId, absl::Status>> over;
  for (const auto& [id, run] : active_) {
    if (absl::Status status = verdict(*run); !status.ok()) over.emplace_back(id, status);
  }
  for (const auto& [id, status] : over) {
    EndActive(id, status, draining && !active_.at(id)->cancelled());
  }
}

absl::Status Scheduler::CheckNeeds(const RunNeeds& needs) const {
  const MemoryLedger::Limits& limits = options_.limits.memory;
  if (needs.kv_slots > limits.kv_slots) {
    return TooLittle("POOL_TOO_SMALL", "the block pool", "--pool_bytes",
                     needs.kv_slots * options_.pool_slot_bytes,
                     limits.kv_slots * options_.pool_slot_bytes);
  }
  const int64_t index_slots = needs.index_slots + needs.base_index_slots;
  if (index_slots > limits.index_slots) {
    return TooLittle("INDEX_MEMORY_TOO_SMALL", "index keys", "--index_bytes",
                     index_slots * options_.index_slot_bytes,
                     limits.index_slots * options_.index_slot_bytes);
  }
  return absl::OkStatus();
}

void Scheduler::Admit() {
  for (;;) {
    RunId id;
    {
      std::lock_guard lock(mutex_);
      id = policy_.Admit();
      if (id == kNoRun) return;
      active_.emplace(id, std::move(waiting_.extract(id).mapped()));
      ++active_count_;
    }
    // Opening a context reads from disk; submitters need not wait for it.
    const absl::Status status = active_.at(id)->Start();
    if (!status.ok() || active_.at(id)->done()) EndActive(id, status, false);
  }
}

void Scheduler::RunStep() {
  if (active_.empty()) return;
  std::vector<SchedulePolicy::Wish> wishes;
  for (const auto& [id, run] : active_) wishes.push_back({.run = id, .wish = run->NextWish()});
  std::vector<SchedulePolicy::Grant> grants;
  {
    std::lock_guard lock(mutex_);
    grants = policy_.PlanStep(wishes);
  }
  std::vector<RunId> ids;
  std::vector<StepSegment> segments;
  std::vector<std::pair<RunId, absl::Status>> failed;
  for (const SchedulePolicy::Grant& grant : grants) {
    absl::StatusOr<StepSegment> segment = active_.at(grant.run)->Prepare(grant.tokens);
    if (!segment.ok()) {
      failed.emplace_back(grant.run, segment.status());
      continue;
    }
    ids.push_back(grant.run);
    segments.push_back(*segment);
  }
  std::vector<SegmentResult> results = decoder_->Step(segments);
  for (size_t i = 0; i < ids.size(); ++i) {
    Run& run = *active_.at(ids[i]);
    absl::Status status = results[i].status;
    if (status.ok()) {
      status = run.AfterStep(std::move(results[i]));
    } else if (run.AsksForLess()) {
      continue;
    }
    if (!status.ok()) failed.emplace_back(ids[i], status);
  }
  for (const auto& [id, status] : failed) EndActive(id, status, false);
  std::vector<RunId> done, between;
  for (const auto& [id, run] : active_) {
    if (run->done()) {
      done.push_back(id);
    } else if (run->between_contexts()) {
      between.push_back(id);
    }
  }
  for (const RunId id : between) WaitAgain(id);
  for (const RunId id : done) EndActive(id, absl::OkStatus(), false);
}

void Scheduler::WaitAgain(RunId id) {
  const RunNeeds needs = active_.at(id)->MemoryNeeds();
  if (const absl::Status status = CheckNeeds(needs); !status.ok()) {
    EndActive(id, status, false);
    return;
  }
  std::lock_guard lock(mutex_);
  policy_.WaitAgain(id, needs);
  waiting_.emplace(id, std::move(active_.extract(id).mapped()));
  --active_count_;
  woken_ = true;
}

void Scheduler::EndActive(RunId id, const absl::Status& status, bool draining) {
  std::unique_ptr<Run> run = std::move(active_.extract(id).mapped());
  if (!status.ok()) run->Fail(status, draining);
  run.reset();  // gives its blocks back
  std::lock_guard lock(mutex_);
  policy_.End(id);
  --active_count_;
}

}  // namespace lectern::engine
