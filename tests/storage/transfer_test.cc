// A corpus on its way to another store: everything arrives, under new uids and hashes; nothing that
// is damaged, missing or out of place gets in; nothing is seen before it is all there; what was
// interrupted goes on. The receiving store is each of the twins.
#include <map>

#include <fmt/format.h>

#include "storage/fail_point.h"
#include "storage/keys.h"
#include "storage/record.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;
constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr uint64_t kTokens = 9 * kBlockTokens + 40;
constexpr uint64_t kHereSeed = 3;
constexpr uint64_t kThereSeed = 4;  // other hashes of the same blocks

class TransferTest : public testing::TestWithParam<Twin> {
 protected:
  TransferTest() : cache_(SmallGeometry(), kHereSeed), there_(SmallGeometry(), kThereSeed) {
    from_ = Must(Store::OpenInMemory(StoreOptions()));
    OpenTarget();
    // So that uids differ.
    for (int i = 0; i < 5; ++i) MakeTenant(fmt::format("t{}", i));
    tenant_there_ = Must(to_->catalog().GetTenant("t3")).uid;
    tenant_ = Must(source().GetTenant(kDefaultTenantId)).uid;
    corpus_ = Must(source().CreateCorpus(tenant_, {"c", "the corpus", 99, true}, 1)).uid;
    Upload("first", "the first words");
    Upload("large", std::string(3 << 20, 'x') + "the end");
    Upload("empty", "");
    generation_ = MakeGeneration(kTokens);
  }
  ~TransferTest() override { Must(ArmFailPoints("")); }

  Catalog& source() { return from_->catalog(); }
  Catalog& target() { return to_->catalog(); }

  void OpenTarget() {
    std::unique_ptr<KeyValueStore> bytes = OpenTwin(GetParam(), scratch_.path());
    bytes_ = bytes.get();
    to_ = Must(Store::OpenOn(std::move(bytes), StoreOptions()));
  }

  void MakeTenant(const std::string& id) { Must(target().CreateTenant({id, "", {}}, 1)); }

  void Upload(const std::string& id, const std::string& bytes) {
    auto writer = Must(source().WriteDocument(corpus_, {id, "title of " + id, "text/plain"}));
    Must(writer->Append(bytes));
    Must(writer->Commit(7, std::nullopt));
    bytes_of_[id] = bytes;
  }

  Generation MakeGeneration(uint64_t tokens) {
    const Operation operation = Must(source().CreateOperation(corpus_, IngestOperation(), 1));
    IngestRequest request = RequestFor(operation.uid, cache_, tokens);
    for (const Document& document : Must(source().ListDocuments(corpus_, {})).items) {
      request.documents.push_back(document.uid);
    }
    IngestIntent intent = Must(source().BeginIngest(request, 2));
    Must(source().PutLayoutPart(operation.uid, 0, 0, "layout"));
    Must(source().PutLayoutPart(operation.uid, 0, 5, std::string((2 << 20) + 5, 'l')));
    while (intent.contexts[0].token_count < tokens) {
      const uint32_t first = intent.contexts[0].end_block;
      const uint64_t end = std::min<uint64_t>(tokens, uint64_t{first + 4} * kBlockTokens);
      intent = Must(source().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(first, end)));
    }
    GenerationSpec spec = SpecFor(tokens);
    spec.documents = request.documents;
    return Must(source().PublishGeneration(operation.uid, spec, 3));
  }

  Session Talk(const std::string& id, uint64_t tokens) {
    Session session = Must(source().GetSession(corpus_, id));
    const auto first = static_cast<uint32_t>(session.token_count / kBlockTokens);
    return Must(source().CommitTurn(session.uid, {session.turn_count, tokens, 5, "said in " + id},
                                    cache_.Blocks(first, tokens), 6));
  }

  absl::Status Round(bool last, size_t records = SIZE_MAX) {
    return CopyRound(from_.get(), corpus_, to_.get(), tenant_there_, there_, {.last = last},
                     &import_, records);
  }

  // A replica's: the documents alone, or everything.
  void Replicate(bool cache) {
    ASSERT_OK(CopyRound(from_.get(), corpus_, to_.get(), tenant_there_, there_,
                        {.turns = cache, .cache_bytes = cache ? UINT64_MAX : 0}, &import_));
    ASSERT_EQ(Must(import_->Keep(cache)), cache);
  }

  // All records of a last round for a receiver that has nothing.
  std::vector<TransferRecord> Records() {
    auto out = Must(from_->ExportCorpus(corpus_, {}, {.last = true}));
    std::vector<TransferRecord> records;
    for (auto record = Must(out->Next()); record.has_value(); record = Must(out->Next())) {
      records.push_back(*std::move(record));
    }
    return records;
  }

  void ExpectReadable(const std::vector<Segment>& segments, uint64_t tokens) {
    auto reader = to_->blocks().OpenContext(tenant_there_, segments, tokens, cache_.geometry());
    ASSERT_OK(reader);
    ExpectContext(**reader, cache_);
  }

  // Everything that the corpus is at the source, at the target.
  void ExpectArrived() {
    const Corpus here = Must(source().GetCorpusByUid(corpus_));
    const Corpus there = Must(target().GetCorpus(tenant_there_, "c"));
    EXPECT_EQ(there.display_name, "the corpus");
    EXPECT_EQ(there.expire_time, here.expire_time);
    EXPECT_EQ(there.pinned, here.pinned);
    EXPECT_EQ(there.document_count, here.document_count);
    EXPECT_EQ(there.document_bytes, here.document_bytes);
    const auto documents = Must(source().ListDocuments(corpus_, {})).items;
    const auto arrived = Must(target().ListDocuments(there.uid, {})).items;
    ASSERT_EQ(arrived.size(), documents.size());
    for (size_t i = 0; i < arrived.size(); ++i) {
      EXPECT_EQ(arrived[i].id, documents[i].id);
      EXPECT_EQ(arrived[i].display_name, documents[i].display_name);
      EXPECT_EQ(arrived[i].create_time, documents[i].create_time);
      EXPECT_EQ(Must(target().ReadDocument(arrived[i], 0, UINT64_MAX)), bytes_of_[arrived[i].id]);
    }
    const auto generations = Must(source().ListGenerations(corpus_, {})).items;
    const auto copies = Must(target().ListGenerations(there.uid, {})).items;
    ASSERT_EQ(copies.size(), generations.size());
    for (size_t i = 0; i < copies.size(); ++i) {
      EXPECT_EQ(Must(target().PublicNumber(copies[i].uid)),
                Must(source().PublicNumber(generations[i].uid)));
      EXPECT_EQ(Must(target().FindByNumber(there.uid, generations[i].uid)), copies[i].uid);
      EXPECT_EQ(copies[i].publish_time, generations[i].publish_time);
      EXPECT_EQ(copies[i].residency, generations[i].residency);
      EXPECT_EQ(Must(target().GetLayoutPart(copies[i].uid, 0, 0)), "layout");
      EXPECT_EQ(Must(target().GetLayoutPart(copies[i].uid, 0, 5)).size(), (2u << 20) + 5);
      ASSERT_EQ(copies[i].documents.size(), generations[i].documents.size());
      for (const GenerationDocument& document : copies[i].documents) {
        const Document stored = Must(target().GetDocumentByUid(document.uid));
        EXPECT_EQ(Must(target().ReadDocument(stored, 0, UINT64_MAX)), bytes_of_[document.id]);
      }
      if (copies[i].residency == Residency::kComplete) {
        ExpectReadable(copies[i].contexts[0].segments, copies[i].contexts[0].token_count);
      }
    }
    EXPECT_EQ(Must(target().PublicNumber(there.current_generation)), here.current_generation);
    const auto sessions = Must(source().ListSessions(corpus_, {})).items;
    const auto session_copies = Must(target().ListSessions(there.uid, {})).items;
    ASSERT_EQ(session_copies.size(), sessions.size());
    for (size_t i = 0; i < sessions.size(); ++i) {
      EXPECT_EQ(session_copies[i].id, sessions[i].id);
      EXPECT_EQ(session_copies[i].turn_count, sessions[i].turn_count);
      ExpectReadable(session_copies[i].segments, sessions[i].token_count);
      EXPECT_EQ(Must(target().ListTurns(session_copies[i].uid, {})).items,
                Must(source().ListTurns(sessions[i].uid, {})).items);
    }
    const auto operations = Must(source().ListOperations(tenant_, corpus_, {})).items;
    const auto operation_copies = Must(target().ListOperations(tenant_there_, there.uid, {})).items;
    ASSERT_EQ(operation_copies.size(), operations.size());
    for (size_t i = 0; i < operations.size(); ++i) {
      EXPECT_EQ(Must(target().PublicNumber(operation_copies[i].uid)), operations[i].uid);
      EXPECT_EQ(operation_copies[i].state, operations[i].state);
    }
    const ScrubReport report = Must(to_->Scrub({}));
    EXPECT_TRUE(report.complete);
    EXPECT_TRUE(report.damages.empty());
  }

  void ExpectNothingThere() {
    Must(to_->CollectGarbage());
    EXPECT_CODE(target().GetCorpus(tenant_there_, "c"), kNotFound);
    EXPECT_TRUE(Must(to_->Imports()).empty());
    for (const ColumnFamily family : {ColumnFamily::kKv, ColumnFamily::kIndexKeys,
                                      ColumnFamily::kHash, ColumnFamily::kDocument}) {
      EXPECT_EQ(KeysIn(*bytes_, family), 0u) << ColumnFamilyName(family);
    }
    EXPECT_EQ(Must(to_->GetStats()).lineages, 0u);
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Store> from_;
  KeyValueStore* bytes_ = nullptr;
  std::unique_ptr<Store> to_;
  std::unique_ptr<CorpusImport> import_;
  SampleCache cache_;
  SampleCache there_;
  uint64_t tenant_ = 0;
  uint64_t tenant_there_ = 0;
  uint64_t corpus_ = 0;
  Generation generation_;
  std::map<std::string, std::string> bytes_of_;
};

TEST_P(TransferTest, EverythingArrives) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  const Session parent = Talk("talk", kTokens + 350);
  Must(source().ForkSession(parent.uid, 1, {"fork", "", {}}, 5));
  Must(source().CreateSession(generation_.uid, 0, {"silent", "", {}}, 4));
  // A document that only an older generation has.
  Must(source().DeleteDocument(corpus_, "large", 8));
  MakeGeneration(kTokens - 200);

  ASSERT_OK(Round(/*last=*/true));
  EXPECT_CODE(target().GetCorpus(tenant_there_, "c"), kNotFound);
  const Corpus corpus = Must(import_->Publish());
  ExpectArrived();
  EXPECT_TRUE(Must(to_->Imports())[0].published);
  Must(to_->FinishImport(corpus.uid));
  EXPECT_TRUE(Must(to_->Imports()).empty());

  // Blocks are found by the hashes of this store and by no others.
  const auto found = Must(to_->blocks().LookupPrefix(tenant_there_, there_.FullHashes(kTokens)));
  EXPECT_EQ(found.back().end_block(), kTokens / kBlockTokens);
  EXPECT_TRUE(Must(to_->blocks().LookupPrefix(tenant_there_, cache_.FullHashes(kTokens))).empty());
  // A conversation goes on, and numbers that came are not given out again.
  const Session session = Must(target().GetSession(corpus.uid, "talk"));
  const auto first = static_cast<uint32_t>(session.token_count / kBlockTokens);
  Must(target().CommitTurn(session.uid, {2, kTokens + 400, 9, "more"},
                           cache_.Blocks(first, kTokens + 400), 9));
  const Operation next = Must(target().CreateOperation(corpus.uid, IngestOperation(), 10));
  EXPECT_GT(next.uid, Must(source().ListOperations(tenant_, corpus_, {})).items.front().uid);
  EXPECT_EQ(Must(target().FindByNumber(corpus.uid, next.uid)), next.uid);
  Must(target().EndOperation(next.uid, {OperationState::kFailed, 1, "", ""}, 11));

  // The source can go, and the target can be emptied.
  Must(source().DeleteCorpus(corpus_, 12));
  Must(target().DeleteCorpus(corpus.uid, 13));
  ExpectNothingThere();
}

TEST_P(TransferTest, WhatChangesBetweenRoundsIsCarriedOver) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  ASSERT_OK(Round(/*last=*/false));
  Upload("late", "late words");
  Must(source().DeleteDocument(corpus_, "first", 8));
  Talk("talk", kTokens + 130);
  ASSERT_OK(Round(/*last=*/true));
  EXPECT_EQ(Must(from_->ExportCorpus(corpus_, Must(import_->Have()), {.last = true}))->bytes(), 0u);
  // The switch did not come about, and more was said.
  Talk("talk", kTokens + 500);
  const Generation newest = MakeGeneration(kTokens + 256);
  ASSERT_OK(Round(/*last=*/true));
  Must(import_->Publish());
  ExpectArrived();
  EXPECT_EQ(
      Must(target().PublicNumber(Must(target().GetCorpus(tenant_there_, "c")).current_generation)),
      newest.uid);
}

TEST_P(TransferTest, AReplicaIsPublishedWithoutItsSource) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  Replicate(/*cache=*/false);
  EXPECT_TRUE(Must(to_->Imports())[0].kept);
  Replicate(/*cache=*/true);
  // What is there does not come again.
  EXPECT_EQ(Must(from_->ExportCorpus(corpus_, Must(import_->Have()), {.turns = true}))->bytes(),
            0u);
  Talk("talk", kTokens + 350);
  const Session parent = Must(source().GetSession(corpus_, "talk"));
  Must(source().ForkSession(parent.uid, 1, {"fork", "", {}}, 5));
  MakeGeneration(kTokens + 256);
  Replicate(/*cache=*/true);
  import_.reset();
  import_ = Must(to_->ImportCorpus(tenant_there_, "c", from_->store_id(), corpus_, {}));
  const Corpus corpus = Must(import_->PublishKept());
  EXPECT_TRUE(Must(to_->Imports()).empty());
  ExpectArrived();
  // Conversations go on, in blocks of their own.
  for (const char* id : {"talk", "fork"}) {
    const Session session = Must(target().GetSession(corpus.uid, id));
    const auto first = static_cast<uint32_t>(session.token_count / kBlockTokens);
    const uint64_t tokens = session.token_count + 90;
    const Session longer = Must(target().CommitTurn(
        session.uid, {session.turn_count, tokens, 9, "more"}, cache_.Blocks(first, tokens), 9));
    ExpectReadable(longer.segments, tokens);
  }
  Must(target().DeleteCorpus(corpus.uid, 13));
  ExpectNothingThere();
}

TEST_P(TransferTest, AReplicaIsWhatWasKeptLastAndNothingDeletedIsInIt) {
  for (const char* id : {"talk", "gone"}) {
    Must(source().CreateSession(generation_.uid, 0, {id, "", {}}, 4));
    Talk(id, kTokens + 100);
  }
  Replicate(/*cache=*/true);
  // The documents are newer than the cache.
  Must(source().DeleteDocument(corpus_, "first", 8));
  Must(source().DeleteSession(Must(source().GetSession(corpus_, "gone")).uid));
  Upload("late", "late words");
  MakeGeneration(kTokens - 200);
  Talk("talk", kTokens + 300);
  Replicate(/*cache=*/false);
  // Longer blocks than those that were kept, of a round that did not end.
  Upload("lost", "never kept");
  ASSERT_OK(
      CopyRound(from_.get(), corpus_, to_.get(), tenant_there_, there_, {.turns = true}, &import_));
  import_.reset();
  import_ = Must(to_->ImportCorpus(tenant_there_, "c", from_->store_id(), corpus_, {}));
  const Corpus corpus = Must(import_->PublishKept());
  std::vector<std::string> ids;
  for (const Document& document : Must(target().ListDocuments(corpus.uid, {})).items) {
    ids.push_back(document.id);
    EXPECT_EQ(Must(target().ReadDocument(document, 0, UINT64_MAX)), bytes_of_[document.id]);
  }
  EXPECT_EQ(ids, (std::vector<std::string>{"large", "empty", "late"}));
  EXPECT_EQ(corpus.document_count, 3u);
  const auto generations = Must(target().ListGenerations(corpus.uid, {})).items;
  ASSERT_EQ(generations.size(), 1u);
  EXPECT_EQ(corpus.current_generation, generations[0].uid);
  EXPECT_EQ(Must(target().PublicNumber(generations[0].uid)), generation_.uid);
  EXPECT_CODE(target().GetSession(corpus.uid, "gone"), kNotFound);
  const Session session = Must(target().GetSession(corpus.uid, "talk"));
  EXPECT_EQ(session.turn_count, 1u);
  ExpectReadable(session.segments, kTokens + 100);
  const auto first = static_cast<uint32_t>(session.token_count / kBlockTokens);
  const Session longer = Must(target().CommitTurn(session.uid, {1, kTokens + 200, 9, "more"},
                                                  cache_.Blocks(first, kTokens + 200), 9));
  ExpectReadable(longer.segments, kTokens + 200);
  const ScrubReport report = Must(to_->Scrub({}));
  EXPECT_TRUE(report.damages.empty());
  Must(target().DeleteCorpus(corpus.uid, 13));
  ExpectNothingThere();
}

TEST_P(TransferTest, WhatLeavesTheCorpusLeavesItsReplica) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  Replicate(/*cache=*/true);
  const size_t documents = KeysIn(*bytes_, ColumnFamily::kDocument);
  const size_t blocks = KeysIn(*bytes_, ColumnFamily::kKv);
  Must(source().DeleteSession(Must(source().GetSession(corpus_, "talk")).uid));
  Must(source().DeleteDocument(corpus_, "large", 8));
  MakeGeneration(kTokens);
  Must(source().DeleteGeneration(generation_.uid));
  Replicate(/*cache=*/true);
  Must(to_->CollectGarbage());
  EXPECT_LT(KeysIn(*bytes_, ColumnFamily::kDocument), documents);
  EXPECT_LT(KeysIn(*bytes_, ColumnFamily::kKv), blocks);
  const uint64_t uid = import_->corpus_uid();
  import_.reset();
  Must(to_->AbandonImport(uid, 5));
  ExpectNothingThere();
}

TEST_P(TransferTest, ARoundBringsNoMoreOfTheCacheThanItMay) {
  bool more = true;
  int rounds = 0;
  for (; more; ++rounds) {
    ASSERT_LT(rounds, 50);
    if (import_ == nullptr) Replicate(/*cache=*/false);
    auto out = Must(
        from_->ExportCorpus(corpus_, Must(import_->Have()), {.turns = true, .cache_bytes = 1}));
    import_->BeginRound();
    for (auto record = Must(out->Next()); record.has_value(); record = Must(out->Next())) {
      ASSERT_OK(import_->Add(*record));
    }
    ASSERT_OK(import_->EndRound());
    more = out->more();
  }
  EXPECT_GT(rounds, 2);
  EXPECT_TRUE(Must(import_->Keep(true)));
  Must(import_->PublishKept());
  ExpectArrived();
}

TEST_P(TransferTest, AnEvictedCacheStaysEvicted) {
  Must(source().UpdateCorpus(corpus_, {.pinned = false}, 2));
  Must(source().EvictGeneration(generation_.uid));
  ASSERT_OK(Round(/*last=*/true));
  Must(import_->Publish());
  ExpectArrived();
}

TEST_P(TransferTest, ADamagedRecordIsRefusedAndNothingOfItIsWritten) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  const std::vector<TransferRecord> records = Records();
  // One of each kind, in its head, middle and end.
  std::map<std::pair<ColumnFamily, char>, size_t> kinds;
  for (size_t i = 0; i < records.size(); ++i) {
    const bool data =
        records[i].family == ColumnFamily::kKv || records[i].family == ColumnFamily::kIndexKeys;
    kinds[{records[i].family, data ? '\0' : records[i].key[0]}] = i;
  }
  EXPECT_GE(kinds.size(), 11u);
  for (const auto& [kind, index] : kinds) {
    for (const double at : {0.0, 0.5, 1.0}) {
      import_.reset();
      import_ = Must(to_->ImportCorpus(
          tenant_there_, "c", from_->store_id(), corpus_,
          [&](const Generation& generation, uint32_t) {
            std::vector<BlockHash> hashes = there_.FullHashes(kTokens);
            hashes.push_back(there_.Hash(static_cast<uint32_t>(hashes.size()), 40));
            return absl::StatusOr<std::vector<BlockHash>>(std::move(hashes));
          }));
      import_->BeginRound();
      for (size_t i = 0; i < index; ++i) ASSERT_OK(import_->Add(records[i])) << i;
      TransferRecord damaged = records[index];
      const auto place = static_cast<size_t>(at * static_cast<double>(damaged.value.size() - 1));
      damaged.value[place] = static_cast<char>(damaged.value[place] ^ 0x10);
      EXPECT_CODE(import_->Add(damaged), kDataLoss)
          << ColumnFamilyName(kind.first) << " " << int{kind.second} << " at " << place;
      // The same bytes under another key are as foreign.
      TransferRecord foreign = records[index];
      foreign.key.back() = static_cast<char>(foreign.key.back() ^ 1);
      EXPECT_CODE(import_->Add(foreign), kDataLoss) << ColumnFamilyName(kind.first);
      EXPECT_FALSE(import_->Publish().ok());
      EXPECT_CODE(target().GetCorpus(tenant_there_, "c"), kNotFound);
      const uint64_t uid = import_->corpus_uid();
      import_.reset();
      Must(to_->AbandonImport(uid, 5));
    }
  }
  ExpectNothingThere();
}

TEST_P(TransferTest, NothingIsPublishedWithARecordMissing) {
  Must(source().CreateSession(generation_.uid, 0, {"talk", "", {}}, 4));
  Talk("talk", kTokens + 100);
  const std::vector<TransferRecord> records = Records();
  size_t tried = 0;
  for (size_t left_out = 0; left_out < records.size(); left_out += 1 + left_out / 8) {
    // Operations are not named by anything, and public numbers stand for themselves.
    if (records[left_out].family == ColumnFamily::kCatalog &&
        records[left_out].key[0] == static_cast<char>(KeySpace::kOperation)) {
      continue;
    }
    ++tried;
    import_ = Must(to_->ImportCorpus(
        tenant_there_, "c", from_->store_id(), corpus_, [&](const Generation&, uint32_t) {
          std::vector<BlockHash> hashes = there_.FullHashes(kTokens);
          hashes.push_back(there_.Hash(static_cast<uint32_t>(hashes.size()), 40));
          return absl::StatusOr<std::vector<BlockHash>>(std::move(hashes));
        }));
    import_->BeginRound();
    absl::Status status;
    for (size_t i = 0; i < records.size() && status.ok(); ++i) {
      if (i != left_out) status = import_->Add(records[i]);
    }
    if (status.ok()) status = import_->EndRound();
    if (status.ok()) status = import_->Publish().status();
    EXPECT_CODE(status, kDataLoss) << "without record " << left_out;
    const uint64_t uid = import_->corpus_uid();
    import_.reset();
    Must(to_->AbandonImport(uid, 5));
  }
  EXPECT_GT(tried, 10u);
  ExpectNothingThere();
}

TEST_P(TransferTest, WhatWasInterruptedGoesOn) {
  const size_t all = Records().size();
  for (size_t records = 1; records < all; records += 1 + all / 7) {
    ASSERT_OK(Round(/*last=*/false, records)) << records;
    import_.reset();
    if (GetParam() == Twin::kRocksDb) {
      to_.reset();
      OpenTarget();
    }
    Must(to_->CollectGarbage());
    EXPECT_EQ(Must(to_->Imports()).size(), 1u);
    EXPECT_CODE(target().GetCorpus(tenant_there_, "c"), kNotFound);
  }
  ASSERT_OK(Round(/*last=*/false));
  const TransferHave have = Must(import_->Have());
  EXPECT_EQ(have.documents.size(), 3u);
  EXPECT_EQ(have.generations.size(), 1u);
  EXPECT_EQ(have.blocks.size(), 1u);
  ASSERT_OK(Round(/*last=*/true));
  Must(import_->Publish());
  ExpectArrived();
}

TEST_P(TransferTest, AStepThatFailsIsTakenAgain) {
  for (const char* place : {"import.begin", "import.piece", "import.blocks", "import.publish"}) {
    Must(ArmFailPoints(fmt::format("{}=error", place)));
    absl::Status status = Round(/*last=*/true);
    if (status.ok()) status = import_->Publish().status();
    EXPECT_CODE(status, absl::StatusCode::kUnavailable) << place;
    EXPECT_CODE(target().GetCorpus(tenant_there_, "c"), kNotFound);
  }
  ASSERT_OK(Round(/*last=*/true));
  const Corpus corpus = Must(import_->Publish());
  ExpectArrived();
  // The other store is to have it after all.
  Must(ArmFailPoints("import.abandon=error"));
  import_.reset();
  EXPECT_CODE(to_->AbandonImport(corpus.uid, 5), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Must(to_->Imports()).size(), 1u);
  EXPECT_OK(to_->AbandonImport(corpus.uid, 6));
  EXPECT_CODE(to_->AbandonImport(corpus.uid, 7), kNotFound);
  ExpectNothingThere();
}

TEST_P(TransferTest, AnotherCorpusIsAnotherImport) {
  ASSERT_OK(Round(/*last=*/false));
  const uint64_t first = import_->corpus_uid();
  import_.reset();
  Must(source().DeleteCorpus(corpus_, 5));
  corpus_ = Must(source().CreateCorpus(tenant_, {"c", "again", {}}, 6)).uid;
  ASSERT_OK(Round(/*last=*/true));
  EXPECT_NE(import_->corpus_uid(), first);
  Must(import_->Publish());
  EXPECT_EQ(Must(target().GetCorpus(tenant_there_, "c")).display_name, "again");
  EXPECT_EQ(Must(to_->Imports()).size(), 2u);
}

TEST_P(TransferTest, AnIngestInProgressKeepsTheLastRoundFromBeginning) {
  Must(source().CreateOperation(corpus_, IngestOperation(), 5));
  EXPECT_OK(Round(/*last=*/false));
  EXPECT_CODE(Round(/*last=*/true), absl::StatusCode::kFailedPrecondition);
}

INSTANTIATE_TEST_SUITE_P(Twins, TransferTest, testing::Values(Twin::kRocksDb, Twin::kMemory),
                         TwinName);

}  // namespace
}  // namespace lectern::storage
