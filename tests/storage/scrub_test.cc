// The walk that verifies everything, quarantine of what it finds, and backups.
#include "storage/scrub.h"

#include <chrono>
#include <filesystem>
#include <fstream>

#include "storage/keys.h"
#include "storage/record.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kTokens = 9 * kBlockTokens + 44;
constexpr uint64_t kSharedTokens = 4 * kBlockTokens;  // of the second corpus: a prefix of the first
constexpr uint32_t kDamagedBlock = 6;

class ScrubTest : public testing::Test {
 protected:
  ScrubTest() : cache_(SmallGeometry(), 8) {
    auto store = Open();
    Catalog& catalog = store->catalog();
    tenant_ = Must(catalog.GetTenant(kDefaultTenantId)).uid;
    first_ = Make(store.get(), "first", kTokens);
    second_ = Make(store.get(), "second", kSharedTokens);
    session_ = Must(catalog.CreateSession(first_.uid, 0, {"s", "", {}}, 1));
    session_ = Must(catalog.CommitTurn(session_.uid, {0, kTokens + 5, 1, "turn"},
                                       cache_.Blocks(9, kTokens + 5), 1));
    lineage_ = first_.contexts[0].segments[0].lineage;
  }

  std::unique_ptr<Store> Open(const std::string& name = "data") const {
    StoreOptions options;
    options.directory = scratch_.path() + "/" + name;
    return Must(Store::Open(options));
  }

  Generation Make(Store* store, const std::string& id, uint64_t tokens) {
    Catalog& catalog = store->catalog();
    const Corpus corpus = Must(catalog.CreateCorpus(tenant_, {id, "", {}}, 1));
    auto writer = Must(catalog.WriteDocument(corpus.uid, {"d", "", ""}));
    Must(writer->Append(std::string(1'500'000, 'x')));
    document_ = Must(writer->Commit(1, std::nullopt)).uid;
    const Operation operation = Must(catalog.CreateOperation(corpus.uid, IngestOperation(), 1));
    IngestRequest request = RequestFor(operation.uid, cache_, tokens);
    request.documents = {document_};
    IngestIntent intent = Must(catalog.BeginIngest(request, 1));
    Must(catalog.PutLayoutPart(operation.uid, 0, 0, "layout of " + id));
    return Finish(store, intent, tokens);
  }

  Generation Finish(Store* store, IngestIntent intent, uint64_t tokens) {
    Catalog& catalog = store->catalog();
    while (intent.contexts[0].token_count < tokens) {
      const uint32_t block = intent.contexts[0].end_block;
      const uint64_t end = std::min<uint64_t>(tokens, uint64_t{block + 3} * kBlockTokens);
      intent = Must(catalog.CommitIngestBlocks(intent.operation_uid, 0, cache_.Blocks(block, end)));
    }
    GenerationSpec spec = SpecFor(tokens);
    spec.documents = intent.documents;
    return Must(catalog.PublishGeneration(intent.operation_uid, spec, 1));
  }

  // Below the store: another value under a key, or none.
  void Overwrite(ColumnFamily family, const std::string& key, bool remove = false) {
    auto bytes = OpenTwin(Twin::kRocksDb, scratch_.path() + "/data");
    PinnedValue value;
    Must(bytes->Get(family, key, &value));
    std::string damaged(value.view());
    damaged[damaged.size() - 1] = static_cast<char>(damaged.back() ^ 1);
    Batch batch;
    if (remove) {
      batch.Delete(family, key);
    } else {
      batch.Put(family, key, damaged);
    }
    Must(bytes->Write(batch, Durability::kSynced));
  }

  ScratchDirectory scratch_;
  SampleCache cache_;
  uint64_t tenant_ = 0;
  uint64_t document_ = 0;
  uint64_t lineage_ = 0;
  Generation first_, second_;
  Session session_;
};

TEST_F(ScrubTest, AStoreThatIsWholeHasNoDamage) {
  const ScrubReport report = Must(Open()->Scrub({}));
  EXPECT_TRUE(report.complete);
  EXPECT_TRUE(report.damages.empty());
  // Two layers of index keys and three of K/V, of ten and a copied tail block; two documents.
  EXPECT_GT(report.records, 10u * 3 + 2 * 2);
  EXPECT_GT(report.bytes, 3'000'000u);
}

TEST_F(ScrubTest, ADamagedBlockIsFoundAndOnlyItsCorpusIsQuarantinedAndRebuilt) {
  Overwrite(ColumnFamily::kKv, KvKey(tenant_, lineage_, kDamagedBlock, 1));
  auto store = Open();
  Catalog& catalog = store->catalog();
  ScrubReport report = Must(store->Scrub({}));
  ASSERT_EQ(report.damages.size(), 1u);
  const Damage damage = report.damages[0];
  EXPECT_EQ(damage.kind, Damage::Kind::kBlocks);
  EXPECT_EQ(damage.blocks, (Segment{lineage_, kDamagedBlock, 1}));
  EXPECT_EQ(damage.corpora, std::vector<uint64_t>{first_.corpus_uid});
  EXPECT_EQ(damage.generations, std::vector<uint64_t>{first_.uid});
  EXPECT_EQ(damage.sessions, std::vector<uint64_t>{session_.uid});

  const std::vector<Generation> quarantined = Must(catalog.QuarantineBlocks(damage.blocks));
  ASSERT_EQ(quarantined.size(), 1u);
  EXPECT_EQ(quarantined[0].uid, first_.uid);
  EXPECT_EQ(Must(catalog.GetGeneration(first_.uid)).residency, Residency::kQuarantined);
  // The second corpus stands on whole blocks of the same lineage, and keeps them.
  EXPECT_EQ(Must(catalog.GetGeneration(second_.uid)), second_);
  auto reader = Must(store->blocks().OpenContext(tenant_, second_.contexts[0].segments,
                                                 kSharedTokens, SmallGeometry()));
  ExpectContext(*reader, cache_);
  reader.reset();
  // No look-up leads to the damaged block.
  const auto prefix = Must(store->blocks().LookupPrefix(tenant_, cache_.FullHashes(kTokens)));
  EXPECT_EQ(prefix.back().end_block(), kDamagedBlock);

  // The rebuild computes from there on, and the session has its blocks again.
  const Operation operation =
      Must(catalog.CreateOperation(first_.corpus_uid, IngestOperation(), 1));
  IngestRequest request = RequestFor(operation.uid, cache_, kTokens);
  for (const GenerationDocument& document : first_.documents) {
    request.documents.push_back(document.uid);
  }
  request.source_generation = first_.uid;
  request.restore = true;
  const IngestIntent intent = Must(catalog.BeginIngest(request, 1));
  EXPECT_EQ(intent.contexts[0].first_block, kDamagedBlock);
  Finish(store.get(), intent, kTokens);
  const Generation restored = Must(catalog.GetGeneration(first_.uid));
  EXPECT_EQ(restored.residency, Residency::kComplete);
  ExpectContext(*Must(store->blocks().OpenContext(tenant_, restored.contexts[0].segments, kTokens,
                                                  SmallGeometry())),
                cache_);
  const Session session = Must(catalog.GetSessionByUid(session_.uid));
  ExpectContext(*Must(store->blocks().OpenContext(tenant_, session.segments, session.token_count,
                                                  SmallGeometry())),
                cache_);
  // What is still damaged belongs to nobody's prefix; without holders it goes.
  Must(catalog.DeleteCorpus(second_.corpus_uid, 1));
  Must(store->CollectGarbage());
  report = Must(store->Scrub({}));
  for (const Damage& left : report.damages) {
    EXPECT_TRUE(left.corpora.empty()) << left.what;
  }
}

TEST_F(ScrubTest, OneCorpusIsWalkedAlone) {
  Overwrite(ColumnFamily::kKv, KvKey(tenant_, lineage_, kDamagedBlock, 1));
  Overwrite(ColumnFamily::kDocument, DocumentChunkKey(second_.corpus_uid, document_, 1));
  auto store = Open();
  int told = 0;
  const ScrubReport first = Must(
      store->Scrub({.corpus_uid = first_.corpus_uid, .found = [&](const Damage&) { ++told; }}));
  ASSERT_EQ(first.damages.size(), 1u);
  EXPECT_EQ(told, 1);
  EXPECT_EQ(first.damages[0].kind, Damage::Kind::kBlocks);
  EXPECT_LT(first.bytes, Must(store->Scrub({})).bytes);
  EXPECT_CODE(store->Scrub({.corpus_uid = 9999}), absl::StatusCode::kNotFound);
}

TEST_F(ScrubTest, EveryKindOfDamageIsNamed) {
  Overwrite(ColumnFamily::kIndexKeys, IndexKey(tenant_, lineage_, RecordKind::kIndexBf16, 0, 0));
  Overwrite(ColumnFamily::kKv, KvKey(tenant_, lineage_, 8, 0), /*remove=*/true);
  Overwrite(ColumnFamily::kHash, HashKey(tenant_, cache_.Hash(0, kBlockTokens)));
  Overwrite(ColumnFamily::kDocument, DocumentChunkKey(second_.corpus_uid, document_, 1));
  Overwrite(ColumnFamily::kDocument, LayoutPieceKey(first_.uid, 0, 0, 0));
  Overwrite(ColumnFamily::kCatalog, ChildKey(KeySpace::kTurn, session_.uid, 0));
  auto store = Open();
  const ScrubReport report = Must(store->Scrub({}));
  std::map<Damage::Kind, std::vector<Damage>> found;
  for (const Damage& damage : report.damages) found[damage.kind].push_back(damage);
  // Index keys of the first run, which covers three blocks; K/V of one block.
  ASSERT_EQ(found[Damage::Kind::kBlocks].size(), 2u);
  EXPECT_EQ(found[Damage::Kind::kBlocks][0].blocks, (Segment{lineage_, 0, 3}));
  EXPECT_EQ(found[Damage::Kind::kBlocks][0].corpora,
            (std::vector<uint64_t>{first_.corpus_uid, second_.corpus_uid}));
  EXPECT_EQ(found[Damage::Kind::kBlocks][1].blocks, (Segment{lineage_, 8, 1}));
  ASSERT_EQ(found[Damage::Kind::kHash].size(), 1u);
  ASSERT_EQ(found[Damage::Kind::kDocument].size(), 1u);
  EXPECT_EQ(found[Damage::Kind::kDocument][0].document_uid, document_);
  EXPECT_EQ(found[Damage::Kind::kDocument][0].corpora, std::vector<uint64_t>{second_.corpus_uid});
  ASSERT_EQ(found[Damage::Kind::kLayout].size(), 1u);
  EXPECT_EQ(found[Damage::Kind::kLayout][0].generations, std::vector<uint64_t>{first_.uid});
  ASSERT_EQ(found[Damage::Kind::kCatalog].size(), 1u);

  Must(store->catalog().DropDamagedHashes());
  EXPECT_TRUE(Must(store->blocks().LookupPrefix(tenant_, cache_.FullHashes(kTokens))).empty());
  EXPECT_EQ(Must(store->catalog().QuarantineGeneration(first_.uid)).residency,
            Residency::kQuarantined);
}

TEST_F(ScrubTest, AKeptPaceAndAStopAreKept) {
  auto store = Open();
  const auto begin = std::chrono::steady_clock::now();
  const ScrubReport whole = Must(store->Scrub({.bytes_per_second = 10'000'000}));
  EXPECT_TRUE(whole.complete);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_GE(seconds, 0.9 * static_cast<double>(whole.bytes) / 10e6);
  int asked = 0;
  const ScrubReport stopped = Must(store->Scrub({.stop = [&] { return ++asked == 5; }}));
  EXPECT_FALSE(stopped.complete);
  EXPECT_LT(stopped.records, whole.records);
}

TEST_F(ScrubTest, ADirectoryThatIsDamagedDoesNotKeepItsLineageForEver) {
  Overwrite(ColumnFamily::kCatalog, BlockRunKey(lineage_, 3));
  auto store = Open();
  const ScrubReport report = Must(store->Scrub({}));
  ASSERT_FALSE(report.damages.empty());
  for (const Damage& damage : report.damages) {
    if (damage.kind != Damage::Kind::kBlocks) continue;
    EXPECT_EQ(damage.blocks, (Segment{lineage_, 0, 10}));
    EXPECT_EQ(Must(store->catalog().QuarantineBlocks(damage.blocks)).size(), 2u);
  }
  EXPECT_GE(Must(store->CollectGarbage()).lineages_purged, 1u);
  for (const Damage& damage : Must(store->Scrub({})).damages) ADD_FAILURE() << damage.what;
}

TEST_F(ScrubTest, ABackupIsAStoreAsItWasAndIsRestored) {
  const std::string backup = scratch_.path() + "/backup";
  const std::string data = scratch_.path() + "/restored";
  {
    auto store = Open();
    Must(store->Backup(backup));
    EXPECT_CODE(store->Backup(backup), absl::StatusCode::kAlreadyExists);
    // The store goes on; the backup does not change.
    Must(store->catalog().DeleteCorpus(first_.corpus_uid, 1));
    Must(store->CollectGarbage());
  }
  Must(RestoreBackup(backup, data));
  EXPECT_CODE(RestoreBackup(backup, data), absl::StatusCode::kAlreadyExists);
  auto store = Open("restored");
  EXPECT_TRUE(Must(store->Scrub({})).damages.empty());
  EXPECT_EQ(Must(store->catalog().GetGeneration(first_.uid)), first_);
  ExpectContext(*Must(store->blocks().OpenContext(tenant_, first_.contexts[0].segments, kTokens,
                                                  SmallGeometry())),
                cache_);
  // What is done to the one is not done to the other: no file is shared.
  for (const auto& entry : fs::recursive_directory_iterator(data)) {
    if (entry.is_regular_file()) {
      EXPECT_EQ(fs::hard_link_count(entry.path()), 1u) << entry.path();
    }
  }
  EXPECT_EQ(Must(Open("backup")->Scrub({})).damages.size(), 0u);
}

TEST_F(ScrubTest, ABackupThatWasNotCompletedIsNotRestored) {
  const std::string backup = scratch_.path() + "/backup";
  Must(Open()->Backup(backup));
  fs::remove(backup + "/FORMAT");
  EXPECT_CODE(RestoreBackup(backup, scratch_.path() + "/restored"), absl::StatusCode::kNotFound);
  std::ofstream(backup + "/FORMAT") << "lectern-store\nformat 99\nid x\n";
  EXPECT_CODE(RestoreBackup(backup, scratch_.path() + "/restored"),
              absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(fs::exists(scratch_.path() + "/restored"));
}

}  // namespace
}  // namespace lectern::storage
