// The cache's tier in device memory: pages of K/V and of index keys, which of them every open
// context stands on, and the way there from the host's memory.
//
// The host's side (kv/) stays the source of truth: a page is a copy, and forgetting one loses
// nothing. A K/V page is one layer of one block, named like the slot of the host's pool, and
// evicted least recently used first. A page of index keys is one block in all sparse layers; those
// of an open context stay, others go when there is need. Contexts of any length work: what is not
// here is fetched from the host's pool or, through it, from disk.
//
// Layouts, as the kernels read them:
//   k, v          [kv pages][kv_heads][128][head_dim]
//   index keys    [sparse layers][index pages][128][index_dim]: a block has one page number
//   tables        [open contexts][1 + layers][table_stride] page numbers by block; the first is
//   that
//                 of index keys. Entries of pages that are not here may hold anything.
//
// Used by the step thread alone; Usage() may be read from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "engine/device/device_memory.h"
#include "engine/kv/block_pool.h"
#include "engine/kv/context.h"
#include "engine/kv/kv_memory.h"
#include "kernels/bf16/bf16.h"

namespace lectern::engine {

class DevicePages {
 public:
  struct Options {
    int64_t kv_pages = 0;
    int64_t index_pages = 0;
    int64_t max_blocks = 0;  // of a context
  };

  // What the tier knows of one open context.
  class Mirror;

  static constexpr int64_t kTableUnit = 64;  // tables are for so many blocks, or a multiple

  static int64_t KvPageBytes(const KvShape& shape);     // K and V
  static int64_t IndexPageBytes(const KvShape& shape);  // all sparse layers

  // Errors: DEVICE_MEMORY_FULL.
  static absl::StatusOr<std::unique_ptr<DevicePages>> Create(Device* device, const KvShape& shape,
                                                             const Options& options);
  ~DevicePages();

  // ---- a step: Begin, then for every segment Prepare, Flush, ...; then End ----
  // Uploads are made from `arena`, which stays as it is until the device is through.
  void Begin(PinnedArena* arena);

  // Makes ready to compute `rows` tokens more: the context's index keys and the pages that the new
  // tokens go to are here and stay until End. Errors: those of Context::Fetch;
  //   RESOURCE_EXHAUSTED DEVICE_POOL_FULL, DEVICE_INDEX_FULL; the step must leave the segment out
  absl::StatusOr<Mirror*> Prepare(Context* context, int32_t rows);

  // Fetches `blocks` of one layer that are not here and keeps them until Unpin, as many from the
  // front as fit. Returns how many: 0 where not even the first does. Errors: those of
  // Context::Fetch; nothing of this call is kept then.
  absl::StatusOr<size_t> Fetch(Mirror* mirror, int layer, std::span<const int32_t> blocks);
  void Unpin();

  // Brings the device's tables up to date, of one layer or all.
  absl::Status FlushTables(Mirror* mirror);
  absl::Status FlushTable(Mirror* mirror, int table);

  // The step's tokens are there in all layers.
  void CountWritten(Mirror* mirror, int64_t first_position, int32_t rows);
  void End();

  const KvShape& shape() const { return shape_; }
  kernels::Bf16* k() { return k_.get(); }
  kernels::Bf16* v() { return v_.get(); }
  kernels::Bf16* index_keys(int layer);
  int64_t available_kv_pages() const { return kv_pool_.available_slots(); }
  int64_t kv_pages() const { return kv_pool_.capacity_slots(); }
  int64_t index_pages() const { return index_pool_.capacity_slots(); }
  const int32_t* tables() const { return tables_.get(); }
  int64_t table_entries() const { return tables_.size(); }
  // Of a context's tables; `table`: 0 for index keys, 1 + layer for K/V.
  int64_t TableOffset(int context_number, int table) const {
    return (int64_t{context_number} * (1 + shape_.layers()) + table) * table_stride_;
  }
  int64_t table_stride() const { return table_stride_; }
  int64_t context_stride() const { return (1 + shape_.layers()) * table_stride_; }

  BlockPool::Usage KvUsage() const { return kv_pool_.GetUsage(); }
  BlockPool::Usage IndexUsage() const { return index_pool_.GetUsage(); }
  int64_t bytes() const { return bytes_; }

 private:
  // Tiles of the host on their way into pages. Several, so that one fills while another travels.
  struct Lane {
    std::byte* tiles = nullptr;  // pinned
    int32_t* numbers = nullptr;  // pinned
    DeviceArray<std::byte> device_tiles;
    DeviceArray<int32_t> device_numbers;
  };
  DevicePages(Device* device, const KvShape& shape, const Options& options,
              DeviceArray<kernels::Bf16> k, DeviceArray<kernels::Bf16> v,
              DeviceArray<kernels::Bf16> index);
  absl::Status Synchronize(Mirror* mirror, int64_t blocks, int64_t first_position);
  absl::Status PrepareOwn(Mirror* mirror, int64_t first_position, int32_t rows);
  absl::Status UploadIndex(Context* context, std::span<const BlockPool::Slot* const> from,
                           std::span<BlockPool::Slot* const> to);
  absl::Status UploadKv(Mirror* mirror, int layer, std::span<const int32_t> blocks,
                        std::span<BlockPool::Slot* const> to);
  // Forgets the blocks of a mirror from `known` on.
  void Truncate(Mirror* mirror, int64_t known);
  // Of slots of so many bytes.
  int64_t LaneSlots(int64_t slot_bytes) const;
  int TakeLane();
  // Tiles of `from` for the pages `to` of `pool`, on their way in a lane of their own.
  template <typename Slots>
  absl::StatusOr<const Lane*> Send(const Slots& from, std::span<BlockPool::Slot* const> to,
                                   const BlockPool& pool, int64_t slot_bytes);
  absl::Status AddContextNumbers();
  void OnKvRelease(const BlockKey& key);

  Device* const device_;
  const KvShape shape_;
  const int64_t table_stride_;
  int64_t bytes_ = 0;
  DeviceArray<kernels::Bf16> k_, v_, index_;
  BlockPool kv_pool_;     // over the addresses of k_; v_ has the same page numbers
  BlockPool index_pool_;  // over those of the first sparse layer's pages
  DeviceArray<int32_t> tables_;
  PinnedArena lane_memory_;
  Lane lanes_[Device::kMarks];
  int next_lane_ = 0;
  std::vector<int> free_numbers_;  // of contexts
  int numbers_ = 0;
  std::vector<Mirror*> mirrors_;

  PinnedArena* arena_ = nullptr;
  std::vector<BlockPool::Slot*> step_pins_;   // pages that the step writes
  std::vector<BlockPool::Slot*> fetch_pins_;  // pages that attention reads
};

class DevicePages::Mirror final : public ContextMirror {
 public:
  Mirror(DevicePages* pages, Context* context, int number);
  ~Mirror() override;
  void OnAdopt(uint64_t lineage, int64_t first, int64_t end) override;
  void OnTakeBack(int64_t end) override;

  Context* context() const { return context_; }
  int number() const { return number_; }  // among the tables
  // K/V pages of its blocks, over all layers, that are not here.
  int64_t missing() const { return missing_; }
  // REQUIRES: it is here.
  int32_t page(int table, int64_t block) const { return tables_[table].pages[block]; }

 private:
  friend class DevicePages;
  struct Table {
    std::vector<int32_t> pages;              // -1: not here
    int64_t dirty_begin = 0, dirty_end = 0;  // what the device does not know yet
  };
  void Set(int table, int64_t block, int32_t page);

  DevicePages* const pages_;
  Context* const context_;
  const int number_;
  std::vector<uint64_t> lineages_;       // the name of each block
  std::vector<BlockPool::Slot*> index_;  // pinned; of each block
  std::vector<Table> tables_;            // [1 + layers]
  int64_t missing_ = 0;
};

}  // namespace lectern::engine
