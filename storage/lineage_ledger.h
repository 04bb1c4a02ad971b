// Lineages from reservation to purge: directory, hash map, commits in two phases. Internal to
// storage.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"
#include "storage/block_store.h"
#include "storage/records.h"
#include "storage/transaction.h"

namespace lectern::storage {

// A commit up to this size goes through the log in one synced batch; a larger one is written as
// table files. Below it two fsyncs and a manifest edit cost more than writing the bytes twice;
// above it they do not (README, measurements).
inline constexpr size_t kSmallCommitBytes = 4 << 20;

// An index run covers at most so many blocks: 8,192 tokens.
inline constexpr uint32_t kMaxRunBlocks = 64;

// Between the two phases of a commit. Holds a pin, so that the lineage is not purged under it.
struct PreparedBlocks {
  uint64_t lineage = 0;
  LineagePin pin;
  Lineage before;
  Lineage after;
  std::vector<std::pair<uint32_t, BlockRun>> runs;  // by first block
  Batch data;                                       // records that go through the log
  uint64_t kv_bytes = 0;
  uint64_t index_bytes = 0;
};

struct AtomicBlockCounters {
  std::atomic<uint64_t> hash_lookups = 0;
  std::atomic<uint64_t> hash_hits = 0;
  std::atomic<uint64_t> blocks_written = 0;
  std::atomic<uint64_t> kv_bytes_written = 0;
  std::atomic<uint64_t> index_bytes_written = 0;
  std::atomic<uint64_t> kv_bytes_read = 0;
  std::atomic<uint64_t> index_bytes_read = 0;
  std::atomic<uint64_t> verify_nanoseconds = 0;
  std::atomic<uint64_t> read_nanoseconds = 0;
  std::atomic<uint64_t> damaged_records = 0;
  std::atomic<uint64_t> read_retries = 0;
  std::atomic<uint64_t> slow_reads = 0;
  std::atomic<uint64_t> lineages_purged = 0;
};

class LineageLedger {
 public:
  explicit LineageLedger(StoreState* state) : state_(state) {}

  StoreState& state() const { return *state_; }
  AtomicBlockCounters& counters() const { return counters_; }

  // kNotFound when it is not there or being purged.
  absl::StatusOr<Lineage> LoadLive(uint64_t lineage) const;
  // The directory of blocks below end_block: runs by first block, ascending, without a gap
  // (kDataLoss otherwise).
  absl::StatusOr<std::vector<std::pair<uint32_t, BlockRun>>> LoadRuns(uint64_t lineage,
                                                                      uint32_t end_block) const;

  absl::StatusOr<std::vector<Segment>> LookupPrefix(uint64_t tenant_uid,
                                                    std::span<const BlockHash> hashes) const;

  uint64_t Reserve(Transaction* transaction, uint64_t tenant_uid, const Geometry& geometry,
                   uint32_t first_block);

  // Phase one: checks the batch, encodes it and, when it is large, writes its bulk data: durable,
  // seen by nobody.
  absl::StatusOr<PreparedBlocks> Prepare(uint64_t lineage, const BlockBatch& batch);
  // Phase two: adds what makes it visible to the transaction. `share`: full blocks enter the hash
  // map. kFailedPrecondition: the lineage changed in between.
  absl::Status Publish(Transaction* transaction, PreparedBlocks* prepared, bool share);

  // At open: data records beyond a lineage's end, left by a crash between the phases, are deleted
  // and their bytes given back. Returns how many lineages had some.
  absl::StatusOr<uint64_t> DropOrphans();

  struct PurgeReport {
    uint64_t purged = 0;
    uint64_t in_use = 0;
  };
  // Removes every purging lineage that is not pinned: directory, hash entries, data.
  absl::StatusOr<PurgeReport> PurgeUnreferenced();

 private:
  absl::Status CheckBatch(uint64_t uid, const Lineage& lineage, const BlockBatch& batch) const;
  absl::Status WriteRun(PreparedBlocks* prepared, const BlockBatch& batch, uint32_t first,
                        uint32_t count, uint64_t sequence, BulkLoad* bulk);
  absl::Status ShareHashes(Transaction* transaction, const PreparedBlocks& prepared);
  absl::StatusOr<bool> Purge(uint64_t lineage);

  StoreState* const state_;
  mutable AtomicBlockCounters counters_;
};

// The records of blocks as bytes, header and checksums included.
std::string EncodeKv(const Geometry& geometry, const BlockInput& block, uint16_t layer,
                     uint64_t sequence, std::string_view key);
// One run: blocks[i].index_keys[layer], concatenated.
std::string EncodeIndexRun(const Geometry& geometry, std::span<const BlockInput> blocks,
                           uint16_t layer, uint64_t sequence, std::string_view key);

}  // namespace lectern::storage
