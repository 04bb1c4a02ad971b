// The places of an ingest at which tests interfere. Those of storage: tests/storage.
#include "storage/fail_point.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/engine.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using storage::FailPoint;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};

class EngineFailPointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!storage::kFailPointsBuilt) GTEST_SKIP() << "built without LECTERN_FAIL_POINTS";
    testing::WriteRandomModel({}, model_.path());
    auto engine = Engine::Open({.model_dir = model_.path(),
                                .pool_bytes = 256 << 20,
                                .index_bytes = 64 << 20,
                                .prefill_chunk_tokens = 512});
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    testing::Upload(*engine_, kCorpus, "text", testing::RandomText(1000, 5));
  }
  void TearDown() override { ASSERT_TRUE(storage::ArmFailPoints("").ok()); }

  testing::TemporaryDirectory model_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineFailPointTest, AnIngestReachesEveryPlace) {
  ASSERT_TRUE(testing::IngestAndWait(*engine_, kCorpus).error.ok());
  for (const FailPoint point :
       {FailPoint::kIngestPlanned, FailPoint::kLayoutWritten, FailPoint::kIngestStarted,
        FailPoint::kIngestStepComputed, FailPoint::kIngestPublished}) {
    EXPECT_GT(storage::FailPointHits(point), 0u);
  }
}

// Whoever sees the corpus ingested may go on at once, though the run that did it is still putting
// its things away.
TEST_F(EngineFailPointTest, AnIngestThatIsDoneIsInNobodysWay) {
  ASSERT_TRUE(storage::ArmFailPoints("ingest.published=sleep:1000").ok());
  const auto first = engine_->IngestCorpus(kCorpus, false);
  ASSERT_TRUE(first.ok()) << first.status();
  for (;;) {
    const auto operation = engine_->GetOperation(first->name);
    ASSERT_TRUE(operation.ok()) << operation.status();
    if (operation->done) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const std::string ingested = engine_->GetCorpus(kCorpus)->current_generation;
  EXPECT_FALSE(ingested.empty());
  testing::Upload(*engine_, kCorpus, "more", testing::RandomText(1000, 6));
  const Operation second = testing::IngestAndWait(*engine_, kCorpus);
  EXPECT_TRUE(second.error.ok()) << second.error;
  EXPECT_NE(engine_->GetCorpus(kCorpus)->current_generation, ingested);
}

TEST_F(EngineFailPointTest, AnIngestThatFailsAnywhereCanBeBegunAgain) {
  for (const char* place :
       {"ingest.planned", "ingest.references", "layout.piece", "layout.written", "ingest.started",
        "ingest.step_computed", "commit.small_encoded", "commit.directory", "publish.manifest"}) {
    SCOPED_TRACE(place);
    ASSERT_TRUE(storage::ArmFailPoints(std::string(place) + "=error").ok());
    const Operation failed = testing::IngestAndWait(*engine_, kCorpus);
    // A store that cannot be reached for a moment leaves the operation to be resumed, or ends it.
    EXPECT_TRUE(!failed.done || !failed.error.ok());
    EXPECT_TRUE(engine_->GetCorpus(kCorpus)->current_generation.empty());
    if (!failed.done) break;
  }
  const Operation again = testing::IngestAndWait(*engine_, kCorpus);
  EXPECT_TRUE(again.error.ok()) << again.error;
  EXPECT_FALSE(engine_->GetCorpus(kCorpus)->current_generation.empty());
}

}  // namespace
}  // namespace lectern::engine
