// Watches how long open contexts wait for what is stored, and whether they get it: a BlockStore in
// front of another. What is worth weighing (recompute_policy.h) is kept until it is taken.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block_store.h"

namespace lectern::engine {

// Of one context, from its opening to its end.
struct ReadReport {
  std::vector<storage::Segment> segments;
  double waited_seconds = 0;  // for reads; those at the same time counted once
  // Blocks that could not be read: an error that stayed, or no answer in time.
  std::vector<storage::Segment> failed;
};

// Thread-safe, and so are its readers.
class ReadWatch final : public storage::BlockStore {
 public:
  // `store` must outlive this, and this its readers.
  explicit ReadWatch(const storage::BlockStore* store) : store_(store) {}

  // Of contexts that are closed, since the last call: those that waited for kWorthTelling or more,
  // those with a block that could not be read, and the next on the same blocks that could.
  std::vector<ReadReport> Take();

  absl::StatusOr<std::vector<storage::Segment>> LookupPrefix(
      uint64_t tenant_uid, std::span<const storage::BlockHash> hashes) const override {
    return store_->LookupPrefix(tenant_uid, hashes);
  }
  absl::StatusOr<std::unique_ptr<storage::ContextReader>> OpenContext(
      uint64_t tenant_uid, std::span<const storage::Segment> segments, uint64_t token_count,
      const storage::Geometry& geometry) const override;
  storage::BlockCounters Counters() const override { return store_->Counters(); }

  static constexpr double kWorthTellingSeconds = 1;
  // More are dropped: the next ones tell the same.
  static constexpr size_t kMostReports = 256;

 private:
  class Reader;

  void Closed(ReadReport report) const;

  const storage::BlockStore* const store_;
  mutable std::mutex mutex_;
  mutable std::vector<ReadReport> reports_;  // guarded by mutex_
  mutable std::set<uint64_t> failing_;       // guarded by mutex_: lineages of the last failures
};

}  // namespace lectern::engine
