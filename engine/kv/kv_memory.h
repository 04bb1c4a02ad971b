// What open contexts share in memory: the layout of a block, the pool of K/V blocks, the index keys
// of open contexts, and the way to fetch from storage what is not there.
//
// The only place besides context.cc that knows how a block lies in memory. A K/V slot is one layer
// of one block:
//   [kv_head] { key tile, value tile }            tiles as kernels/block_tile/block_tile.h defines
//   them
// An index slot is one block, all sparse layers:
//   [sparse layer] key tile of index_dim          (dense layers have none)
// Stored form of both: storage/block.h. Owned by the engine's step thread; the counters may be read
// from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/kv/block_pool.h"
#include "kernels/block_tile/block_tile.h"
#include "storage/block.h"
#include "storage/block_store.h"

namespace lectern::engine {

inline constexpr int64_t kBlockTokens = kernels::kBlockTokens;
static_assert(kernels::kBlockTokens == storage::kBlockTokens,
              "memory and disk must agree on what a block is");

inline constexpr int64_t BlocksOf(int64_t tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}
// Tokens of `block` in a context of `tokens` tokens: 128 but for the last.
inline constexpr int32_t TokensInBlock(int64_t block, int64_t tokens) {
  const int64_t left = tokens - block * kBlockTokens;
  return static_cast<int32_t>(left < kBlockTokens ? left : kBlockTokens);
}

// A model's cache as it lies in memory.
class KvShape {
 public:
  explicit KvShape(const storage::Geometry& geometry);

  const storage::Geometry& geometry() const { return geometry_; }
  int layers() const { return geometry_.layers; }
  int kv_heads() const { return geometry_.kv_heads; }
  int head_dim() const { return geometry_.head_dim; }
  int index_dim() const { return geometry_.index_dim; }
  bool sparse(int layer) const { return geometry_.indexed[layer] != 0; }
  // Which of the index slot's tiles belongs to `layer`. REQUIRES: sparse(layer).
  int sparse_rank(int layer) const { return sparse_rank_[layer]; }

  int64_t kv_slot_bytes() const { return 2 * kernels::TileBytes(head_dim()) * kv_heads(); }
  // 0 for a model without sparse layers.
  int64_t index_slot_bytes() const { return kernels::TileBytes(index_dim()) * sparse_layers_; }

  kernels::Bf16* KeyTile(const BlockPool::Slot* slot, int kv_head) const;
  kernels::Bf16* ValueTile(const BlockPool::Slot* slot, int kv_head) const;
  kernels::Bf16* IndexTile(const BlockPool::Slot* slot, int layer) const;

 private:
  storage::Geometry geometry_;
  std::vector<int> sparse_rank_;
  int sparse_layers_ = 0;
};

// Bytes that one request moved, by tier.
struct TierBytes {
  int64_t disk = 0;
  int64_t memory = 0;
  int64_t device = 0;  // from the host's memory to a device's
};

// One block to have in memory: the lineage that stores it and the tokens that must be valid.
struct BlockSource {
  uint64_t lineage = 0;
  int64_t block = 0;
  int32_t tokens = 0;
};

class KvMemory {
 public:
  struct Options {
    int64_t pool_bytes = 0;
    int64_t index_bytes = 0;
  };

  // `store` must outlive this.
  KvMemory(const KvShape& shape, storage::BlockStore* store, const Options& options);

  const KvShape& shape() const { return shape_; }
  BlockPool& kv_pool() { return kv_pool_; }
  BlockPool& index_pool() { return index_pool_; }
  storage::BlockStore* store() { return store_; }

  // Makes as many as possible of `sources`, from the front, resident for `layer` and pins them;
  // `slots` gets one per source made resident. Fewer than all when the pool has no room: the caller
  // works with those, unpins them and asks for the rest. What is missing is read through `reader`
  // in parallel, verified, and packed.
  //   RESOURCE_EXHAUSTED POOL_FULL: not even the first fits
  //   what storage reports (DATA_LOSS, UNAVAILABLE, ...); nothing stays pinned then
  absl::Status FetchKv(const storage::ContextReader* reader, int layer,
                       std::span<const BlockSource> sources, std::vector<BlockPool::Slot*>* slots,
                       TierBytes* moved);

  // Makes the index keys of all `sources` resident and pins them, or pins nothing.
  //   RESOURCE_EXHAUSTED INDEX_MEMORY_FULL (needed_bytes, limit_bytes)
  absl::Status FetchIndex(const storage::ContextReader* reader,
                          std::span<const BlockSource> sources,
                          std::vector<BlockPool::Slot*>* slots, TierBytes* moved);

  // A lineage for blocks that storage does not know (an answer in progress).
  uint64_t NewUnstoredLineage() { return next_unstored_lineage_++; }

  int64_t disk_read_bytes() const { return disk_read_bytes_.load(std::memory_order_relaxed); }

 private:
  absl::Status ReadKv(const storage::ContextReader* reader, int layer,
                      std::span<const BlockSource> sources,
                      std::span<BlockPool::Slot* const> slots);
  absl::Status ReadIndex(const storage::ContextReader* reader, std::span<const BlockSource> sources,
                         std::span<BlockPool::Slot* const> slots);

  const KvShape shape_;
  storage::BlockStore* const store_;
  BlockPool kv_pool_;
  BlockPool index_pool_;
  uint64_t next_unstored_lineage_ = kUnstoredLineages;
  std::atomic<int64_t> disk_read_bytes_{0};
};

}  // namespace lectern::engine
