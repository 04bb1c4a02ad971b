// What is told of contexts that wait for the disk, and what is made of it.
#include "engine/care/read_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/care/recompute_policy.h"

namespace lectern::engine {
namespace {

using storage::Segment;

// Reads take as long as `pause`, and end as `status` says for blocks from `bad_from` on.
struct Disk {
  std::chrono::milliseconds pause{0};
  absl::Status status;
  uint32_t bad_from = 0;
};

class FakeReader final : public storage::ContextReader {
 public:
  FakeReader(const Disk* disk, std::vector<Segment> segments)
      : disk_(disk), segments_(std::move(segments)) {}

  const storage::Geometry& geometry() const override { return geometry_; }
  uint64_t token_count() const override { return block_count() * storage::kBlockTokens; }
  uint32_t block_count() const override { return segments_.back().end_block(); }
  const std::vector<Segment>& segments() const override { return segments_; }
  absl::StatusOr<storage::BlockInfo> Block(uint32_t) const override {
    return absl::UnimplementedError("not asked for");
  }
  absl::Status ReadIndexKeys(uint16_t, uint32_t first_block, uint32_t count,
                             std::span<std::byte>) const override {
    return Read(first_block + count - 1);
  }
  absl::Status ReadAllIndexKeys(std::span<std::byte* const>) const override {
    return Read(block_count() - 1);
  }
  absl::Status ReadKv(const storage::KvRequest& request) const override {
    return Read(request.block);
  }
  absl::Status ReadKvBatch(std::span<const storage::KvRequest> requests,
                           std::span<absl::Status> statuses) const override {
    absl::Status first;
    for (size_t i = 0; i < requests.size(); ++i) {
      statuses[i] = Read(requests[i].block);
      if (first.ok()) first = statuses[i];
    }
    return first;
  }

 private:
  absl::Status Read(uint32_t last_block) const {
    std::this_thread::sleep_for(disk_->pause);
    return last_block >= disk_->bad_from ? disk_->status : absl::OkStatus();
  }

  const Disk* const disk_;
  const std::vector<Segment> segments_;
  storage::Geometry geometry_;
};

class FakeBlocks final : public storage::BlockStore {
 public:
  explicit FakeBlocks(const Disk* disk) : disk_(disk) {}
  absl::StatusOr<std::vector<Segment>> LookupPrefix(
      uint64_t, std::span<const storage::BlockHash>) const override {
    return std::vector<Segment>{{9, 0, 1}};
  }
  absl::StatusOr<std::unique_ptr<storage::ContextReader>> OpenContext(
      uint64_t, std::span<const Segment> segments, uint64_t,
      const storage::Geometry&) const override {
    if (segments.empty()) return absl::NotFoundError("gone");
    return std::make_unique<FakeReader>(disk_,
                                        std::vector<Segment>(segments.begin(), segments.end()));
  }
  storage::BlockCounters Counters() const override { return {.hash_lookups = 7}; }

 private:
  const Disk* const disk_;
};

class ReadWatchTest : public ::testing::Test {
 protected:
  std::unique_ptr<storage::ContextReader> Open() {
    auto reader = watch_.OpenContext(1, segments_, 0, {});
    EXPECT_TRUE(reader.ok());
    return *std::move(reader);
  }

  Disk disk_;
  FakeBlocks blocks_{&disk_};
  ReadWatch watch_{&blocks_};
  // Two lineages, of four blocks and of two.
  const std::vector<Segment> segments_ = {{5, 0, 4}, {6, 4, 2}};
};

TEST_F(ReadWatchTest, WhatIsQuickAndWholeIsNotWorthTelling) {
  EXPECT_EQ(watch_.Counters().hash_lookups, 7u);
  EXPECT_EQ(watch_.LookupPrefix(1, {})->front().lineage, 9u);
  EXPECT_TRUE(absl::IsNotFound(watch_.OpenContext(1, {}, 0, {}).status()));
  auto reader = Open();
  EXPECT_TRUE(reader->ReadKv({.block = 3}).ok());
  EXPECT_TRUE(reader->ReadAllIndexKeys({}).ok());
  reader.reset();
  EXPECT_TRUE(watch_.Take().empty());
}

TEST_F(ReadWatchTest, ReadsAtTheSameTimeAreWaitedForOnce) {
  disk_.pause = std::chrono::milliseconds(1200);
  {
    const auto reader = Open();
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] { EXPECT_TRUE(reader->ReadIndexKeys(0, 0, 1, {}).ok()); });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(watch_.Take().empty()) << "it is told when the context is closed";
  }
  const auto reports = watch_.Take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_GE(reports[0].waited_seconds, 1.2);
  EXPECT_LT(reports[0].waited_seconds, 8 * 1.2) << "eight reads, not one after the other";
  EXPECT_TRUE(reports[0].failed.empty());
  EXPECT_EQ(reports[0].segments, segments_);
  EXPECT_TRUE(watch_.Take().empty()) << "and once";
}

TEST_F(ReadWatchTest, BlocksThatCannotBeReadAreNamedByTheLineageThatHasThem) {
  disk_.bad_from = 3;
  disk_.status = absl::DeadlineExceededError("no answer");
  {
    const auto reader = Open();
    const storage::KvRequest requests[] = {{.block = 1}, {.block = 3}, {.block = 5}, {.block = 3}};
    EXPECT_TRUE(absl::IsDeadlineExceeded(reader->ReadKvBatch(requests)));
  }
  EXPECT_THAT(watch_.Take()[0].failed, ::testing::ElementsAre(Segment{5, 3, 1}, Segment{6, 5, 1}));
  disk_.status = absl::UnavailableError("input/output error");
  EXPECT_TRUE(absl::IsUnavailable(Open()->ReadIndexKeys(0, 2, 3, {})));
  EXPECT_THAT(watch_.Take()[0].failed, ::testing::ElementsAre(Segment{5, 2, 2}, Segment{6, 4, 1}));
  // Damage is told elsewhere. That the blocks were read is told, since they could not be before.
  disk_.status = absl::DataLossError("checksum");
  EXPECT_TRUE(absl::IsDataLoss(Open()->ReadKv({.block = 4})));
  EXPECT_TRUE(watch_.Take()[0].failed.empty());
  disk_.status = absl::OkStatus();
  EXPECT_TRUE(Open()->ReadKv({.block = 4}).ok());
  EXPECT_TRUE(watch_.Take().empty());
}

TEST_F(ReadWatchTest, WhatNobodyTakesDoesNotGrow) {
  disk_.status = absl::UnavailableError("input/output error");
  for (size_t i = 0; i < ReadWatch::kMostReports + 10; ++i) {
    EXPECT_FALSE(Open()->ReadKv({.block = 0}).ok());
  }
  EXPECT_EQ(watch_.Take().size(), ReadWatch::kMostReports);
}

TEST(RecomputePolicy, IsDecidedByWhatWasMeasured) {
  constexpr int64_t kTokens = 10'000;
  constexpr double kRate = 2'000;  // 5 s to prefill again
  EXPECT_EQ(Weigh(9.9, 0, kTokens, kRate), Recompute::kNo);
  EXPECT_EQ(Weigh(10.1, 0, kTokens, kRate), Recompute::kSlow);
  EXPECT_EQ(Weigh(10.1, 0, 2 * kTokens, kRate), Recompute::kNo);
  EXPECT_EQ(Weigh(1e6, 0, kTokens, 0), Recompute::kNo) << "nothing was measured";
  EXPECT_EQ(Weigh(0.5, kUnreadableAfter - 1, kTokens, kRate), Recompute::kNo);
  EXPECT_EQ(Weigh(0.5, kUnreadableAfter, kTokens, 0), Recompute::kUnreadable);
}

}  // namespace
}  // namespace lectern::engine
