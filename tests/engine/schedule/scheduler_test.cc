// The step thread and the runs: what a run is told when a step fails for it.
#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>

#include "absl/status/status.h"
#include "engine/model/checkpoint.h"

namespace lectern::engine {
namespace {

// Serves segments of one token, and fails longer ones.
class OneTokenDecoder final : public Decoder {
 public:
  explicit OneTokenDecoder(const Checkpoint* checkpoint)
      : Decoder(checkpoint, {.attention = checkpoint->config().attention}) {}
  std::vector<SegmentResult> Step(std::span<const StepSegment> segments) override {
    std::vector<SegmentResult> results(segments.size());
    for (size_t i = 0; i < segments.size(); ++i) {
      if (segments[i].tokens.size() > 1) results[i].status = absl::ResourceExhaustedError("long");
    }
    return results;
  }
  int64_t packed_bytes() const override { return 0; }
  std::string Provenance() const override { return "one token"; }
};

struct Seen {
  std::vector<int64_t> granted;
  int steps = 0;
  std::promise<absl::Status> ended;
};

// Wants three steps of one token, and two spare ones beside.
class SpareRun final : public Run {
 public:
  SpareRun(Seen* seen, bool gives_way)
      : Run({}, std::make_shared<CancelFlag>()), seen_(seen), gives_way_(gives_way) {}
  RunNeeds MemoryNeeds() const override { return {}; }
  absl::Status Start() override { return absl::OkStatus(); }
  Wish NextWish() const override { return {.tokens = 1, .tiled = false, .spare = spare_}; }
  absl::StatusOr<StepSegment> Prepare(int64_t tokens) override {
    seen_->granted.push_back(tokens);
    return StepSegment{.tokens = std::span(tokens_).first(static_cast<size_t>(tokens)),
                       .tiled = false};
  }
  absl::Status AfterStep(SegmentResult result) override {
    if (++seen_->steps == 3) seen_->ended.set_value(absl::OkStatus());
    return absl::OkStatus();
  }
  bool AsksForLess() override {
    if (!gives_way_ || spare_ == 0) return false;
    spare_ = 0;
    return true;
  }
  bool done() const override { return seen_->steps == 3; }
  void Fail(const absl::Status& status, bool draining) override { seen_->ended.set_value(status); }

 private:
  Seen* const seen_;
  const bool gives_way_;
  const std::vector<int32_t> tokens_ = {1, 2, 3};
  int64_t spare_ = 2;
};

TEST(SchedulerTest, AStepThatFailsForItsSpareRowsIsTakenAgainWithoutThem) {
  auto checkpoint = Checkpoint::Load(LECTERN_SOURCE_DIR "/tests/golden/tiny/int8");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  OneTokenDecoder decoder(checkpoint->get());
  for (const bool gives_way : {true, false}) {
    Seen seen;
    Scheduler scheduler(
        &decoder, {.limits = {.spare_rows = 8, .memory = {.kv_slots = 10, .index_slots = 10}}},
        [] { return int64_t{1}; });
    ASSERT_TRUE(scheduler.Submit(std::make_unique<SpareRun>(&seen, gives_way)).ok());
    const absl::Status ended = seen.ended.get_future().get();
    scheduler.Drain(0);
    if (gives_way) {
      EXPECT_TRUE(ended.ok()) << ended;
      EXPECT_EQ(seen.granted, (std::vector<int64_t>{3, 1, 1, 1}));
    } else {
      EXPECT_EQ(ended.code(), absl::StatusCode::kResourceExhausted);
      EXPECT_EQ(seen.granted, std::vector<int64_t>{3});
    }
  }
}

// Three steps, each of which needs another context.
class ThreeContextsRun final : public Run {
 public:
  struct Log {
    int starts = 0;
    std::promise<absl::Status> ended;
  };
  // `last_needs`: of its last context.
  ThreeContextsRun(Log* log, int64_t last_needs)
      : Run({}, std::make_shared<CancelFlag>()), log_(log), last_needs_(last_needs) {}
  RunNeeds MemoryNeeds() const override { return {.kv_slots = steps_ < 2 ? 1 : last_needs_}; }
  absl::Status Start() override {
    ++log_->starts;
    between_ = false;
    return absl::OkStatus();
  }
  bool between_contexts() const override { return between_; }
  Wish NextWish() const override { return {.tokens = 1, .tiled = false}; }
  absl::StatusOr<StepSegment> Prepare(int64_t) override {
    return StepSegment{.tokens = tokens_, .tiled = false};
  }
  absl::Status AfterStep(SegmentResult) override {
    if (++steps_ == 3) {
      log_->ended.set_value(absl::OkStatus());
    } else {
      between_ = true;
    }
    return absl::OkStatus();
  }
  bool done() const override { return steps_ == 3; }
  void Fail(const absl::Status& status, bool draining) override { log_->ended.set_value(status); }

 private:
  Log* const log_;
  const int64_t last_needs_;
  const std::vector<int32_t> tokens_ = {1};
  int steps_ = 0;
  bool between_ = false;
};

TEST(SchedulerTest, ARunIsStartedForEachOfItsContextsIfThereCanBeRoom) {
  auto checkpoint = Checkpoint::Load(LECTERN_SOURCE_DIR "/tests/golden/tiny/int8");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  OneTokenDecoder decoder(checkpoint->get());
  for (const int64_t last_needs : {10, 11}) {
    ThreeContextsRun::Log log;
    Scheduler scheduler(&decoder, {.limits = {.memory = {.kv_slots = 10, .index_slots = 10}}},
                        [] { return int64_t{1}; });
    ASSERT_TRUE(scheduler.Submit(std::make_unique<ThreeContextsRun>(&log, last_needs)).ok());
    const absl::Status ended = log.ended.get_future().get();
    scheduler.Drain(0);
    if (last_needs == 10) {
      EXPECT_TRUE(ended.ok()) << ended;
      EXPECT_EQ(log.starts, 3);
    } else {
      EXPECT_EQ(ended.code(), absl::StatusCode::kResourceExhausted) << "it would wait for ever";
      EXPECT_EQ(log.starts, 2);
    }
    EXPECT_EQ(scheduler.queued(), 0);
    EXPECT_EQ(scheduler.running(), 0);
  }
}

// Finds nothing left to do when it is started.
class DoneRun final : public Run {
 public:
  DoneRun(std::promise<void>* gone, int* asked)
      : Run({}, std::make_shared<CancelFlag>()), gone_(gone), asked_(asked) {}
  ~DoneRun() override { gone_->set_value(); }
  RunNeeds MemoryNeeds() const override { return {.kv_slots = 1}; }
  absl::Status Start() override {
    done_ = true;
    return absl::OkStatus();
  }
  Wish NextWish() const override {
    ++*asked_;
    return {.tokens = 1, .tiled = false};
  }
  absl::StatusOr<StepSegment> Prepare(int64_t) override {
    ++*asked_;
    return absl::InternalError("it has no tokens");
  }
  absl::Status AfterStep(SegmentResult) override { return absl::OkStatus(); }
  bool done() const override { return done_; }
  void Fail(const absl::Status&, bool) override { ++*asked_; }

 private:
  std::promise<void>* const gone_;
  int* const asked_;
  bool done_ = false;
};

TEST(SchedulerTest, ARunThatIsDoneWhenItStartsIsAskedForNothing) {
  auto checkpoint = Checkpoint::Load(LECTERN_SOURCE_DIR "/tests/golden/tiny/int8");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  OneTokenDecoder decoder(checkpoint->get());
  std::promise<void> gone;
  int asked = 0;
  Scheduler scheduler(&decoder, {.limits = {.memory = {.kv_slots = 10, .index_slots = 10}}},
                      [] { return int64_t{1}; });
  ASSERT_TRUE(scheduler.Submit(std::make_unique<DoneRun>(&gone, &asked)).ok());
  gone.get_future().wait();
  scheduler.Drain(0);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(scheduler.queued(), 0);
  EXPECT_EQ(scheduler.running(), 0);
}

}  // namespace
}  // namespace lectern::engine
