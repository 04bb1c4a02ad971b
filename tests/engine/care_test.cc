// Damage on the disk of a running engine: found by the walk or by a question, quarantined, computed
// again; and the offline commands on a directory.
#include "engine/care/store_care.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "engine/data_dir.h"
#include "engine/engine.h"
#include "engine/error/error.h"
#include "storage/fail_point.h"
#include "storage/keys.h"
#include "storage/rocksdb_store.h"
#include "storage/store.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

const CorpusName kLibrary = {.tenant = "default", .corpus = "library"};
const CorpusName kShelf = {.tenant = "default", .corpus = "shelf"};
constexpr uint32_t kDamagedBlock = 3;

class CareTest : public ::testing::Test {
 protected:
  CareTest() {
    testing::WriteRandomModel({}, model_.path());
    const auto engine = Open(0);
    testing::Upload(*engine, kLibrary, "text", testing::RandomText(1500, 5));
    testing::Upload(*engine, kShelf, "text", testing::RandomText(900, 6));
    for (const CorpusName& corpus : {kLibrary, kShelf}) {
      EXPECT_TRUE(testing::IngestAndWait(*engine, corpus).error.ok());
    }
    answer_ = Ask(*engine, kLibrary)->text;
  }

  std::string Data() const { return directory_ / "data"; }

  std::unique_ptr<Engine> Open(int64_t scrub_rate) {
    auto engine = Engine::Open({.data_dir = Data(),
                                .model_dir = model_.path(),
                                .pool_bytes = 256 << 20,
                                .index_bytes = 64 << 20,
                                .scrub_bytes_per_second = scrub_rate});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  absl::StatusOr<Answer> Ask(Engine& engine, const CorpusName& corpus) {
    return testing::AskAndWait(
        engine, {.target = {.corpus = corpus}, .question = "where is the corden", .max_tokens = 6});
  }

  // One byte of a record of the library's blocks, changed below the store's checksums.
  void Damage(bool index_keys) {
    std::string key;
    {
      const auto store = *storage::Store::Open({.directory = Data()});
      const auto tenant = *store->catalog().GetTenant("default");
      const auto corpus = *store->catalog().GetCorpus(tenant.uid, "library");
      const auto generation = *store->catalog().GetGeneration(corpus.current_generation);
      const uint64_t lineage = generation.contexts[0].segments[0].lineage;
      key = index_keys
                ? storage::IndexKey(tenant.uid, lineage, storage::RecordKind::kIndexBf16, 0, 0)
                : storage::KvKey(tenant.uid, lineage, kDamagedBlock, 1);
    }
    const auto family = index_keys ? storage::ColumnFamily::kIndexKeys : storage::ColumnFamily::kKv;
    const auto bytes = *storage::OpenRocksDbStore(
        {.directory = Data() + "/db", .load_directory = Data() + "/load"});
    storage::PinnedValue value;
    ASSERT_TRUE(bytes->Get(family, key, &value).ok());
    std::string damaged(value.view());
    damaged.back() = static_cast<char>(damaged.back() ^ 1);
    storage::Batch batch;
    batch.Put(family, key, damaged);
    ASSERT_TRUE(bytes->Write(batch, storage::Durability::kSynced).ok());
  }

  void AwaitRepair(Engine& engine) {
    for (;;) {
      const auto stats = engine.GetStats();
      const auto corpus = engine.GetCorpus(kLibrary);
      ASSERT_TRUE(stats.ok() && corpus.ok());
      if (stats->repair_rebuilds == 1 && corpus->cache_residency == Residency::kComplete) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  testing::TemporaryDirectory model_;
  testing::TemporaryDirectory directory_;
  std::string answer_;
};

TEST_F(CareTest, TheWalkFindsADamagedBlockAndHasItComputedAgain) {
  const std::string before = testing::StoredCacheDigest(Data(), "library");
  Damage(/*index_keys=*/false);
  {
    const auto engine = Open(int64_t{1} << 30);
    EXPECT_TRUE(Ask(*engine, kShelf).ok()) << "the other corpus stays served";
    AwaitRepair(*engine);
    const Stats stats = *engine->GetStats();
    EXPECT_EQ(stats.damages, (std::map<std::string, int64_t>{{"blocks", 1}}));
    EXPECT_EQ(stats.quarantined_generations, 1);
    EXPECT_EQ(engine->GetCorpus(kShelf)->cache_residency, Residency::kComplete);
    const auto answer = Ask(*engine, kLibrary);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->text, answer_);
  }
  EXPECT_EQ(testing::StoredCacheDigest(Data(), "library"), before);
}

TEST_F(CareTest, AQuestionThatMeetsDamageHasItsCorpusRepaired) {
  Damage(/*index_keys=*/true);
  const auto engine = Open(0);
  const auto refused = Ask(*engine, kLibrary);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kDataLoss) << refused.status();
  AwaitRepair(*engine);
  EXPECT_EQ(engine->GetStats()->verify_walks, 0);
  const auto answer = Ask(*engine, kLibrary);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->text, answer_);
}

TEST_F(CareTest, WhatAnEarlierProcessQuarantinedIsRebuilt) {
  {
    const auto store = *storage::Store::Open({.directory = Data()});
    const auto tenant = *store->catalog().GetTenant("default");
    const auto corpus = *store->catalog().GetCorpus(tenant.uid, "library");
    ASSERT_TRUE(store->catalog().QuarantineGeneration(corpus.current_generation).ok());
  }
  const auto engine = Open(0);
  AwaitRepair(*engine);
  EXPECT_EQ(Ask(*engine, kLibrary)->text, answer_);
}

class UnreadDiskTest : public CareTest {
 protected:
  void SetUp() override {
    if (!storage::kFailPointsBuilt) GTEST_SKIP() << "built without LECTERN_FAIL_POINTS";
  }
  void TearDown() override { ASSERT_TRUE(storage::ArmFailPoints("").ok()); }

  void AwaitRecomputed(Engine& engine, const std::string& cause) {
    for (;;) {
      const auto stats = engine.GetStats();
      ASSERT_TRUE(stats.ok());
      if (stats->recomputed.at(cause) == 1) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
};

TEST_F(UnreadDiskTest, WhatIsReadMoreSlowlyThanItIsComputedIsComputedAgain) {
  const std::string before = testing::StoredCacheDigest(Data(), "library");
  {
    const auto engine = Open(0);
    const CorpusName fresh = {.tenant = "default", .corpus = "fresh"};
    testing::Upload(*engine, fresh, "text", testing::RandomText(600, 7));
    ASSERT_TRUE(testing::IngestAndWait(*engine, fresh).error.ok());
    const Stats stats = *engine->GetStats();
    ASSERT_GT(stats.prefill_tokens_per_second, 0);
    EXPECT_EQ(stats.pending_tokens, 0);
    const auto generation = engine->GetGeneration(
        {.corpus = kLibrary, .id = engine->GetCorpus(kLibrary)->current_generation});
    const double prefill =
        static_cast<double>(generation->token_count) / stats.prefill_tokens_per_second;
    const int pause_ms = 1500 + static_cast<int>(3000 * prefill);
    ASSERT_TRUE(storage::ArmFailPoints("block.read=sleep:" + std::to_string(pause_ms)).ok());
    const auto slow = Ask(*engine, kLibrary);
    ASSERT_TRUE(slow.ok()) << slow.status();
    EXPECT_EQ(slow->text, answer_);
    AwaitRecomputed(*engine, "slow");
    AwaitRepair(*engine);
    EXPECT_EQ(engine->GetStats()->quarantined_generations, 0) << "nothing was damaged";
    EXPECT_EQ(engine->GetCorpus(kShelf)->cache_residency, Residency::kComplete);
    EXPECT_EQ(Ask(*engine, kLibrary)->text, answer_);
  }
  EXPECT_EQ(testing::StoredCacheDigest(Data(), "library"), before);
}

TEST_F(UnreadDiskTest, WhatCannotBeReadIsComputedAgainAfterSoManyAttempts) {
  const std::string before = testing::StoredCacheDigest(Data(), "library");
  {
    const auto engine = Open(0);
    ASSERT_TRUE(storage::ArmFailPoints("block.read=error@1+").ok());
    for (int attempt = 0; attempt < 3; ++attempt) {
      EXPECT_EQ(engine->GetStats()->recomputed.at("unreadable"), 0);
      const auto refused = Ask(*engine, kLibrary);
      EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable) << refused.status();
      EXPECT_EQ(ReasonOf(refused.status()), "STORAGE_UNAVAILABLE");
    }
    AwaitRecomputed(*engine, "unreadable");
    ASSERT_TRUE(storage::ArmFailPoints("").ok());
    AwaitRepair(*engine);
    EXPECT_EQ(Ask(*engine, kLibrary)->text, answer_);
  }
  EXPECT_EQ(testing::StoredCacheDigest(Data(), "library"), before);
}

TEST_F(CareTest, VerifySaysWhatIsDamagedWhomItAffectsAndWhetherItComesBack) {
  const auto whole = VerifyDataDir(Data(), 0);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_TRUE(whole->damages.empty());
  EXPECT_EQ(whole->corpora, 2);
  EXPECT_GT(whole->records, 10);
  Damage(/*index_keys=*/false);
  const auto report = VerifyDataDir(Data(), 0);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->damages.size(), 1u);
  EXPECT_EQ(report->damages[0].kind, "blocks");
  EXPECT_TRUE(report->damages[0].rebuildable);
  EXPECT_THAT(report->damages[0].corpora, ::testing::ElementsAre("default/library"));
  EXPECT_THAT(report->damages[0].what, ::testing::HasSubstr("checksum"));
}

TEST_F(CareTest, ABackupAnswersAsTheOriginal) {
  const std::string backup = directory_ / "backup";
  {
    const auto engine = Open(0);
    EXPECT_EQ(ReasonOf(BackupDataDir(Data(), backup)), "DATA_DIR_LOCKED");
  }
  ASSERT_TRUE(BackupDataDir(Data(), backup).ok());
  EXPECT_EQ(ReasonOf(BackupDataDir(Data(), backup)), "BACKUP_EXISTS");
  EXPECT_EQ(ReasonOf(RestoreDataDir(backup, Data())), "DATA_DIR_EXISTS");
  EXPECT_EQ(ReasonOf(RestoreDataDir(directory_ / "nothing", directory_ / "new")),
            "BACKUP_NOT_FOUND");
  std::filesystem::remove_all(Data());
  ASSERT_TRUE(RestoreDataDir(backup, Data()).ok());
  EXPECT_TRUE(VerifyDataDir(Data(), 0)->damages.empty());
  const auto engine = Open(0);
  const auto answer = Ask(*engine, kLibrary);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->text, answer_);
  EXPECT_EQ(answer->usage.corpus_prefill_tokens, 0);
}

}  // namespace
}  // namespace lectern::engine
