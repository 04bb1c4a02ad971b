// One token sequence, open: the blocks it stands on, its resident index keys, and the tail that is
// being written.
//
// A context opens on stored segments (a generation's, a session's) and is extended copy-on-write:
// blocks from the first one that is not stored whole on live in a lineage of its own, invisible to
// everybody else until the caller commits them to storage and calls Adopt. Dropping a context drops
// what was not committed. Used by the step thread alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/kv_memory.h"
#include "kernels/bf16/bf16.h"
#include "storage/block.h"

namespace lectern::engine {

// What a backend keeps of an open context beside the host's memory. Goes with the context, before
// anything of it does.
class ContextMirror {
 public:
  virtual ~ContextMirror() = default;
  // The own blocks [first, end) are called by another lineage from now on.
  virtual void OnAdopt(uint64_t lineage, int64_t first, int64_t end) = 0;
  // The tokens from `end` on were taken back: the blocks that held them hold no more than those
  // before.
  virtual void OnTakeBack(int64_t end) = 0;
};

class Context {
 public:
  // Opens the first `token_count` tokens of `segments` (ascending, without gaps, from block 0,
  // exactly BlocksOf(token_count) blocks). Reads the index keys that are not resident, nothing of
  // the K/V. The tail goes to `own_lineage`: that of an ingest, or an unstored one. Errors: those
  // of storage::BlockStore::OpenContext and of KvMemory::FetchIndex. REQUIRES: `memory` outlives
  // the context.
  static absl::StatusOr<std::unique_ptr<Context>> Open(KvMemory* memory, uint64_t tenant_uid,
                                                       std::vector<storage::Segment> segments,
                                                       int64_t token_count, uint64_t own_lineage);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Tokens whose K/V are complete in every layer; the next one to be computed has this position.
  int64_t token_count() const { return token_count_; }
  // Tokens that were there at Open.
  int64_t opened_tokens() const { return opened_tokens_; }

  // Makes room for `tokens` more; the first time, a partial last block is copied into the own
  // lineage.
  //   RESOURCE_EXHAUSTED POOL_FULL / INDEX_MEMORY_FULL; the context stays as it was
  absl::Status Reserve(int64_t tokens);

  // Stores one layer's projections of `count` tokens from `first_position` on: k, v
  // [count][kv_heads * head_dim], index_k [count][index_dim] (null in a dense layer); strides in
  // elements. REQUIRES: reserved.
  struct Rows {
    int64_t first_position = 0;
    int32_t count = 0;
    const kernels::Bf16* k = nullptr;
    int64_t k_stride = 0;
    const kernels::Bf16* v = nullptr;
    int64_t v_stride = 0;
    const kernels::Bf16* index_k = nullptr;
    int64_t index_k_stride = 0;
  };
  void Write(int layer, const Rows& rows);
  // Of all layers at once, in parallel: [layers], the same tokens in each.
  void WriteLayers(std::span<const Rows> layers);

  // Declares `tokens` more tokens complete (a step has written every layer).
  void Advance(int64_t tokens) { token_count_ += tokens; }

  // Takes the last `tokens` back, and what a failed step left behind them, as if they had never
  // been computed; their room stays reserved. REQUIRES: none of them was there at Open, or adopted
  // since.
  void TakeBack(int64_t tokens);

  // Key tiles of the index branch, [blocks up to the reserved end]. Valid until the next Reserve.
  const kernels::Bf16* const* IndexTiles(int layer) const;
  // The same blocks as the pool has them, pinned.
  std::span<BlockPool::Slot* const> index_slots() const { return index_slots_; }
  int64_t reserved_blocks() const { return static_cast<int64_t>(index_slots_.size()); }

  // The prefix-chain hash of a stored block. REQUIRES: block < own_begin(). Errors: storage's.
  absl::StatusOr<storage::BlockHash> StoredHash(int64_t block);

  // Blocks fetched for one layer; unpins when it goes.
  class Pinned {
   public:
    explicit Pinned(BlockPool* pool) : pool_(pool) {}
    ~Pinned() { Release(); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    void Release();
    size_t size() const { return slots_.size(); }
    const BlockPool::Slot* operator[](size_t i) const { return slots_[i]; }

   private:
    friend class Context;
    BlockPool* pool_;
    std::vector<BlockPool::Slot*> slots_;
  };

  // Pins `blocks` (ascending) of one layer, as many from the front as the pool can hold at once, at
  // least one. Errors: those of KvMemory::FetchKv. What it moved adds to moved().
  absl::Status Fetch(int layer, std::span<const int32_t> blocks, Pinned* pinned);

  const TierBytes& moved() const { return moved_; }
  void AddMovedToDevice(int64_t bytes) { moved_.device += bytes; }
  const KvShape& shape() const { return memory_->shape(); }
  const KvMemory* memory() const { return memory_; }
  // The name under which a block lies in the pools now. REQUIRES: block < reserved_blocks().
  uint64_t lineage(int64_t block) const {
    return block < own_begin_ ? lineages_[block] : own_lineage_;
  }

  ContextMirror* mirror() const { return mirror_.get(); }
  void set_mirror(std::unique_ptr<ContextMirror> mirror) { mirror_ = std::move(mirror); }
  BlockPool& kv_pool() { return memory_->kv_pool(); }

  // First block that storage does not have.
  int64_t own_begin() const { return own_begin_; }

  // The blocks [own_begin(), end) in stored form, ready for storage::BlockStore. The buffers live
  // as long as the object.
  class StoredBlocks {
   public:
    std::span<const storage::BlockInput> inputs() const { return inputs_; }
    std::span<storage::BlockInput> inputs() { return inputs_; }

   private:
    friend class Context;
    std::vector<storage::BlockInput> inputs_;
    std::vector<const std::byte*> pointers_;
    std::vector<std::byte> bytes_;
  };
  StoredBlocks Export(int64_t end) const;

  // Blocks up to `end` are in storage now, those of the own lineage under the name `lineage`: they
  // become evictable and visible to others. Nothing that was adopted may be written again through
  // this context. REQUIRES: own_begin() <= end.
  void Adopt(uint64_t lineage, int64_t end);

 private:
  struct OwnBlock {
    std::vector<BlockPool::Slot*> kv;  // [layers], pinned and dirty
  };

  Context(KvMemory* memory, uint64_t tenant_uid, uint64_t own_lineage)
      : memory_(memory), tenant_uid_(tenant_uid), own_lineage_(own_lineage) {}
  int64_t end_block() const { return own_begin_ + static_cast<int64_t>(own_.size()); }
  BlockSource Source(int64_t block) const;
  absl::Status EnsureReader(int64_t block);
  absl::Status AddOwnBlock();
  absl::Status CopyTail();
  void PointAtIndex();
  void Pack(int layer, const Rows& rows);
  void CountWritten(const Rows& rows);

  KvMemory* const memory_;
  const uint64_t tenant_uid_;
  const uint64_t own_lineage_;
  std::vector<storage::Segment> segments_;          // what is stored, [0, own_begin_)
  std::vector<uint64_t> lineages_;                  // of each of those blocks
  std::unique_ptr<storage::ContextReader> reader_;  // of a prefix of them; may lag behind Adopt
  int64_t token_count_ = 0;
  int64_t opened_tokens_ = 0;
  int64_t own_begin_ = 0;
  std::vector<OwnBlock> own_;                  // blocks own_begin_ ..., not yet adopted
  std::vector<BlockPool::Slot*> index_slots_;  // [reserved blocks], pinned
  std::vector<std::vector<const kernels::Bf16*>> index_tiles_;  // [sparse layers][reserved blocks]
  TierBytes moved_;
  std::unique_ptr<ContextMirror> mirror_;
};

}  // namespace lectern::engine
