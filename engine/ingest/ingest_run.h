// Prefill of one generation: chunks through the model, context after context, committed as their
// blocks become whole, published at the end.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "engine/ingest/ingest_plan.h"
#include "engine/kv/context.h"
#include "engine/model/serving_model.h"
#include "engine/room/disk_room.h"
#include "engine/schedule/counters.h"
#include "engine/schedule/run.h"
#include "storage/catalog.h"

namespace lectern::engine {

class IngestRun final : public Run {
 public:
  struct Surroundings {
    storage::Catalog* catalog = nullptr;
    ServingModel* model = nullptr;
    KvMemory* memory = nullptr;
    Counters* counters = nullptr;
    std::function<int64_t()> clock_us;
    int64_t chunk_tokens = 0;  // most tokens that one step may grant
    // Called before `ended` with what ended it, unless it succeeded or the engine drains.
    std::function<void(uint64_t operation_uid, const absl::Status& status)> failed;
    // Called once on the step thread, after storage knows the end (or, when draining, knows nothing
    // new).
    std::function<void(uint64_t operation_uid)> ended;
  };

  // `promise`: disk room for the blocks that are still to be stored.
  IngestRun(const Surroundings& surroundings, const storage::Tenant& tenant,
            storage::IngestIntent intent, IngestPlan plan, DiskPromise promise,
            std::shared_ptr<CancelFlag> cancel);
  ~IngestRun() override;

  RunNeeds MemoryNeeds() const override;
  absl::Status Start() override;
  Wish NextWish() const override;
  absl::StatusOr<StepSegment> Prepare(int64_t tokens) override;
  absl::Status AfterStep(SegmentResult result) override;
  bool done() const override { return done_; }
  void Fail(const absl::Status& status, bool draining) override;

 private:
  const ContextPlan& plan() const { return plan_.contexts[index_]; }
  int64_t StoredTokens() const;  // of all contexts
  // Opens context number index_ where it was left, or the next one that is not stored in whole;
  // with none left, publishes.
  absl::Status OpenNext();
  absl::Status Commit(bool complete);
  absl::Status Publish();

  const Surroundings around_;
  storage::IngestIntent intent_;
  const IngestPlan plan_;
  DiskPromise promise_;
  uint32_t index_ = 0;  // of the context at hand
  std::unique_ptr<Context> context_;
  std::optional<LevelGuard> open_;
  PendingTokens left_;
  // Of the step at hand.
  std::chrono::steady_clock::time_point step_begin_;
  int64_t step_tokens_ = 0;
  bool done_ = false;
};

}  // namespace lectern::engine
