// What a store does with its bytes when it is told a cap: everything it writes for itself is small
// beside it, bulk files are dropped and never rewritten, and what was deleted is given back at
// once.
#include <sys/stat.h>

#include <filesystem>
#include <map>

#include "storage/rocksdb_tuning.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kCap = 256 * kMiB;

// 128 KiB of keys and values a block and layer.
Geometry WideGeometry() {
  Geometry geometry = SmallGeometry();
  geometry.head_dim = 128;
  return geometry;
}

class DiskCapTest : public testing::Test {
 protected:
  DiskCapTest() { Open(); }

  void Open() {
    store_.reset();
    StoreOptions options;
    options.directory = scratch_.path() + "/data";
    options.disk_cap = kCap;
    store_ = Must(Store::Open(options));
    tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
  }
  Catalog& catalog() { return store_->catalog(); }

  // A corpus of 32 blocks, and a session with a turn of three more, which go through the log.
  Generation MakeCorpus(int number) {
    SampleCache cache(WideGeometry(), static_cast<uint64_t>(number));
    const uint64_t corpus =
        Must(catalog().CreateCorpus(tenant_, {.id = "c" + std::to_string(number)}, 1)).uid;
    constexpr uint64_t kTokens = 31 * kBlockTokens + 50;
    const Generation generation = Ingest(store_.get(), corpus, &cache, kTokens, 16);
    const Session session =
        Must(catalog().CreateSession(generation.uid, 0, {"s" + std::to_string(number), "", {}}, 1));
    const uint64_t end = kTokens + 2 * kBlockTokens;
    Must(catalog().CommitTurn(session.uid, {0, end, 1, ""}, cache.Blocks(31, end), 1));
    return generation;
  }

  // Table files that only bulk data makes, by name.
  std::map<std::string, uint64_t> LargeFiles() {
    std::map<std::string, uint64_t> files;
    for (const auto& entry : std::filesystem::directory_iterator(scratch_.path() + "/data/db")) {
      if (entry.path().extension() != ".sst" || entry.file_size() < 4 * kMiB) continue;
      files[entry.path().filename()] = entry.file_size();
    }
    return files;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<Store> store_;
  uint64_t tenant_ = 0;
};

TEST_F(DiskCapTest, WhatAStoreWritesForItselfIsSmallBesideTheCap) {
  for (const uint64_t cap : {64 * kMiB, 256 * kMiB, 4096 * kMiB, uint64_t{1} << 40}) {
    const StoreSizes sizes = SizesFor(cap);
    EXPECT_LE(sizes.Headroom(), cap / 8) << cap;
    EXPECT_LE(sizes.manifest + sizes.info_log, cap / 32) << cap;
    EXPECT_LE(sizes.log, SizesFor(0).log);
    EXPECT_LE(sizes.bulk_file, SizesFor(0).bulk_file);
  }
  const DiskUsage empty = Must(store_->DiskUse());
  EXPECT_LT(empty.total(), kMiB) << "no space is allocated ahead";
  EXPECT_EQ(empty.headroom_bytes - SizesFor(kCap).Headroom(),
            empty.family_table_bytes[0] + empty.family_table_bytes[1] + empty.family_table_bytes[4])
      << "what came through the log may be written once more";
}

TEST_F(DiskCapTest, BulkFilesAreDroppedAndNeverRewritten) {
  std::vector<Generation> generations;
  for (int i = 0; i < 6; ++i) generations.push_back(MakeCorpus(i));
  const std::map<std::string, uint64_t> before = LargeFiles();
  const uint64_t used = Must(store_->DiskUse()).total();
  ASSERT_GE(before.size(), 12u) << "two commits of each corpus";
  // Every other one goes, so that tombstones and turns lie between those that stay.
  uint64_t evicted_bytes = 0;
  for (size_t i = 0; i < generations.size(); i += 2) {
    Must(catalog().EvictGeneration(generations[i].uid));
    Must(store_->CollectGarbage());
    evicted_bytes += 31 * kBlockTokens * 3 * WideGeometry().KvBytes(1);
  }
  const std::map<std::string, uint64_t> after = LargeFiles();
  for (const auto& [name, size] : after) EXPECT_TRUE(before.contains(name)) << name << " is new";
  EXPECT_EQ(after.size(), before.size() / 2);
  EXPECT_LE(Must(store_->DiskUse()).total(), used - evicted_bytes * 9 / 10);
  EXPECT_EQ(Must(store_->DiskUse()).dropped_bytes, 0u);
  for (int restart = 0; restart < 2; ++restart) {
    for (size_t i = 1; i < generations.size(); i += 2) {
      SampleCache cache(WideGeometry(), i);
      for (const Session& session :
           Must(catalog().ListSessions(generations[i].corpus_uid, {})).items) {
        auto reader = store_->blocks().OpenContext(tenant_, session.segments, session.token_count,
                                                   cache.geometry());
        ASSERT_OK(reader);
        ExpectContext(**reader, cache);
      }
    }
    Open();
  }
}

// A store whose blocks came through the log and in bulk into one family, as the first release wrote
// it, would have large and small records of one lineage in one file: a range of it is given back
// all the same. Here through a bulk load of two lineages in one file.
TEST_F(DiskCapTest, ARangeInsideABulkFileIsGivenBackToo) {
  store_.reset();
  const std::unique_ptr<KeyValueStore> bytes = OpenTwin(Twin::kRocksDb, scratch_.path());
  auto load = Must(bytes->NewBulkLoad());
  for (const char* key : {"a1", "a2", "b1", "b2"}) {
    Must(load->Add(ColumnFamily::kKv, key, std::string(kMiB, key[0])));
  }
  Must(load->Commit());
  Batch batch;
  batch.Put(ColumnFamily::kKv, "a3", "through the log");
  Must(bytes->Write(batch, Durability::kSynced));
  Batch deletion;
  deletion.DeleteRange(ColumnFamily::kKv, "a", "b");
  Must(bytes->Write(deletion, Durability::kSynced));
  Must(bytes->ReclaimRange(ColumnFamily::kKv, "a", "b"));
  std::vector<std::string> keys;
  for (auto cursor = bytes->NewCursor(ColumnFamily::kKv, "", "z"); cursor->Valid(); cursor->Next())
    keys.emplace_back(cursor->key());
  EXPECT_EQ(keys, (std::vector<std::string>{"b1", "b2"}));
  EXPECT_LT(Must(bytes->Usage()).table_bytes, 3 * kMiB);
}

}  // namespace
}  // namespace lectern::storage
