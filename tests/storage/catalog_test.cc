// The catalog's life cycles and its errors, over both twins.
#include "storage/catalog.h"

#include <thread>

#include "storage/keys.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr auto kNotFound = absl::StatusCode::kNotFound;
constexpr auto kAlreadyExists = absl::StatusCode::kAlreadyExists;
constexpr auto kInvalidArgument = absl::StatusCode::kInvalidArgument;
constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

class CatalogTest : public testing::TestWithParam<Twin> {
 protected:
  CatalogTest() : cache_(SmallGeometry(), 3) {
    std::unique_ptr<KeyValueStore> bytes = OpenTwin(GetParam(), scratch_.path());
    bytes_ = bytes.get();
    store_ = Must(Store::OpenOn(std::move(bytes), StoreOptions()));
    tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
    corpus_ = Must(catalog().CreateCorpus(tenant_, {"c", "Corpus", {}}, 1)).uid;
  }

  Catalog& catalog() { return store_->catalog(); }

  absl::StatusOr<Document> Upload(uint64_t corpus, const std::string& id,
                                  const std::string& bytes) {
    std::unique_ptr<DocumentWriter> writer =
        Must(catalog().WriteDocument(corpus, {id, "Doc " + id, "text/plain"}));
    Must(writer->Append(bytes));
    return writer->Commit(5, std::nullopt);
  }

  std::string CatalogKeys() {
    std::string spaces;
    for (auto cursor = bytes_->NewCursor(ColumnFamily::kCatalog, "", "\xff"); cursor->Valid();
         cursor->Next()) {
      spaces += testing::PrintToString(static_cast<int>(cursor->key()[0])) + " ";
    }
    return spaces;
  }

  ScratchDirectory scratch_;
  KeyValueStore* bytes_ = nullptr;
  std::unique_ptr<Store> store_;
  SampleCache cache_;
  uint64_t tenant_ = 0;
  uint64_t corpus_ = 0;
};

TEST_P(CatalogTest, TenantsAndTheirErrors) {
  const Tenant tenant = Must(catalog().CreateTenant({"acme", "Acme"}, 7));
  EXPECT_EQ(Must(catalog().GetTenant("acme")), tenant);
  EXPECT_EQ(Must(catalog().GetTenantByUid(tenant.uid)), tenant);
  EXPECT_EQ(Must(catalog().ListTenants({})).items.size(), 2u);
  const TenantQuota quota = {1 << 20, 600, 4};
  const Tenant limited = Must(catalog().UpdateTenant(tenant.uid, {.quota = quota}));
  EXPECT_EQ(limited.quota, quota);
  EXPECT_EQ(limited.display_name, "Acme");
  EXPECT_EQ(Must(catalog().GetTenant("acme")), limited);
  EXPECT_EQ(Must(catalog().UpdateTenant(tenant.uid, {.display_name = "A"})).quota, quota);
  EXPECT_CODE(catalog().UpdateTenant(tenant.uid + 99, {}), kNotFound);
  EXPECT_CODE(catalog().CreateTenant({"acme", ""}, 8), kAlreadyExists);
  EXPECT_CODE(catalog().CreateTenant({"", ""}, 8), kInvalidArgument);
  EXPECT_CODE(catalog().CreateTenant({std::string(kMaxIdBytes + 1, 'x'), ""}, 8), kInvalidArgument);
  EXPECT_CODE(catalog().GetTenant("nobody"), kNotFound);
  EXPECT_CODE(catalog().DeleteTenant(tenant_), kFailedPrecondition) << "the default one";
  const Corpus corpus = Must(catalog().CreateCorpus(tenant.uid, {"c", "", {}}, 1));
  Must(catalog().CreateOperation(corpus.uid, IngestOperation(), 1));
  EXPECT_CODE(catalog().DeleteTenant(tenant.uid), kFailedPrecondition) << "it has a corpus";
  ASSERT_OK(catalog().DeleteCorpus(corpus.uid, 2));
  EXPECT_OK(catalog().DeleteTenant(tenant.uid));
  EXPECT_CODE(catalog().GetTenant("acme"), kNotFound);
  EXPECT_TRUE(Must(catalog().ListOperations(tenant.uid, 0, {})).items.empty());
}

TEST_P(CatalogTest, CorporaAreCreatedReadUpdatedAndDeleted) {
  EXPECT_CODE(catalog().CreateCorpus(tenant_, {"c", "", {}}, 1), kAlreadyExists);
  EXPECT_CODE(catalog().CreateCorpus(tenant_ + 99, {"d", "", {}}, 1), kNotFound);
  Corpus corpus = Must(catalog().GetCorpus(tenant_, "c"));
  EXPECT_EQ(corpus.display_name, "Corpus");
  CorpusUpdate update;
  update.expire_time = std::optional<int64_t>(50);
  corpus = Must(catalog().UpdateCorpus(corpus_, update, 9));
  EXPECT_EQ(corpus.display_name, "Corpus");
  EXPECT_EQ(corpus.expire_time, 50);
  EXPECT_EQ(corpus.update_time, 9);
  EXPECT_TRUE(Must(catalog().ExpiredCorpora(49, 10)).empty());
  EXPECT_EQ(Must(catalog().ExpiredCorpora(50, 10)).size(), 1u);
  update.expire_time = std::optional<int64_t>();
  update.display_name = "New";
  corpus = Must(catalog().UpdateCorpus(corpus_, update, 10));
  EXPECT_EQ(corpus.expire_time, std::nullopt);
  EXPECT_EQ(Must(catalog().GetCorpusByUid(corpus_)), corpus);
  ASSERT_OK(catalog().DeleteCorpus(corpus_, 11));
  EXPECT_CODE(catalog().GetCorpus(tenant_, "c"), kNotFound);
  EXPECT_CODE(catalog().DeleteCorpus(corpus_, 11), kNotFound);
  EXPECT_NE(Must(catalog().CreateCorpus(tenant_, {"c", "", {}}, 12)).uid, corpus_)
      << "uids are never reused";
}

TEST_P(CatalogTest, PagesAreStableUnderInsertsAndDeletes) {
  std::vector<uint64_t> uids = {corpus_};
  for (int i = 0; i < 9; ++i) {
    uids.push_back(
        Must(catalog().CreateCorpus(tenant_, {"id" + std::to_string(9 - i), "", {}}, 1)).uid);
  }
  std::vector<uint64_t> seen;
  PageRequest request{3, ""};
  do {
    const Page<Corpus> page = Must(catalog().ListCorpora(tenant_, request));
    for (const Corpus& corpus : page.items) seen.push_back(corpus.uid);
    if (request.token.empty()) {
      // Between pages: one that was seen and one that comes next go, one is added.
      ASSERT_OK(catalog().DeleteCorpus(uids[2], 2));
      ASSERT_OK(catalog().DeleteCorpus(uids[3], 2));
      uids.push_back(Must(catalog().CreateCorpus(tenant_, {"late", "", {}}, 2)).uid);
    }
    request.token = page.next_token;
  } while (!request.token.empty());
  std::vector<uint64_t> expected = uids;
  expected.erase(expected.begin() + 3);
  EXPECT_EQ(seen, expected);

  const std::string token = Must(catalog().ListCorpora(tenant_, {3, ""})).next_token;
  EXPECT_CODE(catalog().ListCorpora(tenant_ + 1, {3, token}), kInvalidArgument) << "another list's";
  EXPECT_CODE(catalog().ListDocuments(tenant_, {3, token}), kInvalidArgument);
  const std::vector<std::string> bad_tokens = {"x", "0", std::string(32, '0'), token + "0"};
  for (const std::string& bad : bad_tokens) {
    EXPECT_CODE(catalog().ListCorpora(tenant_, {3, bad}), kInvalidArgument) << bad;
  }
  EXPECT_TRUE(Must(catalog().ListCorpora(tenant_, {1000000, ""})).next_token.empty());
}

TEST_P(CatalogTest, DocumentsComeBackByRange) {
  std::string bytes;
  for (int i = 0; i < 2'500'000; ++i) bytes.push_back(static_cast<char>(i * 31 + i / 1000));
  auto writer = Must(catalog().WriteDocument(corpus_, {"d", "Doc", "text/plain"}));
  for (size_t at = 0; at < bytes.size(); at += 70'001)
    ASSERT_OK(writer->Append(bytes.substr(at, 70'001)));
  EXPECT_CODE(catalog().GetDocument(corpus_, "d"), kNotFound) << "not before the commit";
  const Document document = Must(writer->Commit(5, std::nullopt));
  EXPECT_EQ(document.byte_length, bytes.size());
  EXPECT_EQ(document.ordinal, 0u);
  EXPECT_EQ(Must(catalog().GetDocument(corpus_, "d")), document);
  EXPECT_EQ(Must(catalog().ReadDocument(document, 0, UINT64_MAX)), bytes);
  EXPECT_EQ(Must(catalog().ReadDocument(document, (1 << 20) - 5, 10)),
            bytes.substr((1 << 20) - 5, 10));
  EXPECT_EQ(Must(catalog().ReadDocument(document, bytes.size(), 10)), "");
  EXPECT_CODE(catalog().ReadDocument(document, bytes.size() + 1, 1), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(Must(catalog().GetCorpusByUid(corpus_)).document_bytes, bytes.size());
  EXPECT_EQ(Must(store_->GetStats()).document_bytes, bytes.size());
}

TEST_P(CatalogTest, SizesAtPieceBorders) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{1} << 20, (size_t{1} << 20) + 1, size_t{2} << 20}) {
    const std::string bytes(size, 'q');
    const Document document = Must(Upload(corpus_, "size" + std::to_string(size), bytes));
    EXPECT_EQ(Must(catalog().ReadDocument(document, 0, size + 1)), bytes) << size;
  }
}

TEST_P(CatalogTest, TheDigestIsChecked) {
  auto writer = Must(catalog().WriteDocument(corpus_, {"d", "", ""}));
  ASSERT_OK(writer->Append("abc"));
  // FIPS 180-4's first example.
  const Digest abc = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                      0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                      0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
  Digest wrong = abc;
  wrong[31] ^= 1;
  const absl::Status status = writer->Commit(1, wrong).status();
  EXPECT_CODE(status, kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("ba7816bf"));
  writer.reset();
  EXPECT_CODE(catalog().GetDocument(corpus_, "d"), kNotFound);
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kDocument), 0u);
  writer = Must(catalog().WriteDocument(corpus_, {"d", "", ""}));
  ASSERT_OK(writer->Append("abc"));
  EXPECT_EQ(Must(writer->Commit(1, abc)).sha256, abc);
  EXPECT_CODE(writer->Commit(1, abc), kFailedPrecondition);
}

TEST_P(CatalogTest, OfTwoUploadsOfOneIdTheFirstCommitWins) {
  auto one = Must(catalog().WriteDocument(corpus_, {"d", "", ""}));
  auto two = Must(catalog().WriteDocument(corpus_, {"d", "", ""}));
  ASSERT_OK(one->Append("one"));
  ASSERT_OK(two->Append("two"));
  const Document kept = Must(two->Commit(1, std::nullopt));
  EXPECT_CODE(one->Commit(1, std::nullopt), kAlreadyExists);
  one.reset();
  EXPECT_CODE(catalog().WriteDocument(corpus_, {"d", "", ""}), kAlreadyExists);
  EXPECT_EQ(Must(catalog().ReadDocument(kept, 0, 9)), "two");
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kDocument), 1u);
}

TEST_P(CatalogTest, ADocumentStaysReadableForItsGenerations) {
  const Document document = Must(Upload(corpus_, "d", "the bytes"));
  const Document unused = Must(Upload(corpus_, "e", "others"));
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  IngestRequest request = RequestFor(operation.uid, cache_, 100);
  request.documents = {document.uid};
  Must(catalog().BeginIngest(request, 1));
  ASSERT_OK(catalog().DeleteDocument(corpus_, "d", 2));
  ASSERT_OK(catalog().DeleteDocument(corpus_, "e", 2));
  EXPECT_CODE(catalog().DeleteDocument(corpus_, "d", 2), kNotFound);
  EXPECT_CODE(catalog().GetDocument(corpus_, "d"), kNotFound);
  EXPECT_TRUE(Must(catalog().ListDocuments(corpus_, {})).items.empty());
  EXPECT_CODE(catalog().GetDocumentByUid(unused.uid), kNotFound);
  EXPECT_CODE(catalog().ReadDocument(unused, 0, 9), kNotFound);
  EXPECT_EQ(Must(catalog().ReadDocument(document, 0, 9)), "the bytes") << "the intent holds it";
  // The same id again, while the old one is still held.
  const Document again = Must(Upload(corpus_, "d", "new bytes"));
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(0, 100)));
  GenerationSpec spec = SpecFor(100);
  spec.documents = {again.uid};
  EXPECT_CODE(catalog().PublishGeneration(operation.uid, spec, 3), kInvalidArgument);
  spec.documents = {document.uid};
  const Generation generation = Must(catalog().PublishGeneration(operation.uid, spec, 3));
  EXPECT_EQ(generation.documents[0].id, "d");
  EXPECT_TRUE(Must(catalog().GetDocumentByUid(document.uid)).removed);
  EXPECT_EQ(Must(catalog().ReadDocument(document, 0, 9)), "the bytes") << "the generation holds it";
  Ingest(store_.get(), corpus_, &cache_, 200);  // now the current one
  ASSERT_OK(catalog().DeleteGeneration(generation.uid));
  EXPECT_CODE(catalog().GetDocumentByUid(document.uid), kNotFound);
  EXPECT_EQ(Must(catalog().ReadDocument(again, 0, 9)), "new bytes");
}

TEST_P(CatalogTest, OperationsRunAndEnd) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  EXPECT_EQ(Must(catalog().RunningOperations()).size(), 1u);
  OperationUpdate update;
  update.tokens_done = 5;
  update.tokens_total = 10;
  EXPECT_EQ(Must(catalog().UpdateOperation(operation.uid, update, 2)).tokens_done, 5u);
  update = {};
  update.phase = "publish";
  EXPECT_EQ(Must(catalog().UpdateOperation(operation.uid, update, 3)).tokens_done, 5u);
  EXPECT_CODE(catalog().DeleteOperation(operation.uid), kFailedPrecondition);
  EXPECT_CODE(catalog().EndOperation(operation.uid, {OperationState::kSucceeded, 0, "", ""}, 4),
              kInvalidArgument);
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 100), 3));
  const Operation ended = Must(catalog().EndOperation(
      operation.uid, {OperationState::kFailed, 8, "DISK_FULL", "no space"}, 4));
  EXPECT_EQ(ended.end_time, 4);
  EXPECT_EQ(Must(catalog().GetOperation(operation.uid)), ended);
  EXPECT_CODE(catalog().GetIngest(operation.uid), kNotFound);
  EXPECT_TRUE(Must(catalog().RunningOperations()).empty());
  EXPECT_CODE(catalog().UpdateOperation(operation.uid, update, 5), kFailedPrecondition);
  EXPECT_CODE(catalog().EndOperation(operation.uid, {OperationState::kFailed, 8, "", ""}, 5),
              kFailedPrecondition);
  EXPECT_CODE(catalog().BeginIngest(RequestFor(operation.uid, cache_, 100), 5),
              kFailedPrecondition);
  EXPECT_EQ(Must(catalog().ListOperations(tenant_, 0, {})).items.size(), 1u);
  EXPECT_EQ(Must(catalog().ListOperations(tenant_, corpus_, {})).items.size(), 1u);
  EXPECT_OK(catalog().DeleteOperation(operation.uid));
  EXPECT_TRUE(Must(catalog().ListOperations(tenant_, corpus_, {})).items.empty());
  EXPECT_EQ(Must(store_->CollectGarbage()).lineages_purged, 1u);
}

TEST_P(CatalogTest, IngestResumesWhereItStood) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  IngestRequest request = RequestFor(operation.uid, cache_, 1000);
  request.plan = "plan";
  const IngestIntent intent = Must(catalog().BeginIngest(request, 1));
  EXPECT_CODE(catalog().BeginIngest(request, 1), kAlreadyExists);
  EXPECT_EQ(Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(0, 384)))
                .contexts[0]
                .end_block,
            3u);
  ASSERT_OK(catalog().UpdateIngestPlan(operation.uid, "plan 2"));
  const IngestIntent resumed = Must(catalog().GetIngest(operation.uid));
  EXPECT_EQ(resumed.contexts[0].end_block, 3u);
  EXPECT_EQ(resumed.plan, "plan 2");
  EXPECT_EQ(resumed.generation_uid, intent.generation_uid);
  // What it committed is found by others already, and stays if it is cancelled while they use it.
  const Operation other = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  const IngestIntent shared = Must(catalog().BeginIngest(RequestFor(other.uid, cache_, 1000), 1));
  EXPECT_EQ(shared.contexts[0].first_block, 3u);
  Must(catalog().EndOperation(operation.uid, {OperationState::kCancelled, 1, "CANCELLED", ""}, 2));
  EXPECT_EQ(Must(store_->CollectGarbage()).lineages_purged, 0u);
  Must(catalog().CommitIngestBlocks(other.uid, 0, cache_.Blocks(3, 1000)));
  const Generation generation = Must(catalog().PublishGeneration(other.uid, SpecFor(1000), 3));
  auto reader = store_->blocks().OpenContext(tenant_, generation.contexts[0].segments, 1000,
                                             cache_.geometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
  EXPECT_EQ(Must(catalog().GetCorpusByUid(corpus_)).current_generation, generation.uid);
  EXPECT_EQ(Must(catalog().GetOperation(other.uid)).state, OperationState::kSucceeded);
  EXPECT_EQ(Must(catalog().GetOperation(other.uid)).generation_uid, generation.uid);
}

TEST_P(CatalogTest, LayoutPartsOfAnySize) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  const IngestIntent intent =
      Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 100), 1));
  std::string large;
  for (int i = 0; i < 11'000'000; ++i) large.push_back(static_cast<char>(i ^ (i >> 8)));
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 0, ""));
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 1, large));
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 2, large));
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 2, "smaller"));
  EXPECT_EQ(Must(catalog().GetLayoutPart(intent.generation_uid, 0, 0)), "");
  EXPECT_TRUE(Must(catalog().GetLayoutPart(intent.generation_uid, 0, 1)) == large);
  EXPECT_EQ(Must(catalog().GetLayoutPart(intent.generation_uid, 0, 2)), "smaller");
  EXPECT_CODE(catalog().GetLayoutPart(intent.generation_uid, 1, 0), kNotFound);
  EXPECT_CODE(catalog().PutLayoutPart(operation.uid + 1, 0, 0, "x"), kNotFound);
  // A piece of one writing between those of another.
  PinnedValue piece;
  const std::string key = LayoutPieceKey(intent.generation_uid, 0, 1, 3);
  Must(bytes_->Get(ColumnFamily::kDocument, key, &piece));
  const std::string kept(piece.view());
  large[3 << 20] ^= 1;
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 1, large));
  EXPECT_TRUE(Must(catalog().GetLayoutPart(intent.generation_uid, 0, 1)) == large);
  Batch batch;
  batch.Put(ColumnFamily::kDocument, key, kept);
  Must(bytes_->Write(batch, Durability::kBuffered));
  EXPECT_CODE(catalog().GetLayoutPart(intent.generation_uid, 0, 1), absl::StatusCode::kDataLoss);
  Must(catalog().EndOperation(operation.uid, {OperationState::kFailed, 1, "", ""}, 2));
  EXPECT_EQ(KeysIn(*bytes_, ColumnFamily::kDocument), 0u);
}

TEST_P(CatalogTest, SessionsContinueTheChainCopyOnWrite) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 2 * kBlockTokens + 50);
  const Session session = Must(catalog().CreateSession(generation.uid, 0, {"s", "S", 99}, 1));
  EXPECT_EQ(session.segments, generation.contexts[0].segments);
  EXPECT_CODE(catalog().CreateSession(generation.uid, 0, {"s", "", {}}, 1), kAlreadyExists);
  EXPECT_CODE(catalog().CreateSession(generation.uid, 1, {"t", "", {}}, 1), kNotFound);
  EXPECT_CODE(catalog().CreateSession(generation.uid + 100, 0, {"t", "", {}}, 1), kNotFound);

  // Its own tokens differ from what another session on the same generation says.
  SampleCache mine(SmallGeometry(), 3);
  uint64_t tokens = 2 * kBlockTokens + 60;
  Session now =
      Must(catalog().CommitTurn(session.uid, {0, tokens, 2, "first"}, mine.Blocks(2, tokens), 2));
  EXPECT_EQ(now.token_count, tokens);
  ASSERT_EQ(now.segments.size(), 2u);
  EXPECT_EQ(now.segments[1], (Segment{session.lineage, 2, 1}));
  EXPECT_CODE(catalog().CommitTurn(session.uid, {0, tokens, 2, ""}, mine.Blocks(2, tokens), 2),
              kFailedPrecondition);
  EXPECT_CODE(
      catalog().CommitTurn(session.uid, {1, tokens + 9, 2, ""}, mine.Blocks(2, tokens + 8), 2),
      kFailedPrecondition);
  EXPECT_CODE(
      catalog().CommitTurn(session.uid, {1, tokens + 300, 2, ""}, mine.Blocks(3, tokens + 300), 2),
      kFailedPrecondition);
  tokens += 300;
  now =
      Must(catalog().CommitTurn(session.uid, {1, tokens, 3, "second"}, mine.Blocks(2, tokens), 3));
  now = Must(catalog().CommitTurn(session.uid, {2, tokens, 3, "no tokens"}, BlockBatch(), 3));
  EXPECT_EQ(now.turn_count, 3u);
  auto reader =
      store_->blocks().OpenContext(tenant_, now.segments, now.token_count, cache_.geometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, mine);
  auto untouched = store_->blocks().OpenContext(tenant_, generation.contexts[0].segments,
                                                2 * kBlockTokens + 50, cache_.geometry());
  ASSERT_OK(untouched);
  ExpectContext(**untouched, cache_);

  EXPECT_EQ(Must(catalog().GetTurn(session.uid, 1)).payload, "second");
  EXPECT_CODE(catalog().GetTurn(session.uid, 3), kNotFound);
  Page<Turn> page = Must(catalog().ListTurns(session.uid, {2, ""}));
  EXPECT_EQ(page.items.size(), 2u);
  page = Must(catalog().ListTurns(session.uid, {2, page.next_token}));
  ASSERT_EQ(page.items.size(), 1u);
  EXPECT_EQ(page.items[0].payload, "no tokens");
  EXPECT_TRUE(page.next_token.empty());
  EXPECT_EQ(Must(catalog().ExpiredSessions(99, 5)).size(), 1u);
  Must(catalog().UpdateSessionExpiry(session.uid, std::nullopt, 4));
  EXPECT_TRUE(Must(catalog().ExpiredSessions(99, 5)).empty());
  EXPECT_EQ(Must(catalog().ListSessions(corpus_, {})).items.size(), 1u);
}

TEST_P(CatalogTest, AForkSharesBlocksAndOutlivesItsParent) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 2 * kBlockTokens + 50);
  const Session parent = Must(catalog().CreateSession(generation.uid, 0, {"p", "", {}}, 1));
  const uint64_t first = 3 * kBlockTokens + 20;
  Must(catalog().CommitTurn(parent.uid, {0, first, 1, "t0"}, cache_.Blocks(2, first), 1));
  Must(catalog().CommitTurn(parent.uid, {1, first + 90, 1, "t1"}, cache_.Blocks(3, first + 90), 1));
  Must(catalog().CommitTurn(parent.uid, {2, first + 200, 1, "t2"}, cache_.Blocks(3, first + 200),
                            1));
  EXPECT_CODE(catalog().ForkSession(parent.uid, 4, {"f", "", {}}, 2), kInvalidArgument);
  const Session from_start = Must(catalog().ForkSession(parent.uid, 0, {"f0", "", {}}, 2));
  EXPECT_EQ(from_start.token_count, generation.contexts[0].token_count);
  Session fork = Must(catalog().ForkSession(parent.uid, 1, {"f", "", {}}, 2));
  EXPECT_EQ(fork.token_count, first);
  EXPECT_EQ(fork.parent_uid, parent.uid);
  EXPECT_EQ(Must(catalog().GetTurn(fork.uid, 0)).payload, "t0");
  {
    // Its tail block has grown in the parent; it reads its own first tokens of it.
    auto reader =
        store_->blocks().OpenContext(tenant_, fork.segments, fork.token_count, cache_.geometry());
    ASSERT_OK(reader);
    EXPECT_EQ((*reader)->token_count(), first);
    ExpectContext(**reader, cache_);
  }
  ASSERT_OK(catalog().DeleteSession(parent.uid));
  Must(store_->CollectGarbage());
  fork = Must(
      catalog().CommitTurn(fork.uid, {1, first + 7, 3, "other"}, cache_.Blocks(3, first + 7), 3));
  auto reader =
      store_->blocks().OpenContext(tenant_, fork.segments, fork.token_count, cache_.geometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
  EXPECT_EQ(fork.segments.size(), 3u) << "generation, parent, fork";
  EXPECT_CODE(catalog().DeleteGeneration(generation.uid), kFailedPrecondition);
  Ingest(store_.get(), corpus_, &cache_, 1000);
  EXPECT_CODE(catalog().DeleteGeneration(generation.uid), kFailedPrecondition)
      << "sessions run on it";
  ASSERT_OK(catalog().DeleteSession(fork.uid));
  ASSERT_OK(catalog().DeleteSession(from_start.uid));
  EXPECT_OK(catalog().DeleteGeneration(generation.uid));
}

TEST_P(CatalogTest, DeletingACorpusLeavesNothingOfIt) {
  const std::string before = CatalogKeys();
  const Corpus corpus = Must(catalog().CreateCorpus(tenant_, {"gone", "", {}}, 1));
  Must(Upload(corpus.uid, "a", std::string(3'000'000, 'a')));
  const Document held = Must(Upload(corpus.uid, "b", "bytes of b"));
  const Operation operation = Must(catalog().CreateOperation(corpus.uid, IngestOperation(), 1));
  IngestRequest request = RequestFor(operation.uid, cache_, 300);
  request.documents = {held.uid};
  Must(catalog().BeginIngest(request, 1));
  ASSERT_OK(catalog().PutLayoutPart(operation.uid, 0, 0, "layout"));
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(0, 300)));
  GenerationSpec spec = SpecFor(300);
  spec.documents = {held.uid};
  const Generation generation = Must(catalog().PublishGeneration(operation.uid, spec, 2));
  ASSERT_OK(catalog().DeleteDocument(corpus.uid, "b", 3));
  const Session session = Must(catalog().CreateSession(generation.uid, 0, {"s", "", {}}, 3));
  Must(catalog().CommitTurn(session.uid, {0, 310, 3, "t"}, cache_.Blocks(2, 310), 3));
  Must(catalog().ForkSession(session.uid, 1, {"f", "", {}}, 3));
  const Operation running = Must(catalog().CreateOperation(corpus.uid, IngestOperation(), 3));
  Must(catalog().BeginIngest(RequestFor(running.uid, cache_, 600), 3));
  auto writer = Must(catalog().WriteDocument(corpus.uid, {"late", "", ""}));
  ASSERT_OK(writer->Append(std::string(2'000'000, 'l')));

  ASSERT_OK(catalog().DeleteCorpus(corpus.uid, 4));
  EXPECT_EQ(Must(catalog().GetOperation(running.uid)).error_reason, "CORPUS_DELETED");
  EXPECT_CODE(catalog().CommitIngestBlocks(running.uid, 0, cache_.Blocks(2, 600)), kNotFound);
  EXPECT_CODE(catalog().CommitTurn(session.uid, {1, 320, 5, ""}, cache_.Blocks(2, 320), 5),
              kNotFound);
  EXPECT_CODE(writer->Commit(5, std::nullopt), kNotFound);
  writer.reset();
  for (const Operation& left : {operation, running}) EXPECT_OK(catalog().DeleteOperation(left.uid));
  Must(store_->CollectGarbage());
  EXPECT_EQ(CatalogKeys(), before);
  for (const ColumnFamily family : {ColumnFamily::kKv, ColumnFamily::kIndexKeys,
                                    ColumnFamily::kHash, ColumnFamily::kDocument}) {
    EXPECT_EQ(KeysIn(*bytes_, family), 0u) << ColumnFamilyName(family);
  }
  EXPECT_EQ(Must(store_->GetStats()).purge_pending, 0u);
}

// Prefixes are looked up and referenced while another thread deletes and purges what they point to.
TEST_P(CatalogTest, AnIntentNeverLosesWhatItFound) {
  constexpr int kRounds = 40;
  const uint64_t other = Must(catalog().CreateCorpus(tenant_, {"other", "", {}}, 1)).uid;
  std::thread purger([&] {
    for (int round = 0; round < kRounds; ++round) EXPECT_OK(store_->CollectGarbage());
  });
  for (int round = 0; round < kRounds; ++round) {
    SampleCache cache(SmallGeometry(), 3);
    const uint64_t source = round % 2 == 0 ? corpus_ : other;
    const Generation old = Ingest(store_.get(), source, &cache, 5 * kBlockTokens);
    const Operation operation = Must(catalog().CreateOperation(source, IngestOperation(), 1));
    std::thread deleter([&] {
      // The newer generation of another operation lets the old one go.
      const Operation empty = Must(catalog().CreateOperation(source, IngestOperation(), 1));
      Must(catalog().BeginIngest(RequestFor(empty.uid, cache, 0), 1));
      Must(catalog().PublishGeneration(empty.uid, SpecFor(0), 2));
      EXPECT_OK(catalog().DeleteGeneration(old.uid));
    });
    const IngestIntent intent =
        Must(catalog().BeginIngest(RequestFor(operation.uid, cache, 5 * kBlockTokens), 1));
    deleter.join();
    EXPECT_OK(store_->CollectGarbage());
    auto reader = store_->blocks().OpenContext(tenant_, intent.contexts[0].reused,
                                               intent.contexts[0].token_count, cache.geometry());
    ASSERT_OK(reader);
    ExpectContext(**reader, cache);
    Must(catalog().EndOperation(operation.uid, {OperationState::kCancelled, 1, "", ""}, 2));
  }
  purger.join();
}

INSTANTIATE_TEST_SUITE_P(Twins, CatalogTest, testing::Values(Twin::kRocksDb, Twin::kMemory),
                         TwinName);

}  // namespace
}  // namespace lectern::storage
