// Eviction drops blocks and nothing else; a rebuild brings the same bytes back to everything that
// stood on them; a collection may come at any moment between. Over both twins.
#include <functional>
#include <set>

#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kInvalidArgument = absl::StatusCode::kInvalidArgument;
constexpr uint64_t kTokens = 9 * kBlockTokens + 40;

class EvictionTest : public testing::TestWithParam<Twin> {
 protected:
  EvictionTest() : cache_(SmallGeometry(), 3) {
    std::unique_ptr<KeyValueStore> bytes = OpenTwin(GetParam(), scratch_.path());
    bytes_ = bytes.get();
    store_ = Must(Store::OpenOn(std::move(bytes), StoreOptions()));
    tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
    corpus_ = MakeCorpus("c");
  }

  Catalog& catalog() { return store_->catalog(); }

  uint64_t MakeCorpus(const std::string& id) {
    const uint64_t uid = Must(catalog().CreateCorpus(tenant_, {id, "", {}}, 1)).uid;
    auto writer = Must(catalog().WriteDocument(uid, {"d", "", "text/plain"}));
    Must(writer->Append("the words of " + id));
    Must(writer->Commit(1, std::nullopt));
    return uid;
  }

  std::vector<uint64_t> DocumentsOf(uint64_t corpus) {
    std::vector<uint64_t> uids;
    for (const Document& document : Must(catalog().ListDocuments(corpus, {})).items) {
      uids.push_back(document.uid);
    }
    return uids;
  }

  // A step of an ingest or a rebuild, and whatever a test wants to happen between two of them.
  using Between = std::function<void()>;

  IngestIntent Begin(uint64_t corpus, uint64_t tokens, uint64_t restore = 0) {
    const Operation operation = Must(catalog().CreateOperation(corpus, IngestOperation(), 1));
    IngestRequest request = RequestFor(operation.uid, cache_, tokens);
    request.documents = DocumentsOf(corpus);
    if (restore != 0) {
      request.documents.clear();
      for (const GenerationDocument& document : Must(catalog().GetGeneration(restore)).documents) {
        request.documents.push_back(document.uid);
      }
    }
    request.source_generation = restore;
    request.restore = restore != 0;
    return Must(catalog().BeginIngest(request, 2));
  }

  Generation Finish(
      IngestIntent intent, uint64_t tokens, const Between& between = [] {}) {
    between();
    Must(catalog().PutLayoutPart(intent.operation_uid, 0, 0, "layout"));
    between();
    while (intent.contexts[0].token_count < tokens) {
      const uint32_t first = intent.contexts[0].end_block;
      const uint64_t end = std::min<uint64_t>(tokens, uint64_t{first + 4} * kBlockTokens);
      intent =
          Must(catalog().CommitIngestBlocks(intent.operation_uid, 0, cache_.Blocks(first, end)));
      between();
    }
    GenerationSpec spec = SpecFor(tokens);
    spec.documents = intent.documents;
    const Generation generation = Must(catalog().PublishGeneration(intent.operation_uid, spec, 3));
    between();
    return generation;
  }

  Generation MakeGeneration(uint64_t corpus, uint64_t tokens) {
    return Finish(Begin(corpus, tokens), tokens);
  }

  void ExpectReadable(const std::vector<Segment>& segments, uint64_t tokens) {
    auto reader = store_->blocks().OpenContext(tenant_, segments, tokens, cache_.geometry());
    ASSERT_OK(reader);
    EXPECT_EQ((*reader)->token_count(), tokens);
    ExpectContext(**reader, cache_);
  }

  ScratchDirectory scratch_;
  KeyValueStore* bytes_ = nullptr;
  std::unique_ptr<Store> store_;
  SampleCache cache_;
  uint64_t tenant_ = 0;
  uint64_t corpus_ = 0;
};

TEST_P(EvictionTest, BlocksGoAndNothingElse) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  const Generation evicted = Must(catalog().EvictGeneration(generation.uid));
  EXPECT_EQ(evicted.residency, Residency::kEvicted);
  EXPECT_EQ(Must(catalog().GetGeneration(generation.uid)), evicted);
  EXPECT_EQ(evicted.contexts[0].token_count, kTokens);
  EXPECT_TRUE(evicted.contexts[0].segments.empty());
  Must(store_->CollectGarbage());
  for (const ColumnFamily family :
       {ColumnFamily::kKv, ColumnFamily::kIndexKeys, ColumnFamily::kHash}) {
    EXPECT_EQ(KeysIn(*bytes_, family), 0u) << ColumnFamilyName(family);
  }
  EXPECT_EQ(Must(catalog().GetLayoutPart(generation.uid, 0, 0)), "layout");
  EXPECT_EQ(Must(catalog().GetCorpusByUid(corpus_)).current_generation, generation.uid);
  const Document document = Must(catalog().GetDocument(corpus_, "d"));
  EXPECT_EQ(Must(catalog().ReadDocument(document, 0, 99)), "the words of c");
  EXPECT_CODE(catalog().EvictGeneration(generation.uid), kFailedPrecondition) << "gone already";
  EXPECT_CODE(catalog().EvictGeneration(generation.uid + 99), kNotFound);
  EXPECT_TRUE(Must(catalog().CachedGenerations()).empty());
}

TEST_P(EvictionTest, ARebuildRestoresTheGenerationUnderItsName) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  const Corpus before = Must(catalog().GetCorpusByUid(corpus_));
  Must(catalog().EvictGeneration(generation.uid));
  Must(store_->CollectGarbage());
  // Its documents may have left the corpus meanwhile: the generation holds them.
  ASSERT_OK(catalog().DeleteDocument(corpus_, "d", 2));
  const IngestIntent intent = Begin(corpus_, kTokens, generation.uid);
  EXPECT_EQ(intent.generation_uid, generation.uid);
  EXPECT_EQ(Must(catalog().GetGeneration(generation.uid)).residency, Residency::kPartial);
  EXPECT_CODE(catalog().EvictGeneration(generation.uid), kFailedPrecondition);
  EXPECT_CODE(catalog().DeleteGeneration(generation.uid), kFailedPrecondition);
  const Generation rebuilt = Finish(intent, kTokens);
  EXPECT_EQ(rebuilt.uid, generation.uid);
  EXPECT_EQ(rebuilt.residency, Residency::kComplete);
  EXPECT_EQ(rebuilt.publish_time, generation.publish_time);
  EXPECT_EQ(rebuilt.documents, generation.documents);
  EXPECT_NE(rebuilt.contexts[0].segments, generation.contexts[0].segments) << "a lineage anew";
  ExpectReadable(rebuilt.contexts[0].segments, kTokens);
  EXPECT_EQ(Must(catalog().GetCorpusByUid(corpus_)).current_generation, before.current_generation);
  EXPECT_EQ(Must(catalog().GetOperation(intent.operation_uid)).generation_uid, generation.uid);
  Must(store_->CollectGarbage());
  ExpectReadable(Must(catalog().GetGeneration(generation.uid)).contexts[0].segments, kTokens);
}

TEST_P(EvictionTest, OnlyTheSameTokensRestoreAGeneration) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  Must(catalog().EvictGeneration(generation.uid));
  const IngestIntent intent = Begin(corpus_, kTokens, generation.uid);
  Must(catalog().CommitIngestBlocks(intent.operation_uid, 0, cache_.Blocks(0, kTokens)));
  GenerationSpec other = SpecFor(kTokens);
  other.documents = intent.documents;
  other.contexts[0].tail_tokens.back() = 7;
  EXPECT_CODE(catalog().PublishGeneration(intent.operation_uid, other, 3), kFailedPrecondition);
  other = SpecFor(kTokens);
  other.documents = intent.documents;
  other.model_fingerprint[0] = 1;
  EXPECT_CODE(catalog().PublishGeneration(intent.operation_uid, other, 3), kFailedPrecondition);
  // Ended in failure, it is what it was; and the next one succeeds.
  Must(catalog().EndOperation(intent.operation_uid, {OperationState::kFailed, 9, "X", ""}, 4));
  EXPECT_EQ(Must(catalog().GetGeneration(generation.uid)).residency, Residency::kEvicted);
  Must(store_->CollectGarbage());
  EXPECT_EQ(Must(catalog().GetLayoutPart(generation.uid, 0, 0)), "layout");
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kKv), 0u);
  const Generation rebuilt = Finish(Begin(corpus_, kTokens, generation.uid), kTokens);
  ExpectReadable(rebuilt.contexts[0].segments, kTokens);
}

TEST_P(EvictionTest, ARebuildTakesAnEvictedGenerationAndItsOwnDocuments) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  IngestRequest request = RequestFor(operation.uid, cache_, kTokens);
  request.documents = DocumentsOf(corpus_);
  request.source_generation = generation.uid;
  request.restore = true;
  EXPECT_CODE(catalog().BeginIngest(request, 1), kFailedPrecondition) << "not evicted";
  Must(catalog().EvictGeneration(generation.uid));
  request.documents.clear();
  EXPECT_CODE(catalog().BeginIngest(request, 1), kInvalidArgument) << "other documents";
  request.documents = DocumentsOf(corpus_);
  request.source_generation = generation.uid + 99;
  EXPECT_CODE(catalog().BeginIngest(request, 1), kNotFound);
  // A complete one needs no work at all.
  const Operation done = Must(catalog().SucceedOperation(operation.uid, generation.uid, 5));
  EXPECT_EQ(done.state, OperationState::kSucceeded);
  EXPECT_EQ(done.generation_uid, generation.uid);
  EXPECT_CODE(catalog().SucceedOperation(operation.uid, generation.uid, 5), kFailedPrecondition);
  EXPECT_TRUE(Must(catalog().RunningOperations()).empty());
}

TEST_P(EvictionTest, SessionsKeepTheirTurnsAndGoOnAfterARebuild) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  const Session fresh = Must(catalog().CreateSession(generation.uid, 0, {"fresh", "", {}}, 1));
  const Session talk = Must(catalog().CreateSession(generation.uid, 0, {"talk", "", {}}, 1));
  const uint64_t first = kTokens + 200;
  Must(catalog().CommitTurn(talk.uid, {0, first, 1, "t0"}, cache_.Blocks(9, first), 1));
  const Session fork = Must(catalog().ForkSession(talk.uid, 1, {"fork", "", {}}, 1));

  Must(catalog().EvictGeneration(generation.uid));
  Must(store_->CollectGarbage());
  EXPECT_EQ(Must(catalog().GetTurn(talk.uid, 0)).payload, "t0");
  EXPECT_GT(KeysIn(*bytes_, ColumnFamily::kKv), 0u) << "the turn's own blocks stay";
  const Session late = Must(catalog().CreateSession(generation.uid, 0, {"late", "", {}}, 2));
  const Session early = Must(catalog().ForkSession(talk.uid, 0, {"early", "", {}}, 2));

  const Generation rebuilt = Finish(Begin(corpus_, kTokens, generation.uid), kTokens);
  Must(store_->CollectGarbage());
  for (const Session& session : {fresh, talk, fork, late, early}) {
    const Session now = Must(catalog().GetSessionByUid(session.uid));
    ExpectReadable(now.segments, now.token_count);
  }
  const uint64_t second = first + 300;
  const Session grown = Must(
      catalog().CommitTurn(talk.uid, {1, second, 2, "t1"},
                           cache_.Blocks(static_cast<uint32_t>(first / kBlockTokens), second), 2));
  ExpectReadable(grown.segments, second);
  // References are settled: with all of them gone, so are the bytes.
  ASSERT_OK(catalog().DeleteCorpus(corpus_, 9));
  Must(store_->CollectGarbage());
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kKv), 0u);
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kHash), 0u);
  EXPECT_EQ(rebuilt.uid, generation.uid);
}

TEST_P(EvictionTest, WhatOthersShareStays) {
  const Generation mine = MakeGeneration(corpus_, kTokens);
  const uint64_t other = MakeCorpus("other");
  const Generation theirs = MakeGeneration(other, kTokens + 3 * kBlockTokens);
  ASSERT_GT(theirs.contexts[0].segments.size(), 1u) << "a prefix is shared";
  Must(catalog().EvictGeneration(mine.uid));
  Must(store_->CollectGarbage());
  ExpectReadable(theirs.contexts[0].segments, theirs.contexts[0].token_count);
  // And a rebuild finds the shared blocks stored.
  const IngestIntent intent = Begin(corpus_, kTokens, mine.uid);
  EXPECT_EQ(intent.contexts[0].token_count, 9 * kBlockTokens);
  const Generation rebuilt = Finish(intent, kTokens);
  Must(catalog().EvictGeneration(theirs.uid));
  Must(store_->CollectGarbage());
  ExpectReadable(rebuilt.contexts[0].segments, kTokens);
}

TEST_P(EvictionTest, PinnedCorporaKeepTheirBlocks) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  EXPECT_TRUE(Must(catalog().UpdateCorpus(corpus_, {.pinned = true}, 2)).pinned);
  EXPECT_CODE(catalog().EvictGeneration(generation.uid), kFailedPrecondition);
  EXPECT_TRUE(Must(catalog().CachedGenerations())[0].pinned);
  ExpectReadable(generation.contexts[0].segments, kTokens);
  EXPECT_FALSE(Must(catalog().UpdateCorpus(corpus_, {.pinned = false}, 2)).pinned);
  EXPECT_OK(catalog().EvictGeneration(generation.uid));
}

TEST_P(EvictionTest, AnOpenReaderGoesOnAndItsBytesWait) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  auto reader = Must(store_->blocks().OpenContext(tenant_, generation.contexts[0].segments, kTokens,
                                                  cache_.geometry()));
  Must(catalog().EvictGeneration(generation.uid));
  EXPECT_EQ(Must(store_->CollectGarbage()).lineages_in_use, 1u);
  ExpectContext(*reader, cache_);
  reader.reset();
  EXPECT_EQ(Must(store_->CollectGarbage()).lineages_purged, 1u);
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kKv), 0u);
}

TEST_P(EvictionTest, WhatEvictionWouldGiveIsKnown) {
  const Generation old = MakeGeneration(corpus_, kTokens);
  Must(catalog().CreateSession(old.uid, 0, {"s", "", {}}, 1));
  const Generation current = MakeGeneration(corpus_, kTokens + 5 * kBlockTokens);
  EXPECT_OK(catalog().UseCorpus(corpus_, 77));
  EXPECT_OK(catalog().UseCorpus(corpus_, 50)) << "time does not go back";
  EXPECT_CODE(catalog().UseCorpus(corpus_ + 99, 1), kNotFound);
  const std::vector<CachedGeneration> cached = Must(catalog().CachedGenerations());
  ASSERT_EQ(cached.size(), 2u);
  const CachedGeneration& first = cached[0].uid == old.uid ? cached[0] : cached[1];
  const CachedGeneration& second = cached[0].uid == old.uid ? cached[1] : cached[0];
  EXPECT_EQ(second.uid, current.uid);
  EXPECT_FALSE(first.current);
  EXPECT_TRUE(second.current);
  EXPECT_EQ(first.sessions, 1u);
  EXPECT_EQ(first.last_used_time, 77);
  EXPECT_EQ(first.corpus_uid, corpus_);
  EXPECT_EQ(first.tenant_uid, tenant_);
  const Geometry& geometry = cache_.geometry();
  const uint64_t bytes_per_token =
      geometry.layers * geometry.KvBytes(1) + geometry.IndexedLayers() * geometry.IndexBytes(1);
  EXPECT_EQ(first.bytes, kTokens * bytes_per_token);
  ASSERT_EQ(first.lineages.size(), 1u);
  EXPECT_EQ(first.lineages[0].own_holders, 2u) << "the generation and its session";
  EXPECT_EQ(first.lineages[0].holders, 3u) << "and the current one, which begins with them";
  ASSERT_EQ(second.lineages.size(), 2u);
  // Its own blocks begin with the tail that the old generation has, written anew.
  EXPECT_EQ(second.bytes, first.bytes + (5 * kBlockTokens + 40) * bytes_per_token);
}

// Ingests, evictions and rebuilds over shared prefixes, with a collection after every step, and
// with everything that may be deleted gone before it: what an intent holds stays.
TEST_P(EvictionTest, ACollectionBetweenAnyTwoStepsTakesNothingThatIsHeld) {
  const uint64_t other = MakeCorpus("other");
  Generation shared = MakeGeneration(corpus_, kTokens);
  for (int step = 0; step < 8; ++step) {
    SCOPED_TRACE(step);
    int steps = 0;
    bool gone = false;
    const Between between = [&] {
      Must(store_->CollectGarbage());
      // At one of the steps what the intent found loses every other holder.
      if (steps++ != step || gone) return;
      gone = true;
      Must(catalog().EvictGeneration(shared.uid));
      Must(store_->CollectGarbage());
      Must(store_->CollectGarbage());
    };
    const IngestIntent intent = Begin(other, kTokens + 6 * kBlockTokens);
    EXPECT_EQ(intent.contexts[0].token_count, 9 * kBlockTokens) << "a stored prefix is found";
    const Generation made = Finish(intent, kTokens + 6 * kBlockTokens, between);
    ExpectReadable(made.contexts[0].segments, made.contexts[0].token_count);
    if (!gone) Must(catalog().EvictGeneration(shared.uid));
    // The evicted one comes back, out of what the new one holds; then that goes under its feet.
    steps = 0;
    const uint64_t victim = made.uid;
    const Between rebuilding = [&] {
      Must(store_->CollectGarbage());
      if (steps++ != step % 3) return;
      Must(catalog().EvictGeneration(victim));
      Must(store_->CollectGarbage());
    };
    shared = Finish(Begin(corpus_, kTokens, shared.uid), kTokens, rebuilding);
    ExpectReadable(shared.contexts[0].segments, kTokens);
    Must(store_->CollectGarbage());
    ExpectReadable(Must(catalog().GetGeneration(shared.uid)).contexts[0].segments, kTokens);
    const uint64_t generation = Must(catalog().GetGeneration(victim)).uid;
    EXPECT_EQ(generation, victim);
  }
}

// A corpus that goes while its generation is being rebuilt goes altogether.
TEST_P(EvictionTest, ACorpusDeletedDuringARebuildLeavesNothing) {
  const Generation generation = MakeGeneration(corpus_, kTokens);
  Must(catalog().EvictGeneration(generation.uid));
  const IngestIntent intent = Begin(corpus_, kTokens, generation.uid);
  Must(catalog().CommitIngestBlocks(intent.operation_uid, 0,
                                    cache_.Blocks(0, uint64_t{4} * kBlockTokens)));
  ASSERT_OK(catalog().DeleteCorpus(corpus_, 9));
  Must(store_->CollectGarbage());
  EXPECT_CODE(catalog().GetGeneration(generation.uid), kNotFound);
  EXPECT_CODE(catalog().GetIngest(intent.operation_uid), kNotFound);
  for (const ColumnFamily family : {ColumnFamily::kKv, ColumnFamily::kIndexKeys,
                                    ColumnFamily::kHash, ColumnFamily::kDocument}) {
    EXPECT_EQ(KeysIn(*bytes_, family), 0u) << ColumnFamilyName(family);
  }
}

INSTANTIATE_TEST_SUITE_P(Twins, EvictionTest, testing::Values(Twin::kRocksDb, Twin::kMemory),
                         TwinName);

}  // namespace
}  // namespace lectern::storage
