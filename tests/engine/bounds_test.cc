// The engine inside its bounds: a disk cap that holds, caches that go in a known order and come
// back bit by bit, requests that wait or are refused for memory and never more.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/disk_use.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::DiskUse;
using testing::IngestAndWait;
using testing::RandomText;
using testing::StoredCacheDigest;
using testing::TemporaryDirectory;
using testing::Upload;

// 4 KiB of keys and values and 256 bytes of index keys a token: 5,000 tokens are 23 MB.
const testing::RandomModel kModel = {.layers = 4, .kv_heads = 4, .head_dim = 64, .index_dim = 32};
constexpr int kWords = 1800;
constexpr int64_t kCap = int64_t{64} << 20;  // room for two such caches beside the headroom

CorpusName Named(const std::string& corpus) { return {.tenant = "default", .corpus = corpus}; }

// Watches the directory for as long as it lives.
class DiskWatch {
 public:
  explicit DiskWatch(std::string directory)
      : directory_(std::move(directory)), thread_([this] {
          while (!stop_) {
            most_ = std::max<int64_t>(most_, DiskUse(directory_));
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }) {}
  ~DiskWatch() {
    stop_ = true;
    thread_.join();
  }
  int64_t most() const { return most_; }

 private:
  const std::string directory_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> most_{0};
  std::thread thread_;
};

Operation Wait(Engine& engine, absl::StatusOr<Operation> begun) {
  EXPECT_TRUE(begun.ok()) << begun.status();
  auto ended = std::make_shared<std::promise<Operation>>();
  auto ticket = engine.WatchOperation(
      begun->name, [ended](Operation operation) { ended->set_value(operation); });
  return ended->get_future().get();
}

class BoundsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TemporaryDirectory();
    testing::WriteRandomModel(kModel, model_->path());
  }
  static void TearDownTestSuite() { delete model_; }

  EngineOptions Options(int64_t disk_cap = kCap) const {
    return {.data_dir = data_.path(),
            .model_dir = model_->path(),
            .pool_bytes = 64 << 20,
            .index_bytes = 16 << 20,
            .disk_cap_bytes = disk_cap};
  }
  static std::unique_ptr<Engine> Open(const EngineOptions& options) {
    auto engine = Engine::Open(options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  static absl::StatusOr<Answer> Ask(Engine& engine, const std::string& corpus,
                                    const std::string& session = "") {
    return AskAndWait(engine, {.target = {.corpus = Named(corpus), .session = session},
                               .question = "what is it?",
                               .max_tokens = 12});
  }
  static Operation Ingest(Engine& engine, const std::string& corpus, uint64_t seed,
                          int words = kWords) {
    Upload(engine, Named(corpus), "d", RandomText(words, seed));
    return IngestAndWait(engine, Named(corpus));
  }
  static Residency ResidencyOf(Engine& engine, const std::string& corpus) {
    return engine.GetCorpus(Named(corpus))->cache_residency;
  }
  static int32_t Rank(Engine& engine, const std::string& corpus) {
    return engine.GetCorpus(Named(corpus))->eviction_rank;
  }

  static TemporaryDirectory* model_;
  TemporaryDirectory data_;
};
TemporaryDirectory* BoundsTest::model_ = nullptr;

TEST_F(BoundsTest, TheLeastRecentlyUsedGoesFirstAndTheOrderIsVisible) {
  auto engine = Open(Options());
  ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
  EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kComplete);
  EXPECT_EQ(Rank(*engine, "a"), 1);
  EXPECT_GT(engine->GetCorpus(Named("a"))->cache_bytes, 8 << 20);
  ASSERT_TRUE(Ingest(*engine, "b", 2).error.ok());
  EXPECT_EQ(Rank(*engine, "b"), 2);
  ASSERT_TRUE(Ask(*engine, "a").ok());  // now b is the one not used for longest
  EXPECT_EQ(Rank(*engine, "a"), 2);
  EXPECT_EQ(Rank(*engine, "b"), 1);
  EXPECT_GT(engine->GetCorpus(Named("a"))->last_used_time_us,
            engine->GetCorpus(Named("b"))->last_used_time_us);

  ASSERT_TRUE(Ingest(*engine, "c", 3).error.ok());
  EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kComplete);
  EXPECT_EQ(ResidencyOf(*engine, "b"), Residency::kEvicted);
  EXPECT_EQ(Rank(*engine, "b"), 0);
  EXPECT_EQ(engine->GetCorpus(Named("b"))->cache_bytes, 0);
  EXPECT_EQ(engine->GetStats()->evictions["least_recently_used"], 1);
  const absl::StatusOr<Answer> refused = Ask(*engine, "b");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(refused.status()), "CACHE_EVICTED");
  EXPECT_THAT(std::string(refused.status().message()), ::testing::HasSubstr("RebuildCorpus"));
  EXPECT_TRUE(Ask(*engine, "a").ok());
  EXPECT_EQ(engine->ListDocuments(Named("b"), {})->items.size(), 1u) << "documents stay";
}

TEST_F(BoundsTest, ARebuildBringsBackTheSameBitsAndTheSameAnswers) {
  std::string digest;
  std::string answer;
  std::string generation;
  {
    auto engine = Open(Options());
    ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
    answer = Ask(*engine, "a")->text;
    generation = engine->GetCorpus(Named("a"))->current_generation;
  }
  digest = StoredCacheDigest(data_.path(), "a");
  {
    auto engine = Open(Options());
    ASSERT_TRUE(Ingest(*engine, "b", 2).error.ok());
    ASSERT_TRUE(Ingest(*engine, "c", 3).error.ok());
    ASSERT_EQ(ResidencyOf(*engine, "a"), Residency::kEvicted);
  }
  {
    // The state outlives a restart, and so does the way back.
    auto engine = Open(Options());
    EXPECT_EQ(ReasonOf(Ask(*engine, "a").status()), "CACHE_EVICTED");
    const Operation rebuilt = Wait(*engine, engine->RebuildCorpus(Named("a"), ""));
    ASSERT_TRUE(rebuilt.error.ok()) << rebuilt.error;
    EXPECT_EQ(rebuilt.generation, generation);
    EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kComplete);
    EXPECT_EQ(Ask(*engine, "a")->text, answer);
    const int64_t prefilled = engine->GetStats()->corpus_prefill_tokens;
    EXPECT_EQ(prefilled, rebuilt.tokens_total);
    // A second one has nothing to do.
    const Operation again = Wait(*engine, engine->RebuildCorpus(Named("a"), generation));
    ASSERT_TRUE(again.error.ok()) << again.error;
    EXPECT_EQ(again.generation, generation);
    EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, prefilled);
  }
  EXPECT_EQ(StoredCacheDigest(data_.path(), "a"), digest);
}

TEST_F(BoundsTest, ASessionGoesOnAfterItsCacheWasEvictedAndRebuilt) {
  std::vector<std::string> undisturbed;
  std::vector<std::string> answers;
  for (const bool disturbed : {false, true}) {
    TemporaryDirectory data;
    EngineOptions options = Options();
    options.data_dir = data.path();
    auto engine = Open(options);
    ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
    ASSERT_TRUE(engine->CreateSession({.corpus = Named("a"), .id = "s"}, "", 0).ok());
    for (int turn = 0; turn < 3; ++turn) {
      if (disturbed && turn == 2) {
        ASSERT_TRUE(Ingest(*engine, "b", 2).error.ok());
        ASSERT_TRUE(Ingest(*engine, "c", 3).error.ok());
        ASSERT_EQ(ReasonOf(Ask(*engine, "a", "s").status()), "CACHE_EVICTED");
        EXPECT_EQ(engine->ListTurns({.corpus = Named("a"), .id = "s"}, {})->items.size(), 2u);
        ASSERT_TRUE(Wait(*engine, engine->RebuildCorpus(Named("a"), "")).error.ok());
      }
      const absl::StatusOr<Answer> answer = Ask(*engine, "a", "s");
      ASSERT_TRUE(answer.ok()) << answer.status();
      (disturbed ? answers : undisturbed).push_back(answer->text);
    }
  }
  EXPECT_EQ(answers, undisturbed);
}

TEST_F(BoundsTest, SupersededGenerationsGoBeforeAnythingElse) {
  auto engine = Open(Options());
  constexpr int kHalf = kWords * 11 / 20;  // four of these fit
  ASSERT_TRUE(Ingest(*engine, "old", 1, kHalf).error.ok());
  ASSERT_TRUE(Ingest(*engine, "a", 2, kHalf).error.ok());
  // Another beginning, so that nothing is shared; the first generation is superseded.
  ASSERT_TRUE(engine->DeleteDocument({.corpus = Named("a"), .id = "d"}).ok());
  Upload(*engine, Named("a"), "e", RandomText(kHalf, 4));
  ASSERT_TRUE(IngestAndWait(*engine, Named("a")).error.ok());
  EXPECT_EQ(engine->ListGenerations(Named("a"), {})->items.size(), 2u);
  ASSERT_TRUE(Ingest(*engine, "b", 5, kHalf).error.ok());
  ASSERT_EQ(engine->GetStats()->evictions["least_recently_used"], 0)
      << engine->GetStats()->disk_used_bytes;
  ASSERT_TRUE(Ingest(*engine, "c", 6, kHalf).error.ok());
  EXPECT_EQ(engine->ListGenerations(Named("a"), {})->items.size(), 1u);
  EXPECT_EQ(ResidencyOf(*engine, "old"), Residency::kComplete) << "used before, and still there";
  EXPECT_EQ(engine->GetStats()->evictions["superseded"], 1);
  EXPECT_EQ(engine->GetStats()->evictions["least_recently_used"], 0);
}

TEST_F(BoundsTest, WhatIsPinnedOrDoesNotFitIsRefusedWithTheNumbersBeforeAnythingIsDone) {
  auto engine = Open(Options());
  ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
  ASSERT_TRUE(Ingest(*engine, "b", 2).error.ok());
  for (const char* corpus : {"a", "b"}) {
    EXPECT_TRUE(engine->UpdateCorpus(Named(corpus), {.pinned = true})->pinned);
    EXPECT_EQ(Rank(*engine, corpus), 0);
  }
  const int64_t prefilled = engine->GetStats()->corpus_prefill_tokens;
  const Operation refused = Ingest(*engine, "c", 3);
  EXPECT_EQ(refused.error.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused.error), "DISK_CAP_EXCEEDED");
  ErrorMetadata metadata = MetadataOf(refused.error);
  EXPECT_EQ(metadata["cap_bytes"], std::to_string(kCap));
  EXPECT_GT(std::stoll(metadata["needed_bytes"]), std::stoll(metadata["available_bytes"]));
  EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, prefilled) << "before a prefill begins";
  EXPECT_EQ(engine->GetStats()->disk_reserved_bytes, 0);
  for (const char* corpus : {"a", "b"}) EXPECT_TRUE(Ask(*engine, corpus).ok());
  // With one of them unpinned there is room for c; for something larger than both there is none,
  // and then nothing is evicted in vain.
  ASSERT_TRUE(engine->UpdateCorpus(Named("a"), {.pinned = false}).ok());
  EXPECT_EQ(ReasonOf(Ingest(*engine, "large", 5, 5000).error), "DISK_CAP_EXCEEDED");
  EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kComplete);
  EXPECT_TRUE(IngestAndWait(*engine, Named("c")).error.ok());
  EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kEvicted);
  EXPECT_EQ(ResidencyOf(*engine, "b"), Residency::kComplete);
}

TEST_F(BoundsTest, UploadsAreHeldToTheCapToo) {
  auto engine = Open(Options());
  ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
  ASSERT_TRUE(engine->UpdateCorpus(Named("a"), {.pinned = true}).ok());
  ASSERT_TRUE(engine->CreateCorpus(Named("b"), "", 0).ok());
  auto upload = *engine->BeginUpload({.corpus = Named("b"), .document_id = "endless"});
  const std::string piece = RandomText(100'000, 6);
  absl::Status status;
  int64_t sent = 0;
  while (status.ok() && sent < 2 * kCap) {
    status = upload->Append(piece);
    sent += static_cast<int64_t>(piece.size());
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), "DISK_CAP_EXCEEDED");
  upload.reset();
  EXPECT_LT(DiskUse(data_.path()), kCap);
  EXPECT_TRUE(engine->ListDocuments(Named("b"), {})->items.empty());
  EXPECT_TRUE(Ask(*engine, "a").ok());
  EXPECT_EQ(engine->GetStats()->disk_reserved_bytes, 0);
}

TEST_F(BoundsTest, TheCapHoldsUnderChurn) {
  auto engine = Open(Options());
  DiskWatch watch(data_.path());
  for (int round = 0; round < 8; ++round) {
    const std::string corpus = "c" + std::to_string(round % 5);
    if (round >= 5) {
      ASSERT_TRUE(engine->DeleteCorpus(Named(corpus)).ok());
    }
    const Operation operation = Ingest(*engine, corpus, 100 + round);
    ASSERT_TRUE(operation.error.ok()) << round << ": " << operation.error;
    ASSERT_TRUE(Ask(*engine, corpus).ok());
  }
  const Stats stats = *engine->GetStats();
  EXPECT_LE(watch.most(), kCap + kCap / 20);
  int64_t sum = 0;
  for (const auto& [kind, bytes] : stats.disk_bytes) sum += bytes;
  EXPECT_EQ(sum, stats.disk_used_bytes);
  EXPECT_GE(stats.disk_written_bytes, 2 * kCap) << "far more than fits was written";
  EXPECT_EQ(stats.disk_cap_bytes, kCap);
}

TEST_F(BoundsTest, ALoweredCapIsReachedByEviction) {
  {
    auto engine = Open(Options(0));
    for (int i = 0; i < 7; ++i) {
      ASSERT_TRUE(Ingest(*engine, "c" + std::to_string(i), 50 + i).error.ok());
    }
    EXPECT_GT(engine->GetStats()->disk_used_bytes, kCap);
  }
  auto engine = Open(Options());
  for (int i = 0; i < 3000 && DiskUse(data_.path()) > kCap; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_LE(DiskUse(data_.path()), kCap)
      << ::testing::PrintToString(engine->GetStats()->disk_bytes);
  EXPECT_EQ(ResidencyOf(*engine, "c0"), Residency::kEvicted) << "used longest ago";
  EXPECT_EQ(ResidencyOf(*engine, "c6"), Residency::kComplete);
  EXPECT_TRUE(Ask(*engine, "c6").ok());
}

TEST_F(BoundsTest, ExpiredCorporaGoFirst) {
  auto engine = Open(Options());
  ASSERT_TRUE(Ingest(*engine, "a", 1).error.ok());
  ASSERT_TRUE(Ingest(*engine, "brief", 2).error.ok());
  const int64_t soon = engine->GetCorpus(Named("brief"))->last_used_time_us + 300'000;
  ASSERT_TRUE(engine->UpdateCorpus(Named("brief"), {.expire_time_us = soon}).ok());
  EXPECT_EQ(engine->GetCorpus(Named("brief"))->expire_time_us, soon);
  std::this_thread::sleep_for(std::chrono::milliseconds(350));
  ASSERT_TRUE(Ingest(*engine, "c", 3).error.ok());
  EXPECT_EQ(ResidencyOf(*engine, "a"), Residency::kComplete);
  EXPECT_EQ(engine->GetStats()->evictions["least_recently_used"], 0);
}

TEST_F(BoundsTest, ARebuildUnderAnotherModelMakesANewGeneration) {
  std::string before;
  {
    auto engine = Open(Options());
    ASSERT_TRUE(Ingest(*engine, "a", 1, 600).error.ok());
    before = engine->GetCorpus(Named("a"))->current_generation;
    ASSERT_TRUE(engine->DeleteDocument({.corpus = Named("a"), .id = "d"}).ok());
  }
  EngineOptions options = Options();
  options.attention = AttentionMode::kDense;  // a fingerprint of its own
  auto engine = Open(options);
  EXPECT_EQ(ReasonOf(Ask(*engine, "a").status()), "MODEL_MISMATCH");
  const Operation rebuilt = Wait(*engine, engine->RebuildCorpus(Named("a"), ""));
  ASSERT_TRUE(rebuilt.error.ok()) << rebuilt.error;
  EXPECT_NE(rebuilt.generation, before);
  EXPECT_EQ(engine->GetCorpus(Named("a"))->current_generation, rebuilt.generation);
  EXPECT_EQ(engine->GetGeneration({.corpus = Named("a"), .id = rebuilt.generation})->documents,
            std::vector<std::string>{"d"})
      << "the generation's documents, though the corpus has removed them";
  EXPECT_TRUE(Ask(*engine, "a").ok());
  EXPECT_EQ(ReasonOf(engine->RebuildCorpus(Named("a"), before).status()), "MODEL_MISMATCH");
  ASSERT_TRUE(engine->CreateCorpus(Named("empty"), "", 0).ok());
  EXPECT_EQ(ReasonOf(engine->RebuildCorpus(Named("empty"), "").status()), "CORPUS_NOT_INGESTED");
  EXPECT_EQ(ReasonOf(engine->RebuildCorpus(Named("a"), "g999").status()), "GENERATION_NOT_FOUND");
}

TEST_F(BoundsTest, ContextsThatDoNotFitTogetherTakeTurns) {
  EngineOptions options = Options(0);
  // Index keys of about 3,000 tokens and their tails: two corpora at once are too much.
  options.index_bytes = (2 << 20) + (256 << 10);
  auto engine = Open(options);
  for (const char* corpus : {"a", "b", "c"}) {
    ASSERT_TRUE(Ingest(*engine, corpus, static_cast<uint64_t>(corpus[0])).error.ok());
  }
  std::vector<std::future<absl::StatusOr<Answer>>> answers;
  for (int i = 0; i < 12; ++i) {
    answers.push_back(std::async(std::launch::async, [&, i] {
      return Ask(*engine, std::string(1, static_cast<char>('a' + i % 3)));
    }));
  }
  for (auto& answer : answers) {
    const absl::StatusOr<Answer> got = answer.get();
    EXPECT_TRUE(got.ok()) << got.status();
  }
}

TEST_F(BoundsTest, WhatCanNeverFitIsRefusedWithBothNumbers) {
  EngineOptions options = Options(0);
  options.index_bytes = 512 << 10;
  {
    auto engine = Open(options);
    const Operation refused = Ingest(*engine, "a", 1);
    EXPECT_EQ(refused.error.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(ReasonOf(refused.error), "INDEX_MEMORY_TOO_SMALL");
    ErrorMetadata metadata = MetadataOf(refused.error);
    EXPECT_GT(std::stoll(metadata["needed_bytes"]), std::stoll(metadata["limit_bytes"]));
    EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, 0);
    EXPECT_TRUE(Ingest(*engine, "small", 2, 200).error.ok()) << "others are served";
    EXPECT_TRUE(Ask(*engine, "small").ok());
  }
  options.request_bytes = 2 << 20;
  auto engine = Open(options);
  Upload(*engine, Named("text"), "d", RandomText(60'000, 7));
  const Operation refused = IngestAndWait(*engine, Named("text"));
  EXPECT_EQ(ReasonOf(refused.error), "MEMORY_LIMIT_EXCEEDED");
  EXPECT_EQ(MetadataOf(refused.error)["limit_bytes"], std::to_string(2 << 20));
  EXPECT_EQ(ReasonOf(engine->IngestCorpus(Named("text"), true).status()), "MEMORY_LIMIT_EXCEEDED");
  EXPECT_EQ(engine->GetStats()->request_memory_bytes, 0);
}

TEST_F(BoundsTest, ACapTooSmallToWorkWithIsRefusedAtOpen) {
  auto engine = Engine::Open(Options(1 << 20));
  EXPECT_EQ(ReasonOf(engine.status()), "OPTION_INVALID");
}

}  // namespace
}  // namespace lectern::engine
