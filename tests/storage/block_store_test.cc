// Blocks: what was committed is read, whole or by its first tokens, and nothing else is.
#include "storage/block_store.h"

#include <atomic>
#include <thread>

#include "storage/keys.h"
#include "storage/record.h"
#include "storage/records.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

class BlockStoreTest : public testing::TestWithParam<Twin> {
 protected:
  BlockStoreTest() : cache_(SmallGeometry(), 1) { Open(); }

  void Open() {
    store_.reset();
    std::unique_ptr<KeyValueStore> bytes = OpenTwin(GetParam(), scratch_.path());
    bytes_ = bytes.get();
    StoreOptions options;
    options.reader_threads = 2;
    store_ = Must(Store::OpenOn(std::move(bytes), options));
    tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
    corpus_ = Must(catalog().CreateCorpus(tenant_, {"c", "", {}}, 1)).uid;
  }

  Catalog& catalog() { return store_->catalog(); }

  absl::StatusOr<std::unique_ptr<ContextReader>> Reader(const GenerationContext& context) {
    return store_->blocks().OpenContext(tenant_, context.segments, context.token_count,
                                        cache_.geometry());
  }

  std::string Stored(ColumnFamily family, const std::string& key) {
    PinnedValue value;
    Must(bytes_->Get(family, key, &value));
    return std::string(value.view());
  }

  void Store_(ColumnFamily family, const std::string& key, const std::string& value) {
    Batch batch;
    batch.Put(family, key, value);
    Must(bytes_->Write(batch, Durability::kBuffered));
  }

  ScratchDirectory scratch_;
  KeyValueStore* bytes_ = nullptr;  // below the store
  std::unique_ptr<Store> store_;
  SampleCache cache_;
  uint64_t tenant_ = 0;
  uint64_t corpus_ = 0;
};

TEST_P(BlockStoreTest, ContextsOfEveryTailComeBack) {
  for (const uint64_t tokens :
       {uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{129}, uint64_t{1024}, uint64_t{3333}}) {
    for (const uint32_t chunk : {1u, 3u, 100u}) {
      SampleCache cache(SmallGeometry(), tokens * 1000 + chunk);
      const Generation generation = Ingest(store_.get(), corpus_, &cache, tokens, chunk);
      auto reader = Reader(generation.contexts[0]);
      ASSERT_OK(reader);
      EXPECT_EQ((*reader)->token_count(), tokens);
      ExpectContext(**reader, cache);
    }
  }
}

TEST_P(BlockStoreTest, LargeCommitsAreBulkLoadedAndReadTheSame) {
  Geometry wide = SmallGeometry();
  wide.kv_heads = 4;
  wide.head_dim = 128;
  wide.index_dim = 64;
  SampleCache cache(wide, 5);  // 768 KiB a block: eight of them exceed the small commit
  const uint64_t tokens = 12 * kBlockTokens + 5;
  const Generation generation = Ingest(store_.get(), corpus_, &cache, tokens, 12);
  const GenerationContext& context = generation.contexts[0];
  auto reader = store_->blocks().OpenContext(tenant_, context.segments, tokens, wide);
  ASSERT_OK(reader);
  ExpectContext(**reader, cache);
  EXPECT_EQ(store_->blocks().Counters().blocks_written, 13u);
}

TEST_P(BlockStoreTest, OneHeadOfABlockIsReadIntoAWiderPage) {
  const uint64_t tokens = 2 * kBlockTokens + 50;
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, tokens);
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  const Geometry& geometry = cache_.geometry();
  std::vector<std::byte> page(geometry.KvSliceBytes(kBlockTokens), std::byte{0x55});
  KvRequest request;
  request.layer = 2;
  request.block = 2;
  request.first_head = 1;
  request.head_count = 1;
  request.out = page.data();
  ASSERT_OK((*reader)->ReadKv(request));
  const std::vector<std::byte> expected = cache_.Kv(2, 2, 50);
  const size_t part = geometry.KvSliceBytes(50) / 2;
  const size_t stride = geometry.KvSliceBytes(kBlockTokens) / 2;
  EXPECT_EQ(std::memcmp(page.data(), expected.data() + 2 * part, part), 0) << "K of head 1";
  EXPECT_EQ(std::memcmp(page.data() + stride, expected.data() + 3 * part, part), 0)
      << "V of head 1";
  EXPECT_EQ(page[part], std::byte{0x55}) << "rows beyond the block were touched";
}

TEST_P(BlockStoreTest, WhatIsNotInTheContextIsRefused) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 300);
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  std::vector<std::byte> page(cache_.geometry().KvBytes(kBlockTokens));
  const KvRequest valid{0, 0, 0, 0, page.data(), kBlockTokens};
  EXPECT_OK((*reader)->ReadKv(valid));
  for (const KvRequest& request :
       {KvRequest{3, 0, 0, 0, page.data()}, KvRequest{0, 3, 0, 0, page.data()},
        KvRequest{0, 0, 2, 1, page.data()}, KvRequest{0, 0, 1, 2, page.data()},
        KvRequest{0, 0, 0, 0, nullptr}, KvRequest{0, 0, 0, 0, page.data(), 127}}) {
    EXPECT_CODE((*reader)->ReadKv(request), absl::StatusCode::kInvalidArgument);
  }
  std::vector<std::byte> keys(cache_.geometry().IndexBytes(300));
  EXPECT_OK((*reader)->ReadIndexKeys(0, 0, 3, keys));
  EXPECT_CODE((*reader)->ReadIndexKeys(1, 0, 3, keys), absl::StatusCode::kInvalidArgument)
      << "a dense layer";
  EXPECT_CODE((*reader)->ReadIndexKeys(0, 1, 3, keys), absl::StatusCode::kInvalidArgument);
  EXPECT_CODE((*reader)->ReadIndexKeys(0, 0, 2, keys), absl::StatusCode::kInvalidArgument);
  // Contexts that do not add up.
  GenerationContext context = generation.contexts[0];
  context.token_count = 301;
  EXPECT_CODE(Reader(context), absl::StatusCode::kInvalidArgument);
  context.token_count = 200;
  EXPECT_CODE(Reader(context), absl::StatusCode::kInvalidArgument);
  context = generation.contexts[0];
  context.segments[0].lineage += 1000;
  EXPECT_CODE(Reader(context), absl::StatusCode::kNotFound);
  EXPECT_CODE(store_->blocks().OpenContext(tenant_ + 1, generation.contexts[0].segments, 300,
                                           cache_.geometry()),
              absl::StatusCode::kNotFound)
      << "another tenant's";
  Geometry other = cache_.geometry();
  other.head_dim = 16;
  EXPECT_CODE(store_->blocks().OpenContext(tenant_, generation.contexts[0].segments, 300, other),
              absl::StatusCode::kInvalidArgument);
}

TEST_P(BlockStoreTest, APrefixIsFoundByItsTenantOnly) {
  Ingest(store_.get(), corpus_, &cache_, 10 * kBlockTokens + 7);
  std::vector<BlockHash> hashes = cache_.FullHashes(10 * kBlockTokens);
  auto found = store_->blocks().LookupPrefix(tenant_, hashes);
  ASSERT_OK(found);
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].first_block, 0u);
  EXPECT_EQ((*found)[0].block_count, 10u);
  EXPECT_TRUE(Must(store_->blocks().LookupPrefix(tenant_ + 1, hashes)).empty());
  hashes[4][0] ^= 1;
  EXPECT_EQ(Must(store_->blocks().LookupPrefix(tenant_, hashes))[0].block_count, 4u);
  hashes[0][0] ^= 1;
  EXPECT_TRUE(Must(store_->blocks().LookupPrefix(tenant_, hashes)).empty());
  // A hash of another position is no hit.
  EXPECT_TRUE(
      Must(store_->blocks().LookupPrefix(tenant_, std::vector<BlockHash>{cache_.Hash(3, 128)}))
          .empty());
}

TEST_P(BlockStoreTest, ASecondGenerationReusesTheStoredPrefix) {
  const Generation first = Ingest(store_.get(), corpus_, &cache_, 20 * kBlockTokens + 7);
  const uint64_t written = store_->blocks().Counters().blocks_written;
  const Generation second = Ingest(store_.get(), corpus_, &cache_, 25 * kBlockTokens);
  EXPECT_EQ(store_->blocks().Counters().blocks_written, written + 5);
  ASSERT_EQ(second.contexts[0].segments.size(), 2u);
  EXPECT_EQ(second.contexts[0].segments[0],
            (Segment{first.contexts[0].segments[0].lineage, 0, 20}));
  auto reader = Reader(second.contexts[0]);
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
}

// Damage, as the layers below might serve it: every record kind of every block, one bit,
// everywhere.
TEST_P(BlockStoreTest, EveryDamagedBitOfBlocksIsDetected) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 2 * kBlockTokens + 3);
  const Segment& segment = generation.contexts[0].segments[0];
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  std::vector<std::byte> page(cache_.geometry().KvBytes(kBlockTokens));
  const std::string kv = KvKey(tenant_, segment.lineage, 2, 1);
  const std::string whole_kv = Stored(ColumnFamily::kKv, kv);
  for (size_t bit = 0; bit < whole_kv.size() * 8; ++bit) {
    std::string damaged = whole_kv;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    Store_(ColumnFamily::kKv, kv, damaged);
    ASSERT_CODE((*reader)->ReadKv({1, 2, 0, 0, page.data(), kBlockTokens}),
                absl::StatusCode::kDataLoss)
        << bit;
  }
  for (size_t size = 0; size < whole_kv.size(); ++size) {
    Store_(ColumnFamily::kKv, kv, whole_kv.substr(0, size));
    ASSERT_CODE((*reader)->ReadKv({1, 2, 0, 0, page.data(), kBlockTokens}),
                absl::StatusCode::kDataLoss)
        << size;
  }
  Store_(ColumnFamily::kKv, kv, whole_kv);
  EXPECT_OK((*reader)->ReadKv({1, 2, 0, 0, page.data(), kBlockTokens}));

  const std::string index = IndexKey(tenant_, segment.lineage, RecordKind::kIndexBf16, 2, 2);
  const std::string whole_index = Stored(ColumnFamily::kIndexKeys, index);
  std::vector<std::byte> keys(cache_.geometry().IndexBytes(3));
  for (size_t bit = 0; bit < whole_index.size() * 8; ++bit) {
    std::string damaged = whole_index;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    Store_(ColumnFamily::kIndexKeys, index, damaged);
    ASSERT_CODE((*reader)->ReadIndexKeys(2, 2, 1, keys), absl::StatusCode::kDataLoss) << bit;
  }
  Store_(ColumnFamily::kIndexKeys, index, whole_index);
  EXPECT_OK((*reader)->ReadIndexKeys(2, 2, 1, keys));
  EXPECT_GT(store_->blocks().Counters().damaged_records, 0u);
}

TEST_P(BlockStoreTest, OneSliceIsVerifiedWithoutTheOthers) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, kBlockTokens);
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  const std::string key = KvKey(tenant_, generation.contexts[0].segments[0].lineage, 0, 0);
  std::string damaged = Stored(ColumnFamily::kKv, key);
  damaged.back() = static_cast<char>(damaged.back() ^ 1);  // in the last head
  Store_(ColumnFamily::kKv, key, damaged);
  std::vector<std::byte> page(cache_.geometry().KvBytes(kBlockTokens));
  EXPECT_OK((*reader)->ReadKv({0, 0, 0, 1, page.data(), kBlockTokens}));
  EXPECT_CODE((*reader)->ReadKv({0, 0, 1, 1, page.data(), kBlockTokens}),
              absl::StatusCode::kDataLoss);
}

TEST_P(BlockStoreTest, SwappedMissingAndStaleRecordsAreDetected) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 3 * kBlockTokens);
  const uint64_t lineage = generation.contexts[0].segments[0].lineage;
  const std::string a = KvKey(tenant_, lineage, 0, 0);
  const std::string b = KvKey(tenant_, lineage, 1, 0);
  std::vector<std::byte> page(cache_.geometry().KvBytes(kBlockTokens));
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  const KvRequest request{0, 0, 0, 0, page.data(), kBlockTokens};
  const std::string original = Stored(ColumnFamily::kKv, a);
  // Block B's bytes under key A.
  Store_(ColumnFamily::kKv, a, Stored(ColumnFamily::kKv, b));
  EXPECT_CODE((*reader)->ReadKv(request), absl::StatusCode::kDataLoss);
  // A valid record under the right key, of other tokens, as from a backup of another state.
  SampleCache other(SmallGeometry(), 77);
  const BlockBatch foreign = other.Blocks(0, kBlockTokens);
  for (const uint64_t sequence : {uint64_t{0}, uint64_t{1}, uint64_t{1000}}) {
    DataHeader header;
    header.kind = RecordKind::kKv;
    header.payload_bytes = static_cast<uint32_t>(cache_.geometry().KvBytes(kBlockTokens));
    header.commit_sequence = sequence;
    header.hash = foreign.blocks[0].hash;
    header.tokens = kBlockTokens;
    header.slices = 2;
    header.row_elements = 8;
    std::string value(DataPayloadOffset(2) + header.payload_bytes, 'x');
    const std::vector<uint32_t> slices(2, header.payload_bytes / 2);
    SealDataRecord(header, ColumnFamily::kKv, a, slices, &value);
    Store_(ColumnFamily::kKv, a, value);
    EXPECT_CODE((*reader)->ReadKv(request), absl::StatusCode::kDataLoss) << sequence;
  }
  Batch batch;
  batch.Delete(ColumnFamily::kKv, a);
  Must(bytes_->Write(batch, Durability::kBuffered));
  EXPECT_CODE((*reader)->ReadKv(request), absl::StatusCode::kDataLoss);
  Store_(ColumnFamily::kKv, a, original);
  EXPECT_OK((*reader)->ReadKv(request));
}

TEST_P(BlockStoreTest, AStaleTailOfASessionIsDetected) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, kBlockTokens + 10);
  const Session session = Must(catalog().CreateSession(generation.uid, 0, {"s", "", {}}, 1));
  Must(catalog().CommitTurn(session.uid, {0, kBlockTokens + 20, 1, "t0"},
                            cache_.Blocks(1, kBlockTokens + 20), 1));
  const std::string kv = KvKey(tenant_, session.lineage, 1, 0);
  const std::string old = Stored(ColumnFamily::kKv, kv);
  Must(catalog().CommitTurn(session.uid, {1, kBlockTokens + 30, 1, "t1"},
                            cache_.Blocks(1, kBlockTokens + 30), 1));
  const Session now = Must(catalog().GetSessionByUid(session.uid));
  auto reader =
      store_->blocks().OpenContext(tenant_, now.segments, now.token_count, cache_.geometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
  Store_(ColumnFamily::kKv, kv, old);
  std::vector<std::byte> page(cache_.geometry().KvBytes(kBlockTokens));
  EXPECT_CODE((*reader)->ReadKv({0, 1, 0, 0, page.data(), kBlockTokens}),
              absl::StatusCode::kDataLoss);
}

TEST_P(BlockStoreTest, CommitsThatDoNotFitAreRefused) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 1000), 1));
  const auto commit = [&](const BlockBatch& batch) {
    return catalog().CommitIngestBlocks(operation.uid, 0, batch).status();
  };
  EXPECT_CODE(commit(cache_.Blocks(1, 300)), absl::StatusCode::kFailedPrecondition) << "a hole";
  EXPECT_CODE(commit(cache_.Blocks(0, 0)), absl::StatusCode::kInvalidArgument) << "nothing";
  SampleCache other(
      [] {
        Geometry g = SmallGeometry();
        g.layers = 2;
        g.indexed = {1, 0};
        return g;
      }(),
      1);
  EXPECT_CODE(commit(other.Blocks(0, 128)), absl::StatusCode::kInvalidArgument)
      << "another geometry";
  EXPECT_CODE(catalog().CommitIngestBlocks(operation.uid, 1, cache_.Blocks(0, 128)),
              absl::StatusCode::kInvalidArgument);
  EXPECT_CODE(catalog().CommitIngestBlocks(operation.uid + 1, 0, cache_.Blocks(0, 128)),
              absl::StatusCode::kNotFound);
  ASSERT_OK(commit(cache_.Blocks(0, 200)));
  EXPECT_CODE(commit(cache_.Blocks(2, 300)), absl::StatusCode::kFailedPrecondition)
      << "leaves a partial block behind";
  EXPECT_CODE(commit(cache_.Blocks(1, 190)), absl::StatusCode::kFailedPrecondition)
      << "shrinks the tail";
  ASSERT_OK(commit(cache_.Blocks(1, 300)));
  EXPECT_EQ(Must(catalog().GetIngest(operation.uid)).contexts[0].token_count, 300u);
  EXPECT_CODE(catalog().PublishGeneration(operation.uid, SpecFor(299), 1),
              absl::StatusCode::kFailedPrecondition);
  const Generation generation = Must(catalog().PublishGeneration(operation.uid, SpecFor(300), 1));
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
}

TEST_P(BlockStoreTest, AnOpenContextOutlivesItsGeneration) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, 500);
  auto reader = Reader(generation.contexts[0]);
  ASSERT_OK(reader);
  ASSERT_OK(catalog().DeleteCorpus(corpus_, 2));
  GarbageReport report = Must(store_->CollectGarbage());
  EXPECT_EQ(report.lineages_purged, 0u);
  EXPECT_EQ(report.lineages_in_use, 1u);
  ExpectContext(**reader, cache_);
  EXPECT_CODE(Reader(generation.contexts[0]), absl::StatusCode::kNotFound)
      << "nobody else may open it";
  EXPECT_TRUE(Must(store_->blocks().LookupPrefix(tenant_, cache_.FullHashes(500))).empty());
  reader->reset();
  report = Must(store_->CollectGarbage());
  EXPECT_EQ(report.lineages_purged, 1u);
  EXPECT_EQ(Must(store_->GetStats()).purge_pending, 0u);
  for (const ColumnFamily family :
       {ColumnFamily::kKv, ColumnFamily::kIndexKeys, ColumnFamily::kHash}) {
    EXPECT_FALSE(bytes_->NewCursor(family, "", "\xff")->Valid()) << ColumnFamilyName(family);
  }
}

TEST_P(BlockStoreTest, SharedBlocksStayUntilTheLastGenerationGoes) {
  const uint64_t other = Must(catalog().CreateCorpus(tenant_, {"other", "", {}}, 1)).uid;
  Ingest(store_.get(), corpus_, &cache_, 10 * kBlockTokens);
  const Generation second = Ingest(store_.get(), other, &cache_, 12 * kBlockTokens);
  ASSERT_OK(catalog().DeleteCorpus(corpus_, 2));
  Must(store_->CollectGarbage());
  auto reader = Reader(second.contexts[0]);
  ASSERT_OK(reader);
  ExpectContext(**reader, cache_);
  reader->reset();
  ASSERT_OK(catalog().DeleteCorpus(other, 2));
  EXPECT_EQ(Must(store_->CollectGarbage()).lineages_purged, 2u);
}

TEST_P(BlockStoreTest, AReaderFollowsASessionThatGrowsUnderIt) {
  const Generation generation = Ingest(store_.get(), corpus_, &cache_, kBlockTokens + 10);
  const Session session = Must(catalog().CreateSession(generation.uid, 0, {"s", "", {}}, 1));
  Must(catalog().CommitTurn(session.uid, {0, kBlockTokens + 12, 1, ""},
                            cache_.Blocks(1, kBlockTokens + 12), 1));
  const Session opened = Must(catalog().GetSessionByUid(session.uid));
  auto reader =
      store_->blocks().OpenContext(tenant_, opened.segments, opened.token_count, cache_.geometry());
  ASSERT_OK(reader);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (uint32_t turn = 1; turn < 60; ++turn) {
      const uint64_t tokens = kBlockTokens + 12 + 4 * turn;
      const uint32_t first = static_cast<uint32_t>((tokens - 4) / kBlockTokens);
      EXPECT_OK(catalog().CommitTurn(session.uid, {turn, tokens, 1, ""},
                                     cache_.Blocks(first, tokens), 1));
    }
    done = true;
  });
  SampleCache expected(SmallGeometry(), 1);
  do {
    ExpectContext(**reader, expected);
  } while (!done && !HasFailure());
  writer.join();
  ExpectContext(**reader, expected);
}

INSTANTIATE_TEST_SUITE_P(Twins, BlockStoreTest, testing::Values(Twin::kRocksDb, Twin::kMemory),
                         TwinName);

}  // namespace
}  // namespace lectern::storage
