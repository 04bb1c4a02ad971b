// A disk that fails for a moment, for good, or takes its time: reads are tried again, a bounded
// number of times, and then the caller is told.
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include <rocksdb/file_system.h>

#include "storage/rocksdb_store.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr uint64_t kTokens = 5 * kBlockTokens;
// Longer than any read of these tests that returns.
constexpr std::chrono::milliseconds kReadTimeout(3000);

// What reads of table files meet.
struct Trouble {
  std::atomic<int> failures = 0;  // so many reads fail
  std::atomic<int> milliseconds = 0;
  std::atomic<int> reads = 0;
  std::atomic<bool> hang = false;  // reads do not return
  std::atomic<int> hanging = 0;
};

class TroubledFile final : public rocksdb::FSRandomAccessFileOwnerWrapper {
 public:
  TroubledFile(std::unique_ptr<rocksdb::FSRandomAccessFile> file, Trouble* trouble)
      : rocksdb::FSRandomAccessFileOwnerWrapper(std::move(file)), trouble_(trouble) {}

  rocksdb::IOStatus Read(uint64_t offset, size_t size, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* debug) const override {
    ++trouble_->reads;
    std::this_thread::sleep_for(std::chrono::milliseconds(trouble_->milliseconds));
    ++trouble_->hanging;
    while (trouble_->hang) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    --trouble_->hanging;
    if (trouble_->failures > 0) {
      --trouble_->failures;
      return rocksdb::IOStatus::IOError("Input/output error");
    }
    return target()->Read(offset, size, options, result, scratch, debug);
  }

 private:
  Trouble* const trouble_;
};

class TroubledFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  explicit TroubledFileSystem(Trouble* trouble)
      : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()), trouble_(trouble) {}
  const char* Name() const override { return "TroubledFileSystem"; }
  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override {
    std::unique_ptr<rocksdb::FSRandomAccessFile> opened;
    rocksdb::IOStatus status = target()->NewRandomAccessFile(name, options, &opened, debug);
    if (status.ok()) *file = std::make_unique<TroubledFile>(std::move(opened), trouble_);
    return status;
  }

 private:
  Trouble* const trouble_;
};

class SlowDiskTest : public testing::Test {
 protected:
  SlowDiskTest() : cache_(SmallGeometry(), 8) {
    RocksDbOptions options;
    options.directory = scratch_.path() + "/db";
    options.load_directory = scratch_.path() + "/load";
    options.file_system = std::make_shared<TroubledFileSystem>(&trouble_);
    options.read_timeout = kReadTimeout;
    store_ = Must(Store::OpenOn(Must(OpenRocksDbStore(options)), StoreOptions()));
    const uint64_t tenant = Must(store_->catalog().GetTenant(kDefaultTenantId)).uid;
    const uint64_t corpus = Must(store_->catalog().CreateCorpus(tenant, {"c", "", {}}, 1)).uid;
    const Generation generation = Ingest(store_.get(), corpus, &cache_, kTokens);
    Must(store_->Flush());
    reader_ = Must(store_->blocks().OpenContext(tenant, generation.contexts[0].segments, kTokens,
                                                SmallGeometry()));
    Must(Read());  // tables are open, their indexes in memory
    retries_ = store_->blocks().Counters().read_retries;
  }

  absl::Status Read() {
    std::vector<std::byte> kv(SmallGeometry().KvBytes(kBlockTokens));
    absl::Status status = reader_->ReadKv({0, 2, 0, 0, kv.data(), kBlockTokens});
    if (!status.ok()) return status;
    EXPECT_TRUE(kv == cache_.Kv(0, 2, kBlockTokens));
    return absl::OkStatus();
  }
  // The disk answers what hangs.
  void Release() {
    trouble_.hang = false;
    while (trouble_.hanging > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  uint64_t Retries() const { return store_->blocks().Counters().read_retries - retries_; }

  ScratchDirectory scratch_;
  SampleCache cache_;
  Trouble trouble_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<ContextReader> reader_;
  uint64_t retries_ = 0;
};

TEST_F(SlowDiskTest, AFailureThatPassesIsNotSeen) {
  trouble_.failures = 2;
  EXPECT_OK(Read());
  EXPECT_EQ(Retries(), 2u);
}

TEST_F(SlowDiskTest, AFailureThatStaysEndsAfterSoManyAttempts) {
  trouble_.failures = 1 << 30;
  const int reads = trouble_.reads;
  EXPECT_CODE(Read(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Retries(), 3u);
  EXPECT_EQ(trouble_.reads - reads, 4);
  // It is no damage, and reading goes on when the disk does.
  EXPECT_EQ(store_->blocks().Counters().damaged_records, 0u);
  trouble_.failures = 0;
  EXPECT_OK(Read());
}

TEST_F(SlowDiskTest, ASlowReadIsCounted) {
  EXPECT_EQ(store_->blocks().Counters().slow_reads, 0u);
  trouble_.milliseconds = 1050;
  EXPECT_OK(Read());
  EXPECT_EQ(store_->blocks().Counters().slow_reads, 1u);
}

TEST_F(SlowDiskTest, AReadThatHangsIsGivenUpAndHoldsNothingElse) {
  trouble_.hang = true;
  absl::Status status = Read();
  EXPECT_CODE(status, absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(scratch_.path()));
  EXPECT_EQ(Retries(), 0u);
  EXPECT_EQ(store_->blocks().Counters().damaged_records, 0u);
  EXPECT_EQ(Must(store_->GetStats()).background.timed_out_reads, 1u);
  // What is in memory is read, and writing goes on.
  EXPECT_OK(store_->catalog().CreateCorpus(Must(store_->catalog().GetTenant(kDefaultTenantId)).uid,
                                           {"meanwhile", "", {}}, 1));
  // More at once than there are threads for it: all are told.
  constexpr int kReaders = 80;
  std::atomic<int> told = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&] { told += absl::IsDeadlineExceeded(Read()); });
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(told, kReaders);
  EXPECT_LE(trouble_.hanging, 64);
  Release();
  EXPECT_OK(Read());
  // Closing does not wait for reads that hang; they end later.
  trouble_.hang = true;
  EXPECT_CODE(Read(), absl::StatusCode::kDeadlineExceeded);
  reader_.reset();
  store_.reset();
  EXPECT_GE(trouble_.hanging, 1);
  Release();
}

}  // namespace
}  // namespace lectern::storage
