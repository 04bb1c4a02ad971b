// The contract of key_value_store.h, over both twins.
#include "storage/key_value_store.h"

#include <atomic>
#include <thread>

#include "store_fixture.h"

namespace lectern::storage {
namespace {

constexpr ColumnFamily kCatalog = ColumnFamily::kCatalog;
constexpr ColumnFamily kKv = ColumnFamily::kKv;

class KeyValueStoreTest : public testing::TestWithParam<Twin> {
 protected:
  KeyValueStoreTest() : store_(OpenTwin(GetParam(), scratch_.path())) {}

  void Put(ColumnFamily family, const std::string& key, const std::string& value) {
    Batch batch;
    batch.Put(family, key, value);
    ASSERT_OK(store_->Write(batch, Durability::kBuffered));
  }

  std::string Get(ColumnFamily family, const std::string& key) {
    PinnedValue value;
    const absl::Status status = store_->Get(family, key, &value);
    return status.ok() ? std::string(value.view()) : absl::StatusCodeToString(status.code());
  }

  std::vector<std::string> Keys(ColumnFamily family, const std::string& begin,
                                const std::string& end) {
    std::vector<std::string> keys;
    auto cursor = store_->NewCursor(family, begin, end);
    for (; cursor->Valid(); cursor->Next()) keys.emplace_back(cursor->key());
    EXPECT_OK(cursor->status());
    return keys;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<KeyValueStore> store_;
};

TEST_P(KeyValueStoreTest, GetsWhatWasPutInItsFamilyOnly) {
  Put(kCatalog, "a", "1");
  EXPECT_EQ(Get(kCatalog, "a"), "1");
  EXPECT_EQ(Get(kCatalog, "b"), "NOT_FOUND");
  EXPECT_EQ(Get(kKv, "a"), "NOT_FOUND");
  Put(kCatalog, "a", "2");
  EXPECT_EQ(Get(kCatalog, "a"), "2");
}

TEST_P(KeyValueStoreTest, ABatchIsAppliedInOrder) {
  Put(kCatalog, "gone", "x");
  Batch batch;
  batch.Put(kCatalog, "a", "1");
  batch.Put(kCatalog, "b", "1");
  batch.DeleteRange(kCatalog, "a", "b");
  batch.Put(kCatalog, "c", "1");
  batch.Put(kCatalog, "c", "2");
  batch.Delete(kCatalog, "gone");
  batch.Put(kKv, "k", std::string(100000, 'v'));
  ASSERT_OK(store_->Write(batch, Durability::kSynced));
  EXPECT_EQ(Get(kCatalog, "a"), "NOT_FOUND");
  EXPECT_EQ(Get(kCatalog, "b"), "1");
  EXPECT_EQ(Get(kCatalog, "c"), "2");
  EXPECT_EQ(Get(kCatalog, "gone"), "NOT_FOUND");
  EXPECT_EQ(Get(kKv, "k").size(), 100000u);
}

TEST_P(KeyValueStoreTest, MultiGetAnswersInOrderOfKeys) {
  Put(kCatalog, "a", "1");
  Put(kCatalog, "c", "3");
  const std::vector<std::string> keys = {"c", "b", "a"};
  std::vector<PinnedValue> values(keys.size());
  const std::vector<absl::Status> statuses = store_->MultiGet(kCatalog, keys, values);
  ASSERT_EQ(statuses.size(), 3u);
  EXPECT_OK(statuses[0]);
  EXPECT_EQ(values[0].view(), "3");
  EXPECT_CODE(statuses[1], absl::StatusCode::kNotFound);
  EXPECT_OK(statuses[2]);
  EXPECT_EQ(values[2].view(), "1");
}

TEST_P(KeyValueStoreTest, APinnedValueOutlivesItsKey) {
  Put(kCatalog, "a", std::string(5000, '1'));
  PinnedValue value;
  ASSERT_OK(store_->Get(kCatalog, "a", &value));
  Put(kCatalog, "a", "2");
  ASSERT_OK(store_->Flush());
  const PinnedValue moved = std::move(value);
  EXPECT_EQ(moved.view(), std::string(5000, '1'));
}

TEST_P(KeyValueStoreTest, ACursorSeesOneMomentInUnsignedOrder) {
  for (const std::string key : {"b", "a", "\x7f", "\x80", "\xff", "c"}) Put(kCatalog, key, key);
  EXPECT_EQ(Keys(kCatalog, "b", "\xff"), (std::vector<std::string>{"b", "c", "\x7f", "\x80"}));
  auto cursor = store_->NewCursor(kCatalog, "a", "z");
  Put(kCatalog, "d", "late");
  Batch batch;
  batch.Delete(kCatalog, "c");
  batch.DeleteRange(kCatalog, "a", "c");
  ASSERT_OK(store_->Write(batch, Durability::kBuffered));
  std::vector<std::string> seen;
  for (; cursor->Valid(); cursor->Next()) seen.emplace_back(cursor->key());
  EXPECT_EQ(seen, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(Keys(kCatalog, "a", "z"), (std::vector<std::string>{"d"}));
  EXPECT_TRUE(Keys(kCatalog, "x", "b").empty());
}

TEST_P(KeyValueStoreTest, ABulkLoadAppearsWhole) {
  Put(kKv, "b", "old");
  absl::StatusOr<std::unique_ptr<BulkLoad>> load = store_->NewBulkLoad();
  ASSERT_OK(load);
  ASSERT_OK((*load)->Add(kKv, "a", "1"));
  ASSERT_OK((*load)->Add(kKv, "b", "2"));
  ASSERT_OK((*load)->Add(ColumnFamily::kIndexKeys, "a", "3"));
  EXPECT_EQ(Get(kKv, "a"), "NOT_FOUND");
  EXPECT_EQ(Get(kKv, "b"), "old");
  ASSERT_OK((*load)->Commit());
  EXPECT_EQ(Get(kKv, "a"), "1");
  EXPECT_EQ(Get(kKv, "b"), "2");
  EXPECT_EQ(Get(ColumnFamily::kIndexKeys, "a"), "3");
  Put(kKv, "b", "newer");
  EXPECT_EQ(Get(kKv, "b"), "newer");
}

TEST_P(KeyValueStoreTest, ABulkLoadOverADeletedRangeIsSeen) {
  Put(kKv, "a", "old");
  Batch batch;
  batch.DeleteRange(kKv, "a", "z");
  ASSERT_OK(store_->Write(batch, Durability::kSynced));
  absl::StatusOr<std::unique_ptr<BulkLoad>> load = store_->NewBulkLoad();
  ASSERT_OK(load);
  ASSERT_OK((*load)->Add(kKv, "a", "again"));
  ASSERT_OK((*load)->Commit());
  EXPECT_EQ(Get(kKv, "a"), "again");
}

TEST_P(KeyValueStoreTest, AnAbandonedBulkLoadLeavesNothing) {
  {
    absl::StatusOr<std::unique_ptr<BulkLoad>> load = store_->NewBulkLoad();
    ASSERT_OK(load);
    ASSERT_OK((*load)->Add(kKv, "a", "1"));
    EXPECT_CODE((*load)->Add(kKv, "a", "1"), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Get(kKv, "a"), "NOT_FOUND");
  const absl::StatusOr<DiskUsage> usage = store_->Usage();
  ASSERT_OK(usage);
  EXPECT_EQ(usage->loading_bytes, 0u);
  absl::StatusOr<std::unique_ptr<BulkLoad>> empty = store_->NewBulkLoad();
  ASSERT_OK(empty);
  EXPECT_OK((*empty)->Commit());
}

TEST_P(KeyValueStoreTest, UsageFollowsTheBytes) {
  const uint64_t before = Must(store_->Usage()).family_bytes[static_cast<size_t>(kKv)];
  for (int i = 0; i < 16; ++i)
    Put(kKv, "key" + std::to_string(i), std::string(1 << 16, static_cast<char>(i)));
  ASSERT_OK(store_->Flush());
  const DiskUsage full = Must(store_->Usage());
  EXPECT_GE(full.family_bytes[static_cast<size_t>(kKv)], before + (1 << 20));
  EXPECT_GE(full.total(), uint64_t{1} << 20);
  Batch batch;
  batch.DeleteRange(kKv, "key", "kez");
  ASSERT_OK(store_->Write(batch, Durability::kSynced));
  ASSERT_OK(store_->ReclaimRange(kKv, "key", "kez"));
  EXPECT_LT(Must(store_->Usage()).table_bytes, uint64_t{1} << 18);
  EXPECT_TRUE(Keys(kKv, "", "z").empty());
}

TEST_P(KeyValueStoreTest, OneWriterAndTwoReaders) {
  constexpr int kRounds = 500;
  std::atomic<bool> done = false;
  std::atomic<int> torn = 0;
  const auto read = [&] {
    while (!done) {
      // Both keys are always written together.
      auto cursor = store_->NewCursor(kCatalog, "pair", "pais");
      std::string first;
      for (; cursor->Valid(); cursor->Next()) {
        if (first.empty()) first = cursor->value();
        if (first != cursor->value()) ++torn;
      }
    }
  };
  std::thread one(read), two(read);
  for (int i = 0; i < kRounds; ++i) {
    Batch batch;
    batch.Put(kCatalog, "pair1", std::to_string(i));
    batch.Put(kCatalog, "pair2", std::to_string(i));
    EXPECT_OK(store_->Write(batch, Durability::kBuffered));
  }
  done = true;
  one.join();
  two.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(Get(kCatalog, "pair2"), std::to_string(kRounds - 1));
}

INSTANTIATE_TEST_SUITE_P(Twins, KeyValueStoreTest, testing::Values(Twin::kRocksDb, Twin::kMemory),
                         TwinName);

}  // namespace
}  // namespace lectern::storage
