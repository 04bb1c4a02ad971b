// A disk that fills up, on every write path, and has space again: typed errors, reads go on, no
// restart. One that fails syncs, after which a restart may be needed. Through a file system of
// ours, so that it runs without privileges.
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include "storage/rocksdb_store.h"
#include "storage/store.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

// Steps of writing that can fail.
enum class Step { kCreate, kAppend, kLink };

// Gives out so many bytes and then says that there is no space, or fails in another way.
struct Quota {
  std::atomic<int64_t> bytes = INT64_MAX;
  std::atomic<int> error = ENOSPC;
  std::atomic<int> failing = -1;  // this Step fails, too
  std::atomic<bool> syncs_fail = false;
  std::string failing_syncs;  // of files whose names hold this; set while syncs do not fail
  std::atomic<int> failed_syncs = 0;

  rocksdb::IOStatus Take(size_t size) {
    if (bytes.fetch_sub(static_cast<int64_t>(size)) >= static_cast<int64_t>(size))
      return Do(Step::kAppend);
    bytes.fetch_add(static_cast<int64_t>(size));
    return Error();
  }
  rocksdb::IOStatus Do(Step step) const {
    return failing == static_cast<int>(step) ? Error() : rocksdb::IOStatus::OK();
  }
  // As RocksDB's own file system words them.
  rocksdb::IOStatus Error() const {
    if (error == ENOSPC) return rocksdb::IOStatus::NoSpace("injected", std::strerror(ENOSPC));
    return rocksdb::IOStatus::IOError("injected", std::strerror(error));
  }
};

class QuotaFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  QuotaFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::string name, Quota* quota)
      : rocksdb::FSWritableFileOwnerWrapper(std::move(file)),
        name_(std::move(name)),
        quota_(quota) {}

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = quota_->Take(data.size());
    return status.ok() ? target()->Append(data, options, debug) : status;
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& info,
                           rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = quota_->Take(data.size());
    return status.ok() ? target()->Append(data, options, info, debug) : status;
  }
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* debug) override {
    return SyncFails() ? quota_->Error() : target()->Sync(options, debug);
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* debug) override {
    return SyncFails() ? quota_->Error() : target()->Fsync(options, debug);
  }

 private:
  bool SyncFails() const {
    if (!quota_->syncs_fail || name_.find(quota_->failing_syncs) == std::string::npos) return false;
    ++quota_->failed_syncs;
    return true;
  }

  const std::string name_;
  Quota* quota_;
};

class QuotaFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit QuotaFileSystem(Quota* quota)
      : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()), quota_(quota) {}

  const char* Name() const override { return "QuotaFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* file,
                                    rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = quota_->Do(Step::kCreate);
    std::unique_ptr<rocksdb::FSWritableFile> opened;
    if (status.ok()) status = target()->NewWritableFile(name, options, &opened, debug);
    if (status.ok()) *file = std::make_unique<QuotaFile>(std::move(opened), name, quota_);
    return status;
  }
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = quota_->Do(Step::kLink);
    return status.ok() ? target()->RenameFile(from, to, options, debug) : status;
  }
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
    rocksdb::IOStatus status = quota_->Do(Step::kLink);
    return status.ok() ? target()->LinkFile(from, to, options, debug) : status;
  }

 private:
  Quota* quota_;
};

Geometry WideGeometry() {
  Geometry wide = SmallGeometry();
  wide.kv_heads = 4;
  wide.head_dim = 128;
  return wide;
}

class DiskFullTest : public testing::Test {
 protected:
  DiskFullTest() : cache_(WideGeometry(), 1) {
    Open();
    tenant_ = Must(store_->catalog().GetTenant(kDefaultTenantId)).uid;
    corpus_ = Must(store_->catalog().CreateCorpus(tenant_, {"c", "", {}}, 1)).uid;
    served_ = Ingest(store_.get(), corpus_, &cache_, 12 * kBlockTokens + 9, 12);
  }

  void Open() {
    store_.reset();
    RocksDbOptions options;
    options.directory = scratch_.path() + "/db";
    options.load_directory = scratch_.path() + "/load";
    options.file_system = std::make_shared<QuotaFileSystem>(&quota_);
    store_ = Must(Store::OpenOn(Must(OpenRocksDbStore(options)), StoreOptions()));
  }

  Catalog& catalog() { return store_->catalog(); }

  void ExpectServed(const Generation& generation) {
    const GenerationContext& context = generation.contexts[0];
    auto reader = store_->blocks().OpenContext(tenant_, context.segments, context.token_count,
                                               WideGeometry());
    ASSERT_OK(reader);
    ExpectContext(**reader, cache_);
  }

  // Whatever happened, the store is whole once more, without and with a restart.
  void ExpectRecovered() {
    quota_.bytes = INT64_MAX;
    for (int restart = 0; restart < 2; ++restart) {
      ExpectServed(served_);
      const std::string id = "after" + std::to_string(restart);
      EXPECT_OK(catalog().CreateCorpus(tenant_, {id, "", {}}, 1));
      const uint64_t tokens = (14 + 12 * restart) * kBlockTokens;
      ExpectServed(
          Ingest(store_.get(), Must(catalog().GetCorpus(tenant_, id)).uid, &cache_, tokens, 12));
      EXPECT_OK(store_->CollectGarbage());
      EXPECT_EQ(Must(store_->GetStats()).disk.loading_bytes, 0u);
      Open();
    }
  }

  ScratchDirectory scratch_;
  Quota quota_;
  std::unique_ptr<Store> store_;
  SampleCache cache_;
  uint64_t tenant_ = 0;
  uint64_t corpus_ = 0;
  Generation served_;
};

TEST_F(DiskFullTest, ABulkCommitFailsTypedAndIsTakenUpWhenSpaceReturns) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 30 * kBlockTokens), 1));
  // Any share of the commit may be what no longer fits.
  for (const int64_t left : {0, 1'000, 1'000'000, 5'000'000, 9'000'000}) {
    quota_.bytes = left;
    const absl::Status status =
        catalog()
            .CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens))
            .status();
    EXPECT_CODE(status, absl::StatusCode::kResourceExhausted) << left;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("free space"));
    ExpectServed(served_);
    EXPECT_EQ(Must(catalog().GetIngest(operation.uid)).contexts[0].end_block, 12u);
  }
  quota_.bytes = INT64_MAX;
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens)));
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(28, 30 * kBlockTokens)));
  ExpectServed(Must(catalog().PublishGeneration(operation.uid, SpecFor(30 * kBlockTokens), 2)));
  ExpectRecovered();
}

TEST_F(DiskFullTest, EveryCatalogWriteFailsTyped) {
  const Session session = Must(catalog().CreateSession(served_.uid, 0, {"s", "", {}}, 1));
  auto upload = Must(catalog().WriteDocument(corpus_, {"d", "", ""}));
  quota_.bytes = 0;
  constexpr auto kFull = absl::StatusCode::kResourceExhausted;
  EXPECT_CODE(catalog().CreateCorpus(tenant_, {"x", "", {}}, 1), kFull);
  EXPECT_CODE(upload->Append(std::string(2'000'000, 'x')), kFull);
  EXPECT_CODE(upload->Commit(1, std::nullopt), kFull);
  EXPECT_CODE(catalog().WriteDocument(corpus_, {"e", "", ""}), kFull);
  EXPECT_CODE(catalog().CreateOperation(corpus_, IngestOperation(), 1), kFull);
  const uint64_t tokens = 12 * kBlockTokens + 20;
  EXPECT_CODE(catalog().CommitTurn(session.uid, {0, tokens, 1, ""}, cache_.Blocks(12, tokens), 1),
              kFull);
  EXPECT_CODE(catalog().DeleteSession(session.uid), kFull);
  upload.reset();
  ExpectServed(served_);
  EXPECT_CODE(catalog().GetCorpus(tenant_, "x"), absl::StatusCode::kNotFound);
  EXPECT_CODE(catalog().GetDocument(corpus_, "d"), absl::StatusCode::kNotFound);
  EXPECT_EQ(Must(catalog().GetSessionByUid(session.uid)), session);
  quota_.bytes = INT64_MAX;
  EXPECT_OK(catalog().CreateCorpus(tenant_, {"x", "", {}}, 1));
  EXPECT_OK(catalog().CommitTurn(session.uid, {0, tokens, 1, ""}, cache_.Blocks(12, tokens), 1));
  ExpectRecovered();
}

TEST_F(DiskFullTest, AFlushInTheBackgroundMayFail) {
  EXPECT_OK(catalog().CreateCorpus(tenant_, {"in the log", "", {}}, 1));
  quota_.bytes = 100;
  EXPECT_CODE(store_->Flush(), absl::StatusCode::kResourceExhausted);
  EXPECT_OK(catalog().GetCorpus(tenant_, "in the log"));
  quota_.bytes = INT64_MAX;
  EXPECT_OK(store_->Flush());
  ExpectRecovered();
  EXPECT_OK(catalog().GetCorpus(tenant_, "in the log"));
}

// Every step of a write, with every kind of error: the caller is told of it or it did not matter,
// what is stored is served, and afterwards all goes on in the same process.
class FailingStepTest : public DiskFullTest, public testing::WithParamInterface<int> {};

TEST_P(FailingStepTest, IsToldAndPasses) {
  quota_.error = GetParam();
  const absl::StatusCode code =
      GetParam() == EIO ? absl::StatusCode::kUnavailable : absl::StatusCode::kResourceExhausted;
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 30 * kBlockTokens), 1));
  int number = 0;
  for (const Step step : {Step::kAppend, Step::kCreate, Step::kLink}) {
    SCOPED_TRACE(static_cast<int>(step));
    const auto expect = [&](const absl::Status& status) {
      EXPECT_TRUE(status.ok() || status.code() == code) << status.ToString();
    };
    quota_.failing = static_cast<int>(step);
    const std::string id = "c" + std::to_string(++number);
    const absl::Status created = catalog().CreateCorpus(tenant_, {id, "", {}}, 1).status();
    expect(created);
    EXPECT_TRUE(step != Step::kAppend || !created.ok());
    const absl::Status committed =
        catalog()
            .CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens))
            .status();
    EXPECT_CODE(committed, code);
    expect(store_->Flush());
    ExpectServed(served_);
    quota_.failing = -1;
    EXPECT_TRUE(created.ok() || catalog().CreateCorpus(tenant_, {id, "", {}}, 1).ok());
    EXPECT_OK(store_->Flush());
    EXPECT_EQ(Must(catalog().GetIngest(operation.uid)).contexts[0].end_block, 12u);
  }
  EXPECT_GT(Must(store_->GetStats()).background.outages, 0u);
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens)));
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(28, 30 * kBlockTokens)));
  ExpectServed(Must(catalog().PublishGeneration(operation.uid, SpecFor(30 * kBlockTokens), 2)));
  ExpectRecovered();
}

INSTANTIATE_TEST_SUITE_P(Errors, FailingStepTest, testing::Values(ENOSPC, EDQUOT, EIO),
                         [](const auto& error) {
                           return std::string(error.param == ENOSPC   ? "NoSpace"
                                              : error.param == EDQUOT ? "Quota"
                                                                      : "IoError");
                         });

// A disk that takes bytes and fails to sync them. What was acknowledged is never lost and what is
// stored is served; writing is refused with the error, and goes on when the disk does or, at the
// latest, after a restart (README.md: RocksDB's recovery may have given up by then).
struct FailingSync {
  const char* name;
  const char* files;
};
class FailingSyncTest : public DiskFullTest, public testing::WithParamInterface<FailingSync> {
 protected:
  // Whether it was written; any other end than the disk's error is a failure.
  bool Created(const std::string& id) {
    const absl::Status status = catalog().CreateCorpus(tenant_, {id, "", {}}, 1).status();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status.ToString();
    if (status.ok()) acknowledged_.push_back(id);
    return status.ok();
  }

  std::vector<std::string> acknowledged_;
};

TEST_P(FailingSyncTest, LosesNothingThatWasAcknowledgedAndPassesWithARestart) {
  quota_.error = EIO;
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, 30 * kBlockTokens), 1));
  ASSERT_TRUE(Created("before"));
  quota_.failing_syncs = GetParam().files;
  quota_.syncs_fail = true;
  const bool log_fails = std::string_view(".log").find(GetParam().files) != std::string_view::npos;
  EXPECT_TRUE(Created("while") || log_fails);
  const absl::Status flushed = store_->Flush();
  const absl::Status committed =
      catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens)).status();
  EXPECT_GT(quota_.failed_syncs, 0);
  EXPECT_FALSE(flushed.ok() && committed.ok());
  for (const absl::Status& status : {flushed, committed}) {
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status.ToString();
  }
  ExpectServed(served_);
  EXPECT_OK(catalog().GetCorpus(tenant_, "before"));
  quota_.syncs_fail = false;
  // In this process writing goes on, or is refused; it does not do so now and then.
  const bool goes_on = Created("after");
  RecordProperty("goes_on_without_a_restart", goes_on ? "yes" : "no");
  ExpectServed(served_);
  Open();
  ExpectServed(served_);
  for (const std::string& id : acknowledged_) EXPECT_OK(catalog().GetCorpus(tenant_, id)) << id;
  ASSERT_TRUE(Created("restarted"));
  EXPECT_EQ(goes_on, catalog().GetCorpus(tenant_, "after").ok());
  const uint32_t end = Must(catalog().GetIngest(operation.uid)).contexts[0].end_block;
  EXPECT_TRUE(end == 12 || (end == 28 && committed.ok())) << end;
  if (end == 12) {
    Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(12, 28 * kBlockTokens)));
  }
  Must(catalog().CommitIngestBlocks(operation.uid, 0, cache_.Blocks(28, 30 * kBlockTokens)));
  ExpectServed(Must(catalog().PublishGeneration(operation.uid, SpecFor(30 * kBlockTokens), 2)));
  ExpectRecovered();
}

INSTANTIATE_TEST_SUITE_P(Files, FailingSyncTest,
                         testing::Values(FailingSync{"Log", ".log"}, FailingSync{"Table", ".sst"},
                                         FailingSync{"Manifest", "MANIFEST"},
                                         FailingSync{"Every", ""}),
                         [](const auto& files) { return std::string(files.param.name); });

// RocksDB repeats a compaction for as long as it fails, and resuming waits for compactions.
TEST_F(DiskFullTest, AWriteDoesNotWaitForACompactionThatCannotEnd) {
  const Operation operation = Must(catalog().CreateOperation(corpus_, IngestOperation(), 1));
  Must(catalog().BeginIngest(RequestFor(operation.uid, cache_, kBlockTokens), 1));
  std::mt19937_64 random(5);
  constexpr size_t kPlanBytes = 1'500'000;  // of a record that every table holds anew
  constexpr int kTablesUntilCompaction = 4;
  for (int table = 1; table <= kTablesUntilCompaction; ++table) {
    std::string plan;
    while (plan.size() < kPlanBytes) plan.push_back(static_cast<char>(random()));
    Must(catalog().UpdateIngestPlan(operation.uid, plan));
    // The last table still fits, what is made of the four does not.
    if (table == kTablesUntilCompaction) quota_.bytes = kPlanBytes + kPlanBytes / 2;
    store_->Flush().IgnoreError();
  }
  auto ended = std::async(std::launch::async, [&] {
    // Until one fails: the compaction eats up what is left.
    absl::Status status;
    for (int i = 0; status.ok(); ++i) {
      status = catalog().CreateCorpus(tenant_, {"more" + std::to_string(i), "", {}}, 1).status();
    }
    return status;
  });
  if (ended.wait_for(std::chrono::seconds(90)) != std::future_status::ready) {
    quota_.bytes = INT64_MAX;
    FAIL() << "a write waits for as long as the disk is full";
  }
  EXPECT_CODE(ended.get(), absl::StatusCode::kResourceExhausted);
  ExpectServed(served_);
  ExpectRecovered();
}

}  // namespace
}  // namespace lectern::storage
