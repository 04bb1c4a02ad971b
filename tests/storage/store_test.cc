// The data directory: what may be opened, what is refused and why, what a restart finds.
#include "storage/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "storage/keys.h"
#include "storage/records.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

class StoreDirectoryTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Store>> Open() {
    StoreOptions options;
    options.directory = directory_;
    return Store::Open(options);
  }

  std::string ReadFile(const std::string& name) {
    std::ifstream file(directory_ + "/" + name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  void WriteFile(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
  }

  ScratchDirectory scratch_;
  const std::string directory_ = scratch_.path() + "/data";
};

TEST_F(StoreDirectoryTest, ARestartFindsEverything) {
  SampleCache cache(SmallGeometry(), 1);
  auto store = Must(Open());
  const std::string id = store->store_id();
  const Digest secret = store->secret();
  const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
  const Corpus corpus = Must(store->catalog().CreateCorpus(tenant, {"c", "", {}}, 1));
  auto writer = Must(store->catalog().WriteDocument(corpus.uid, {"d", "", ""}));
  Must(writer->Append(std::string(1'500'000, 'd')));
  const Document document = Must(writer->Commit(1, std::nullopt));
  writer.reset();
  const Generation generation = Ingest(store.get(), corpus.uid, &cache, 3000);
  const Session session = Must(store->catalog().CreateSession(generation.uid, 0, {"s", "", {}}, 1));
  Must(store->catalog().CommitTurn(session.uid, {0, 3010, 2, "t"}, cache.Blocks(23, 3010), 2));
  for (int restart = 0; restart < 3; ++restart) {
    store.reset();
    store = Must(Open());
    EXPECT_EQ(store->store_id(), id);
    EXPECT_EQ(store->secret(), secret);
    Catalog& catalog = store->catalog();
    EXPECT_EQ(Must(catalog.GetTenant(kDefaultTenantId)).uid, tenant);
    EXPECT_EQ(Must(catalog.GetCorpus(tenant, "c")).current_generation, generation.uid);
    EXPECT_EQ(Must(catalog.GetGeneration(generation.uid)), generation);
    EXPECT_EQ(Must(catalog.ReadDocument(document, 0, UINT64_MAX)), std::string(1'500'000, 'd'));
    const Session again = Must(catalog.GetSession(corpus.uid, "s"));
    auto reader =
        store->blocks().OpenContext(tenant, again.segments, again.token_count, cache.geometry());
    ASSERT_OK(reader);
    ExpectContext(**reader, cache);
    EXPECT_EQ(Must(store->blocks().LookupPrefix(tenant, cache.FullHashes(3000)))[0].block_count,
              23u);
    // Uids go on where they stopped.
    EXPECT_GT(Must(catalog.CreateCorpus(tenant, {"c" + std::to_string(restart), "", {}}, 1)).uid,
              session.uid);
  }
}

TEST_F(StoreDirectoryTest, ASecondProcessIsRefused) {
  const auto store = Must(Open());
  const absl::Status status = Open().status();
  EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("open in another process"));
}

TEST_F(StoreDirectoryTest, ANewerFormatIsRefusedNamingBoth) {
  Must(Open());
  std::string format = ReadFile("FORMAT");
  EXPECT_THAT(format, testing::StartsWith("lectern-store\nformat 1\nid "));
  WriteFile("FORMAT", "lectern-store\nformat 7\nsomething new\n");
  const absl::Status status = Open().status();
  EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("format 7"), testing::HasSubstr("up to 1")));
  WriteFile("FORMAT", format);
  EXPECT_OK(Open());
}

TEST_F(StoreDirectoryTest, ADamagedOrForeignFormatIsRefused) {
  Must(Open());
  const std::string format = ReadFile("FORMAT");
  for (const std::string text :
       {"", "lectern-store\n", "lectern-store\nformat x\n", "lectern-store\nformat 1\nid 12\n"}) {
    WriteFile("FORMAT", text);
    EXPECT_CODE(Open(), absl::StatusCode::kDataLoss) << text;
  }
  WriteFile("FORMAT", "another-store\nformat 1\n");
  EXPECT_CODE(Open(), absl::StatusCode::kFailedPrecondition);
  // The format of one store over the database of another.
  WriteFile("FORMAT", format.substr(0, format.size() - 4) + "zzz\n");
  EXPECT_CODE(Open(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(StoreDirectoryTest, ADirectoryOfSomethingElseIsRefused) {
  fs::create_directory(directory_);
  WriteFile("thesis.txt", "do not touch");
  const absl::Status status = Open().status();
  EXPECT_CODE(status, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("thesis.txt"));
  EXPECT_FALSE(fs::exists(directory_ + "/db"));
  fs::remove(directory_ + "/thesis.txt");
  EXPECT_OK(Open());
}

TEST_F(StoreDirectoryTest, BadPathsAreRefused) {
  StoreOptions options;
  EXPECT_CODE(Store::Open(options), absl::StatusCode::kInvalidArgument);
  options.directory = directory_ + "/parent/missing";
  EXPECT_CODE(Store::Open(options), absl::StatusCode::kNotFound);
  std::ofstream(scratch_.path() + "/file") << "x";
  options.directory = scratch_.path() + "/file";
  EXPECT_CODE(Store::Open(options), absl::StatusCode::kFailedPrecondition);
}

TEST_F(StoreDirectoryTest, AReadOnlyDirectoryIsRefused) {
  Must(Open());
  chmod(directory_.c_str(), 0555);
  fs::remove(directory_ + "/LOCK");
  if (geteuid() == 0) {
    // Root writes anywhere; /proc does not let it.
    StoreOptions options;
    options.directory = "/proc/lectern";
    const absl::Status status = Store::Open(options).status();
    EXPECT_TRUE(absl::IsPermissionDenied(status) || absl::IsNotFound(status)) << status;
  } else {
    EXPECT_CODE(Open(), absl::StatusCode::kPermissionDenied);
  }
  chmod(directory_.c_str(), 0755);
}

TEST_F(StoreDirectoryTest, ADamagedDatabaseIsDataLoss) {
  Must(Open());
  for (const auto& entry : fs::directory_iterator(directory_ + "/db")) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("MANIFEST")) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(entry.path()) / 2));
    file.put('\x5a').put('\xa5');
  }
  const absl::Status status = Open().status();
  EXPECT_CODE(status, absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(directory_));
}

TEST_F(StoreDirectoryTest, AnInterruptedUploadIsPurgedAtOpen) {
  uint64_t corpus = 0;
  {
    const auto store = Must(Open());
    const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
    corpus = Must(store->catalog().CreateCorpus(tenant, {"c", "", {}}, 1)).uid;
  }
  {
    // As a killed process leaves it: the record and chunks, and nobody who writes.
    auto bytes = OpenTwin(Twin::kRocksDb, directory_);
    Batch batch;
    PutRecord(&batch, ObjectKey(KeySpace::kUpload, 999), Upload{corpus});
    batch.Put(ColumnFamily::kDocument, DocumentChunkKey(corpus, 999, 0),
              std::string(2'000'000, 'x'));
    Must(bytes->Write(batch, Durability::kSynced));
  }
  EXPECT_EQ(Must(Must(Open())->CollectGarbage()).uploads_purged, 1u);
  auto bytes = OpenTwin(Twin::kRocksDb, directory_);
  EXPECT_FALSE(bytes->NewCursor(ColumnFamily::kDocument, "", "\xff")->Valid());
}

TEST_F(StoreDirectoryTest, DeletedBytesLeaveTheDisk) {
  Geometry wide = SmallGeometry();
  wide.kv_heads = 4;
  wide.head_dim = 128;
  SampleCache cache(wide, 5);
  const auto store = Must(Open());
  const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
  const uint64_t corpus = Must(store->catalog().CreateCorpus(tenant, {"c", "", {}}, 1)).uid;
  Ingest(store.get(), corpus, &cache, 20 * kBlockTokens);  // in bulk
  const Generation small = Ingest(store.get(), corpus, &cache, 22 * kBlockTokens, 1);
  ASSERT_OK(store->Flush());
  EXPECT_GT(Must(store->GetStats()).disk.table_bytes, 16u << 20);
  ASSERT_OK(store->catalog().DeleteCorpus(corpus, 2));
  EXPECT_EQ(Must(store->CollectGarbage()).lineages_purged, 2u);
  EXPECT_LT(Must(store->GetStats()).disk.table_bytes, 64u << 10);
  EXPECT_EQ(Must(store->GetStats()).purge_pending, 0u);
}

}  // namespace
}  // namespace lectern::storage
