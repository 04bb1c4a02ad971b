// The places at which tests interfere: each is reached by work that a store does anyway, and does
// there what was asked for.
#include "storage/fail_point.h"

#include <set>
#include <string>

#include "crash_workload.h"

namespace lectern::storage {
namespace {

// Reached by the engine's ingest; tests/engine/fail_point_test.cc has them.
const std::set<std::string_view> kEnginePlaces = {"ingest.planned", "layout.written",
                                                  "ingest.started", "ingest.step_computed",
                                                  "ingest.published"};
constexpr size_t kFewestPlaces = 20;

struct Enough {};

absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& directory) {
  StoreOptions options;
  options.directory = directory;
  return Store::Open(options);
}

class FailPointTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kFailPointsBuilt) GTEST_SKIP() << "built without LECTERN_FAIL_POINTS";
  }
  void TearDown() override { Must(ArmFailPoints("")); }

  std::string Directory() const { return scratch_.path() + "/data"; }

  ScratchDirectory scratch_;
};

TEST_F(FailPointTest, EveryPlaceOfStorageIsReached) {
  {
    auto store = Must(Open(Directory()));
    try {
      CrashWorker(store.get(), 3, [&](const std::string& line) {
        Acknowledged said;
        said.Add(line);
        if (said.deleted.contains(1)) throw Enough();
      }).Run();
    } catch (const Enough&) {
    }
    Catalog& catalog = store->catalog();
    Must(store->CollectGarbage());
    const uint64_t tenant = Must(catalog.GetTenant(kDefaultTenantId)).uid;
    // A corpus of two generations, of which the first goes.
    SampleCache cache(SmallGeometry(), 77);
    const Corpus corpus = Must(catalog.CreateCorpus(tenant, {"small", "", {}}, 1));
    auto writer = Must(catalog.WriteDocument(corpus.uid, {"d", "", ""}));
    Must(writer->Append("words"));
    Must(writer->Commit(1, std::nullopt));
    const Generation first = Ingest(store.get(), corpus.uid, &cache, 300);
    auto reader =
        Must(store->blocks().OpenContext(tenant, first.contexts[0].segments, 300, SmallGeometry()));
    ExpectContext(*reader, cache);
    reader.reset();
    Ingest(store.get(), corpus.uid, &cache, 400);
    const Session session = Must(catalog.CreateSession(first.uid, 0, {"s", "", {}}, 1));
    Must(catalog.DeleteSession(session.uid));
    Must(catalog.DeleteGeneration(first.uid));
    Must(catalog.DeleteDocument(corpus.uid, "d", 1));
    Must(catalog.EvictGeneration(Must(catalog.GetCorpusByUid(corpus.uid)).current_generation));
    Ingest(store.get(), corpus.uid, &cache, 500);
    Must(catalog.QuarantineGeneration(Must(catalog.GetCorpusByUid(corpus.uid)).current_generation));
    // To another store, and away from there.
    auto other = Must(Store::OpenInMemory(StoreOptions()));
    auto writer_of_more = Must(catalog.WriteDocument(corpus.uid, {"more", "", ""}));
    Must(writer_of_more->Append("more"));
    Must(writer_of_more->Commit(1, std::nullopt));
    const Corpus moved = Must(catalog.CreateCorpus(tenant, {"moved", "", {}}, 1));
    const Operation made = Must(catalog.CreateOperation(moved.uid, IngestOperation(), 1));
    Must(catalog.BeginIngest(RequestFor(made.uid, cache, 300), 1));
    Must(catalog.PutLayoutPart(made.uid, 0, 0, "layout"));
    Must(catalog.CommitIngestBlocks(made.uid, 0, cache.Blocks(0, 300)));
    Must(catalog.PublishGeneration(made.uid, SpecFor(300), 1));
    std::unique_ptr<CorpusImport> import;
    Must(CopyRound(store.get(), moved.uid, other.get(),
                   Must(other->catalog().GetTenant(kDefaultTenantId)).uid, cache, {.turns = true},
                   &import));
    Must(import->Keep(true));
    const Corpus arrived = Must(import->Publish());
    Must(other->AbandonImport(arrived.uid, 1));
    // Bulk data that no directory names, met again at open.
    Geometry wide = SmallGeometry();
    wide.head_dim = 128;
    wide.kv_heads = 8;
    SampleCache large(wide, 5);
    const Operation operation = Must(catalog.CreateOperation(corpus.uid, IngestOperation(), 1));
    constexpr uint64_t kTokens = 16 * kBlockTokens;
    Must(catalog.BeginIngest(RequestFor(operation.uid, large, kTokens), 1));
    Must(catalog.PutLayoutPart(operation.uid, 0, 0, "layout"));
    Must(ArmFailPoints("commit.directory=error"));
    EXPECT_CODE(catalog.CommitIngestBlocks(operation.uid, 0, large.Blocks(0, kTokens)),
                absl::StatusCode::kUnavailable);
  }
  Must(Open(Directory()));
  size_t places = 0;
  for (const FailPointInfo& info : AllFailPoints()) {
    if (kEnginePlaces.contains(info.name)) continue;
    ++places;
    EXPECT_GT(FailPointHits(info.point), 0u) << info.name << " was never reached";
  }
  EXPECT_GE(places, kFewestPlaces);
}

TEST_F(FailPointTest, AnErrorComesOnceAndNothingOfTheStepIsSeen) {
  auto store = Must(Open(Directory()));
  Catalog& catalog = store->catalog();
  const uint64_t tenant = Must(catalog.GetTenant(kDefaultTenantId)).uid;
  Must(ArmFailPoints("corpus.create=error@2"));
  Must(catalog.CreateCorpus(tenant, {"a", "", {}}, 1));
  EXPECT_CODE(catalog.CreateCorpus(tenant, {"b", "", {}}, 1), absl::StatusCode::kUnavailable);
  EXPECT_CODE(catalog.GetCorpus(tenant, "b"), absl::StatusCode::kNotFound);
  EXPECT_OK(catalog.CreateCorpus(tenant, {"b", "", {}}, 1));
}

TEST_F(FailPointTest, AnErrorMayStay) {
  auto store = Must(Open(Directory()));
  Catalog& catalog = store->catalog();
  const uint64_t tenant = Must(catalog.GetTenant(kDefaultTenantId)).uid;
  Must(ArmFailPoints("corpus.create=error@2+"));
  Must(catalog.CreateCorpus(tenant, {"a", "", {}}, 1));
  for (int i = 0; i < 3; ++i) {
    EXPECT_CODE(catalog.CreateCorpus(tenant, {"b", "", {}}, 1), absl::StatusCode::kUnavailable);
  }
  Must(ArmFailPoints(""));
  EXPECT_OK(catalog.CreateCorpus(tenant, {"b", "", {}}, 1));
}

TEST_F(FailPointTest, KillIsSigkill) {
  auto store = Must(Open(Directory()));
  const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
  EXPECT_EXIT(
      {
        Must(ArmFailPoints("corpus.create=kill"));
        store->catalog().CreateCorpus(tenant, {"a", "", {}}, 1).IgnoreError();
      },
      testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FailPointTest, WhatMakesNoSenseIsRefused) {
  for (const char* wrong : {"corpus.create", "nowhere=kill", "corpus.create=dance",
                            "corpus.create=kill@0", "corpus.create=kill@x", "corpus.create=error@+",
                            "log.written=error", "corpus.create=sleep:long"}) {
    EXPECT_CODE(ArmFailPoints(wrong), absl::StatusCode::kInvalidArgument) << wrong;
  }
  EXPECT_OK(ArmFailPoints("corpus.create=sleep:1@3,log.written=kill@9"));
}

}  // namespace
}  // namespace lectern::storage
