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

// Small runs may go before one that waits for memory so often; then it is its turn.
constexpr int32_t kMostOvertaken = 64;

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
  if (absl::Status status = CheckNeeds(run->MemoryNeeds()); !status.ok()) return status;
  {
    std::lock_guard lock(mutex_);
    if (draining_) return Draining();
    if (run->kind() == RunKind::kQuestion) {
      if (questions_ >= options_.question_limit) {
        return Error(
            absl::StatusCode::kResourceExhausted, "QUEUE_FULL",
            fmt::format(
                "{} questions are waiting or running, which is the limit: try again in a moment",
                questions_),
            {{"limit", fmt::to_string(options_.question_limit)}});
      }
      ++questions_;
    }
    waiting_.push_back({.run = std::move(run)});
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
  idle_.wait(lock, [this] { return waiting_.empty() && active_count_ == 0; });
}

int64_t Scheduler::queued() const {
  std::lock_guard lock(mutex_);
  return static_cast<int64_t>(waiting_.size());
}

int64_t Scheduler::running() const {
  std::lock_guard lock(mutex_);
  return active_count_;
}

void Scheduler::Loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (active_.empty() && waiting_.empty()) {
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
    FailCancelled(clock_us_());
    {
      std::unique_lock lock(mutex_);
      Admit(&lock);
    }
    RunStep();
  }
}

// Cancelled, expired and drained runs end here, before they cost another step.
void Scheduler::FailCancelled(int64_t now_us) {
  bool draining;
  int64_t drain_deadline_us;
  std::vector<std::pair<std::unique_ptr<Run>, absl::Status>> ended;
  const auto verdict = [&](const Run& run) -> absl::Status {
    if (run.cancelled())
      return Error(absl::StatusCode::kCancelled, "CANCELLED", "cancelled by the caller");
    if (run.deadline_us() != 0 && now_us >= run.deadline_us()) {
      return Error(absl::StatusCode::kDeadlineExceeded, "DEADLINE_EXCEEDED",
                   "the deadline passed before the answer was complete");
    }
    if (draining && (run.kind() == RunKind::kIngest || now_us >= drain_deadline_us))
      return Draining();
    return absl::OkStatus();
  };
  {
    std::lock_guard lock(mutex_);
    draining = draining_;
    drain_deadline_us = drain_deadline_us_;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (absl::Status status = verdict(*it->run); !status.ok()) {
        ended.emplace_back(std::move(it->run), std::move(status));
        it = waiting_.erase(it);
      } else {
        ++it;
      }
    }
    active_count_ += static_cast<int64_t>(ended.size());  // until they have been told
  }
  for (auto& [run, status] : ended) {
    run->Fail(status, draining && !run->cancelled());
    std::lock_guard lock(mutex_);
    if (run->kind() == RunKind::kQuestion) --questions_;
    --active_count_;
  }
  for (size_t i = active_.size(); i-- > 0;) {
    if (absl::Status status = verdict(*active_[i].run); !status.ok()) {
      EndRun(i, status, draining && !active_[i].run->cancelled());
    }
  }
}

absl::Status Scheduler::CheckNeeds(const Run::Needs& needs) const {
  if (needs.kv_slots > options_.pool_slots) {
    return TooLittle("POOL_TOO_SMALL", "the block pool", "--pool_bytes",
                     needs.kv_slots * options_.pool_slot_bytes,
                     options_.pool_slots * options_.pool_slot_bytes);
  }
  const int64_t index_slots = needs.index_slots + needs.base_index_slots;
  if (index_slots > options_.index_slots) {
    return TooLittle("INDEX_MEMORY_TOO_SMALL", "index keys", "--index_bytes",
                     index_slots * options_.index_slot_bytes,
                     options_.index_slots * options_.index_slot_bytes);
  }
  return absl::OkStatus();
}

bool Scheduler::Fits(const Run::Needs& needs) const {
  int64_t index_slots = needs.index_slots;
  if (needs.base != 0) {
    const auto base = bases_.find(needs.base);
    const int64_t held = base == bases_.end() ? 0 : base->second.slots;
    index_slots += std::max<int64_t>(0, needs.base_index_slots - held);
  }
  return kv_slots_held_ + needs.kv_slots <= options_.pool_slots &&
         index_slots_held_ + index_slots <= options_.index_slots;
}

void Scheduler::Hold(const Run::Needs& needs) {
  kv_slots_held_ += needs.kv_slots;
  index_slots_held_ += needs.index_slots;
  if (needs.base == 0) return;
  Base& base = bases_[needs.base];
  ++base.runs;
  index_slots_held_ += std::max<int64_t>(0, needs.base_index_slots - base.slots);
  base.slots = std::max(base.slots, needs.base_index_slots);
}

void Scheduler::Release(const Run::Needs& needs) {
  kv_slots_held_ -= needs.kv_slots;
  index_slots_held_ -= needs.index_slots;
  if (needs.base == 0) return;
  const auto base = bases_.find(needs.base);
  if (--base->second.runs > 0) return;
  index_slots_held_ -= base->second.slots;
  bases_.erase(base);
}

// In order of arrival; what waits for memory is overtaken by what needs less, but not for ever.
void Scheduler::Admit(std::unique_lock<std::mutex>* lock) {
  int32_t active_questions = 0;
  for (const Active& active : active_) active_questions += active.run->kind() == RunKind::kQuestion;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const Run::Needs needs = it->run->MemoryNeeds();
    const bool question = it->run->kind() == RunKind::kQuestion;
    if (question && active_questions >= options_.active_questions_limit) {
      ++it;
      continue;
    }
    if (!Fits(needs)) {
      if (it->overtaken >= kMostOvertaken) break;
      ++it;
      continue;
    }
    // Only what waits for memory counts as overtaken: the questions over the limit of active ones
    // go in their order.
    for (auto earlier = waiting_.begin(); earlier != it; ++earlier) {
      earlier->overtaken += !Fits(earlier->run->MemoryNeeds());
    }
    std::unique_ptr<Run> run = std::move(it->run);
    it = waiting_.erase(it);
    ++active_count_;
    Hold(needs);
    active_questions += question;
    active_.push_back({.run = std::move(run), .needs = needs});
    lock->unlock();
    // Opening a context reads from disk; submitters need not wait for it.
    if (absl::Status status = active_.back().run->Start(); !status.ok())
      EndRun(active_.size() - 1, status, false);
    lock->lock();
    it = waiting_.begin();  // the queue may have changed meanwhile
    active_questions = 0;
    for (const Active& active : active_)
      active_questions += active.run->kind() == RunKind::kQuestion;
  }
}

void Scheduler::RunStep() {
  if (active_.empty()) return;
  std::vector<BatchWish> wishes;
  for (const Active& active : active_)
    wishes.push_back({.kind = active.run->kind(), .wish = active.run->NextWish()});
  const std::vector<BatchEntry> batch = PlanBatch(wishes, options_.limits, turn_++);

  std::vector<Run*> runs;
  std::vector<StepSegment> segments;
  std::vector<std::pair<Run*, absl::Status>> failed;
  for (const BatchEntry& entry : batch) {
    Run* run = active_[entry.run].run.get();
    absl::StatusOr<StepSegment> segment = run->Prepare(entry.tokens);
    if (!segment.ok()) {
      failed.emplace_back(run, segment.status());
      continue;
    }
    runs.push_back(run);
    segments.push_back(*segment);
  }
  std::vector<SegmentResult> results = decoder_->Step(segments);
  for (size_t i = 0; i < runs.size(); ++i) {
    absl::Status status = results[i].status;
    if (status.ok()) status = runs[i]->AfterStep(std::move(results[i]));
    if (!status.ok()) failed.emplace_back(runs[i], status);
  }
  for (const auto& [run, status] : failed) {
    const auto it = std::find_if(active_.begin(), active_.end(),
                                 [&](const Active& a) { return a.run.get() == run; });
    EndRun(static_cast<size_t>(it - active_.begin()), status, false);
  }
  for (size_t i = active_.size(); i-- > 0;) {
    if (active_[i].run->done()) EndRun(i, absl::OkStatus(), false);
  }
}

void Scheduler::EndRun(size_t index, const absl::Status& status, bool draining) {
  Active ended = std::move(active_[index]);
  active_.erase(active_.begin() + static_cast<int64_t>(index));
  if (!status.ok()) ended.run->Fail(status, draining);
  const RunKind kind = ended.run->kind();
  ended.run.reset();  // gives its blocks back
  Release(ended.needs);
  std::lock_guard lock(mutex_);
  if (kind == RunKind::kQuestion) --questions_;
  --active_count_;
}

}  // namespace lectern::engine
