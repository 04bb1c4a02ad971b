// Promises, the order of eviction, and what is never touched, over a store of its own.
#include "engine/room/disk_room.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/error/error.h"
#include "engine/room/disk_bytes.h"
#include "store_fixture.h"

namespace lectern::engine {
namespace {

using storage::kBlockTokens;
using storage::Must;

// 128 KiB of keys and values a block and layer: a corpus of kBlocks is 24 MB, and two of them with
// the store's headroom leave no room for a third under the least cap.
constexpr uint32_t kBlocks = 60;
storage::Geometry WideGeometry() {
  storage::Geometry geometry = storage::SmallGeometry();
  geometry.kv_heads = 2;
  geometry.head_dim = 128;
  return geometry;
}

class DiskRoomTest : public ::testing::Test {
 protected:
  static constexpr int64_t kCap = DiskRoom::kLeastCapBytes;

  DiskRoomTest() {
    storage::StoreOptions options;
    options.directory = scratch_.path() + "/data";
    options.disk_cap = kCap;
    store_ = Must(storage::Store::Open(options));
    tenant_ = Must(catalog().GetTenant(storage::kDefaultTenantId)).uid;
    uses_.emplace(&catalog(), [this] { return now_; });
    room_.emplace(DiskRoom::Surroundings{
        .store = store_.get(), .uses = &*uses_, .cap_bytes = kCap, .delete_expired = [this] {
          ++expiries_;
        }});
  }

  storage::Catalog& catalog() { return store_->catalog(); }

  uint64_t MakeCorpus(const std::string& id, int64_t now) {
    return Must(catalog().CreateCorpus(tenant_, {.id = id}, now)).uid;
  }
  // Blocks of its own, unless `seed` is another's.
  storage::Generation Fill(uint64_t corpus, uint64_t seed, uint32_t blocks = kBlocks) {
    storage::SampleCache cache(WideGeometry(), seed);
    return storage::Ingest(store_.get(), corpus, &cache, uint64_t{blocks} * kBlockTokens, 32);
  }
  std::vector<uint64_t> Order() {
    std::vector<uint64_t> uids;
    const std::vector<Evictable> order = Must(room_->EvictionOrder());
    for (const Evictable& evictable : order) {
      uids.push_back(evictable.generation.uid);
    }
    return uids;
  }
  storage::Residency ResidencyOf(const storage::Generation& generation) {
    return Must(catalog().GetGeneration(generation.uid)).residency;
  }

  storage::ScratchDirectory scratch_;
  std::unique_ptr<storage::Store> store_;
  std::optional<CorpusUses> uses_;
  std::optional<DiskRoom> room_;
  uint64_t tenant_ = 0;
  int64_t now_ = 1000;
  int expiries_ = 0;
};

TEST_F(DiskRoomTest, PromisesAreKeptWrittenAndGivenBack) {
  {
    DiskPromise promise = *room_->Reserve(1 << 20, "a test");
    EXPECT_EQ(room_->promised_bytes(), 1 << 20);
    promise.Written(1 << 10);
    EXPECT_EQ(room_->promised_bytes(), (1 << 20) - (1 << 10));
    promise.Written(1 << 30);  // an estimate that was too low
    EXPECT_EQ(room_->promised_bytes(), 0);
    DiskPromise other = *room_->Reserve(4096, "a test");
    promise = std::move(other);
    EXPECT_EQ(promise.bytes(), 4096);
  }
  EXPECT_EQ(room_->promised_bytes(), 0);
  // Two promises of more than half of the cap are one too many, though nothing is written.
  const DiskPromise half = *room_->Reserve(kCap / 2, "a test");
  const absl::Status refused = room_->Reserve(kCap / 2, "a test").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "DISK_CAP_EXCEEDED");
  EXPECT_EQ(MetadataOf(refused)["needed_bytes"], std::to_string(kCap / 2));
  EXPECT_EQ(MetadataOf(refused)["cap_bytes"], std::to_string(kCap));
  EXPECT_EQ(expiries_, 1) << "what has expired goes before anything is refused";
}

TEST_F(DiskRoomTest, TheOrderOfEviction) {
  const uint64_t first = MakeCorpus("first", 10);
  const uint64_t second = MakeCorpus("second", 20);
  const uint64_t third = MakeCorpus("third", 30);
  const storage::Generation of_first = Fill(first, 1, 2);
  const storage::Generation of_second = Fill(second, 2, 2);
  const storage::Generation superseded = Fill(third, 3, 2);
  const storage::Generation with_session = Fill(third, 4, 2);
  Must(catalog().CreateSession(with_session.uid, 0, {"s", "", {}}, 30));
  const storage::Generation of_third = Fill(third, 5, 2);
  for (const uint64_t corpus : {first, second, third}) Must(catalog().UseCorpus(corpus, 100));
  EXPECT_THAT(Order(), ::testing::ElementsAre(superseded.uid, of_first.uid, of_second.uid,
                                              with_session.uid, of_third.uid));
  // Used again, and later: it goes last. In use: not at all.
  {
    const CorpusUses::Use use = uses_->Begin(first);
    EXPECT_THAT(Order(), ::testing::ElementsAre(superseded.uid, of_second.uid, with_session.uid,
                                                of_third.uid));
    EXPECT_FALSE(uses_->IfIdle(first, [] { FAIL(); }));
  }
  EXPECT_THAT(Order(), ::testing::ElementsAre(superseded.uid, of_second.uid, with_session.uid,
                                              of_third.uid, of_first.uid));
  Must(catalog().UpdateCorpus(second, {.pinned = true}, 40));
  EXPECT_THAT(Order(),
              ::testing::ElementsAre(superseded.uid, with_session.uid, of_third.uid, of_first.uid));
  // The order outlives the process.
  EXPECT_TRUE(uses_->Save().ok());
  EXPECT_EQ(Must(catalog().GetCorpusByUid(first)).last_used_time, now_);
  uses_.emplace(&catalog(), [] { return 0; });
  EXPECT_EQ(uses_->LastUsed(first, Must(catalog().GetCorpusByUid(first)).last_used_time), now_);
}

TEST_F(DiskRoomTest, RoomIsMadeByGivingBytesBackAndNotByPromises) {
  const uint64_t first = MakeCorpus("first", 10);
  const uint64_t second = MakeCorpus("second", 20);
  const storage::Generation old = Fill(first, 1);
  const storage::Generation recent = Fill(second, 2);
  const int64_t cache_bytes = BlockDiskBytes(WideGeometry(), int64_t{kBlocks} * kBlockTokens);
  const int64_t used = static_cast<int64_t>(Must(store_->DiskUse()).total());
  EXPECT_GT(used, 2 * cache_bytes * 9 / 10);
  EXPECT_LT(used, 2 * cache_bytes * 11 / 10) << "an estimate is near what it becomes";
  const DiskPromise promise = *room_->Reserve(cache_bytes, "a test");
  EXPECT_EQ(ResidencyOf(old), storage::Residency::kEvicted);
  EXPECT_EQ(ResidencyOf(recent), storage::Residency::kComplete);
  EXPECT_LT(static_cast<int64_t>(Must(store_->DiskUse()).total()), used - cache_bytes * 9 / 10)
      << "the files are gone";
  EXPECT_EQ(room_->evictions().least_recently_used, 1);
  // The next one takes the other; then there is nothing left to take.
  const DiskPromise second_promise = *room_->Reserve(cache_bytes, "a test");
  EXPECT_EQ(ResidencyOf(recent), storage::Residency::kEvicted);
  EXPECT_EQ(ReasonOf(room_->Reserve(cache_bytes, "a test").status()), "DISK_CAP_EXCEEDED");
}

TEST_F(DiskRoomTest, WhatWouldNotHelpIsNotEvicted) {
  const storage::Generation generation = Fill(MakeCorpus("c", 10), 1);
  EXPECT_EQ(ReasonOf(room_->Reserve(kCap, "a test").status()), "DISK_CAP_EXCEEDED");
  EXPECT_EQ(ResidencyOf(generation), storage::Residency::kComplete);
  EXPECT_EQ(room_->Reserve(kCap / 4 * 3, "a test", [] { return true; }).status().code(),
            absl::StatusCode::kCancelled);
}

// Two corpora that share all their blocks: one of them gives nothing, both give everything.
TEST_F(DiskRoomTest, SharedPrefixesCountOnceAndGoWithTheirLastHolder) {
  const storage::Generation first = Fill(MakeCorpus("first", 10), 1);
  const storage::Generation second = Fill(MakeCorpus("second", 20), 1);
  const storage::Generation other = Fill(MakeCorpus("other", 30), 2);
  const int64_t cache_bytes = BlockDiskBytes(WideGeometry(), int64_t{kBlocks} * kBlockTokens);
  const DiskPromise promise = *room_->Reserve(cache_bytes, "a test");
  EXPECT_EQ(ResidencyOf(first), storage::Residency::kEvicted);
  EXPECT_EQ(ResidencyOf(second), storage::Residency::kEvicted);
  EXPECT_EQ(ResidencyOf(other), storage::Residency::kComplete);
}

}  // namespace
}  // namespace lectern::engine
