#include "engine/care/read_watch.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace lectern::engine {
namespace {

bool IsGivenUp(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

class ReadWatch::Reader final : public storage::ContextReader {
 public:
  Reader(const ReadWatch* watch, std::unique_ptr<storage::ContextReader> reader)
      : watch_(watch), reader_(std::move(reader)) {}
  ~Reader() override {
    watch_->Closed({.segments = reader_->segments(),
                    .waited_seconds = std::chrono::duration<double>(waited_).count(),
                    .failed = std::move(failed_)});
  }

  const storage::Geometry& geometry() const override { return reader_->geometry(); }
  uint64_t token_count() const override { return reader_->token_count(); }
  uint32_t block_count() const override { return reader_->block_count(); }
  const std::vector<storage::Segment>& segments() const override { return reader_->segments(); }
  absl::StatusOr<storage::BlockInfo> Block(uint32_t block) const override {
    return reader_->Block(block);
  }

  absl::Status ReadIndexKeys(uint16_t layer, uint32_t first_block, uint32_t count,
                             std::span<std::byte> out) const override {
    Begin();
    absl::Status status = reader_->ReadIndexKeys(layer, first_block, count, out);
    End();
    Judge(status, first_block, count);
    return status;
  }
  absl::Status ReadAllIndexKeys(std::span<std::byte* const> out) const override {
    Begin();
    absl::Status status = reader_->ReadAllIndexKeys(out);
    End();
    Judge(status, 0, block_count());
    return status;
  }
  absl::Status ReadKv(const storage::KvRequest& request) const override {
    Begin();
    absl::Status status = reader_->ReadKv(request);
    End();
    Judge(status, request.block, 1);
    return status;
  }
  absl::Status ReadKvBatch(std::span<const storage::KvRequest> requests,
                           std::span<absl::Status> statuses) const override {
    std::vector<absl::Status> own;
    if (statuses.empty()) {
      own.resize(requests.size());
      statuses = own;
    }
    Begin();
    absl::Status status = reader_->ReadKvBatch(requests, statuses);
    End();
    for (size_t i = 0; !status.ok() && i < requests.size(); ++i) {
      Judge(statuses[i], requests[i].block, 1);
    }
    return status;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Begin() const {
    const std::lock_guard lock(mutex_);
    if (reading_++ == 0) begin_ = Clock::now();
  }
  void End() const {
    const std::lock_guard lock(mutex_);
    if (--reading_ == 0) waited_ += Clock::now() - begin_;
  }
  void Judge(const absl::Status& status, uint32_t first_block, uint32_t count) const {
    if (!IsGivenUp(status)) return;
    const std::lock_guard lock(mutex_);
    for (const storage::Segment& segment : reader_->segments()) {
      const uint32_t first = std::max(first_block, segment.first_block);
      const uint32_t end = std::min(first_block + count, segment.end_block());
      if (first >= end) continue;
      const storage::Segment blocks = {segment.lineage, first, end - first};
      if (std::find(failed_.begin(), failed_.end(), blocks) == failed_.end()) {
        failed_.push_back(blocks);
      }
    }
  }

  const ReadWatch* const watch_;
  const std::unique_ptr<storage::ContextReader> reader_;
  mutable std::mutex mutex_;
  // All below: guarded by mutex_.
  mutable int reading_ = 0;
  mutable Clock::time_point begin_;  // since when something is being read
  mutable Clock::duration waited_{0};
  mutable std::vector<storage::Segment> failed_;
};

absl::StatusOr<std::unique_ptr<storage::ContextReader>> ReadWatch::OpenContext(
    uint64_t tenant_uid, std::span<const storage::Segment> segments, uint64_t token_count,
    const storage::Geometry& geometry) const {
  absl::StatusOr<std::unique_ptr<storage::ContextReader>> reader =
      store_->OpenContext(tenant_uid, segments, token_count, geometry);
  if (!reader.ok()) return reader.status();
  return std::make_unique<Reader>(this, *std::move(reader));
}

void ReadWatch::Closed(ReadReport report) const {
  const std::lock_guard lock(mutex_);
  bool failed_before = false;
  for (const storage::Segment& segment : report.segments) {
    failed_before |= failing_.erase(segment.lineage) > 0;
  }
  for (const storage::Segment& segment : report.failed) failing_.insert(segment.lineage);
  const bool tell =
      !report.failed.empty() || failed_before || report.waited_seconds >= kWorthTellingSeconds;
  if (tell && reports_.size() < kMostReports) reports_.push_back(std::move(report));
}

std::vector<ReadReport> ReadWatch::Take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(reports_, {});
}

}  // namespace lectern::engine
