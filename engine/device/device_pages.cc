#include "engine/device/device_pages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

// Tiles under way at once, in each of two lanes.
constexpr int64_t kLaneBytes = int64_t{32} << 20;
// A slot is no smaller than this, which bounds the slots of a lane.
constexpr int64_t kLeastSlotBytes = int64_t{4} << 10;
// Contexts that get tables at a time.
constexpr int kNumbersAtOnce = 16;

int64_t KvElements(const KvShape& shape) {
  return kernels::TileElements(shape.head_dim()) * shape.kv_heads();
}

}  // namespace

// ---- what is known of a context ----

DevicePages::Mirror::Mirror(DevicePages* pages, Context* context, int number)
    : pages_(pages),
      context_(context),
      number_(number),
      tables_(static_cast<size_t>(1 + pages->shape_.layers())) {}

DevicePages::Mirror::~Mirror() {
  std::erase(pages_->mirrors_, this);
  const int64_t own = context_->own_begin();
  for (int64_t block = 0; block < static_cast<int64_t>(index_.size()); ++block) {
    // What was never committed goes with the context, as in the host's pools.
    const bool dropped = block >= own || index_[block]->key.lineage >= kUnstoredLineages;
    if (dropped) {
      for (int layer = 0; layer < pages_->shape_.layers(); ++layer) {
        BlockPool::Slot* slot =
            pages_->kv_pool_.Peek({.lineage = lineages_[block], .block = block, .layer = layer});
        if (block >= own && slot != nullptr) pages_->kv_pool_.Drop(slot);
      }
      pages_->index_pool_.Drop(index_[block]);
    } else {
      pages_->index_pool_.Unpin(index_[block]);
    }
  }
  pages_->free_numbers_.push_back(number_);
}

void DevicePages::Mirror::OnAdopt(uint64_t lineage, int64_t first, int64_t end) {
  end = std::min(end, static_cast<int64_t>(lineages_.size()));
  for (int64_t block = first; block < end; ++block) {
    if (lineages_[block] == lineage) continue;
    for (int layer = 0; layer < pages_->shape_.layers(); ++layer) {
      BlockPool::Slot* slot =
          pages_->kv_pool_.Peek({.lineage = lineages_[block], .block = block, .layer = layer});
      if (slot == nullptr) continue;
      if (!pages_->kv_pool_.Rename(slot, {.lineage = lineage, .block = block, .layer = layer})) {
        pages_->kv_pool_.Drop(slot);
      }
    }
    // Another context may have an older version in use: this one keeps its private name then.
    pages_->index_pool_.Rename(index_[block], {.lineage = lineage, .block = block, .layer = 0});
    lineages_[block] = lineage;
  }
}

void DevicePages::Mirror::OnTakeBack(int64_t end) {
  for (int64_t block = std::max(context_->own_begin(), end / kBlockTokens);
       block < static_cast<int64_t>(lineages_.size()); ++block) {
    if (lineages_[block] != context_->lineage(block)) continue;  // not of what was taken back
    const int32_t held = std::max(0, TokensInBlock(block, end));
    index_[block]->tokens = std::min(index_[block]->tokens, held);
    for (int layer = 0; layer < pages_->shape_.layers(); ++layer) {
      BlockPool::Slot* slot =
          pages_->kv_pool_.Peek({.lineage = lineages_[block], .block = block, .layer = layer});
      if (slot != nullptr) slot->tokens = std::min(slot->tokens, held);
    }
  }
}

void DevicePages::Mirror::Set(int table, int64_t block, int32_t page) {
  Table& t = tables_[table];
  int32_t& entry = t.pages[block];
  if (entry == page) return;
  if (table > 0) missing_ += (page < 0 ? 1 : 0) - (entry < 0 ? 1 : 0);
  entry = page;
  if (page < 0) return;  // nobody reads it
  if (t.dirty_begin == t.dirty_end) {
    t.dirty_begin = block;
    t.dirty_end = block + 1;
  } else {
    t.dirty_begin = std::min(t.dirty_begin, block);
    t.dirty_end = std::max(t.dirty_end, block + 1);
  }
}

// ---- the tier ----

int64_t DevicePages::KvPageBytes(const KvShape& shape) {
  return 2 * KvElements(shape) * static_cast<int64_t>(sizeof(Bf16));
}

int64_t DevicePages::IndexPageBytes(const KvShape& shape) {
  return std::max<int64_t>(64, shape.index_slot_bytes());
}

absl::StatusOr<std::unique_ptr<DevicePages>> DevicePages::Create(Device* device,
                                                                 const KvShape& shape,
                                                                 const Options& options) {
  DeviceArray<Bf16> k, v, index;
  const int64_t elements = options.kv_pages * KvElements(shape);
  LECTERN_RETURN_IF_ERROR(k.Grow(device, elements));
  LECTERN_RETURN_IF_ERROR(v.Grow(device, elements));
  const int64_t index_elements = options.index_pages * IndexPageBytes(shape) / sizeof(Bf16);
  LECTERN_RETURN_IF_ERROR(index.Grow(device, index_elements));
  auto pages = std::unique_ptr<DevicePages>(
      new DevicePages(device, shape, options, std::move(k), std::move(v), std::move(index)));
  const int64_t lane_bytes =
      std::max({kLaneBytes, shape.kv_slot_bytes(), shape.index_slot_bytes()});
  for (Lane& lane : pages->lanes_) {
    LECTERN_RETURN_IF_ERROR(lane.device_tiles.Grow(device, lane_bytes));
    LECTERN_RETURN_IF_ERROR(lane.device_numbers.Grow(device, lane_bytes / kLeastSlotBytes));
    lane.tiles = pages->lane_memory_.Take<std::byte>(lane_bytes);
    lane.numbers = pages->lane_memory_.Take<int32_t>(lane_bytes / kLeastSlotBytes);
  }
  LECTERN_RETURN_IF_ERROR(pages->AddContextNumbers());
  pages->bytes_ =
      (2 * elements + index_elements) * static_cast<int64_t>(sizeof(Bf16)) + 2 * lane_bytes;
  return pages;
}

DevicePages::DevicePages(Device* device, const KvShape& shape, const Options& options,
                         DeviceArray<Bf16> k, DeviceArray<Bf16> v, DeviceArray<Bf16> index)
    : device_(device),
      shape_(shape),
      table_stride_((options.max_blocks + kTableUnit - 1) / kTableUnit * kTableUnit),
      k_(std::move(k)),
      v_(std::move(v)),
      index_(std::move(index)),
      kv_pool_(reinterpret_cast<std::byte*>(k_.get()), KvPageBytes(shape) / 2, options.kv_pages),
      index_pool_(reinterpret_cast<std::byte*>(index_.get()),
                  std::max<int64_t>(64, kernels::TileBytes(shape.index_dim())),
                  options.index_pages),
      lane_memory_(device) {
  kv_pool_.set_on_release([this](const BlockKey& key) { OnKvRelease(key); });
}

DevicePages::~DevicePages() { LECTERN_CHECK(mirrors_.empty()); }

Bf16* DevicePages::index_keys(int layer) {
  return index_.get() +
         shape_.sparse_rank(layer) * index_pages() * kernels::TileElements(shape_.index_dim());
}

void DevicePages::OnKvRelease(const BlockKey& key) {
  for (Mirror* mirror : mirrors_) {
    if (key.block < static_cast<int64_t>(mirror->lineages_.size()) &&
        mirror->lineages_[key.block] == key.lineage) {
      mirror->Set(1 + key.layer, key.block, -1);
    }
  }
}

absl::Status DevicePages::AddContextNumbers() {
  DeviceArray<int32_t> grown;
  const int64_t entries = (numbers_ + kNumbersAtOnce) * context_stride();
  LECTERN_RETURN_IF_ERROR(grown.Grow(device_, entries));
  if (tables_.size() > 0) {
    LECTERN_RETURN_IF_ERROR(device_->WithinDevice(grown.get(), tables_.get(),
                                                  tables_.size() * int64_t{sizeof(int32_t)}));
  }
  tables_ = std::move(grown);
  for (int i = 0; i < kNumbersAtOnce; ++i) free_numbers_.push_back(numbers_++);
  return absl::OkStatus();
}

void DevicePages::Begin(PinnedArena* arena) { arena_ = arena; }

absl::StatusOr<DevicePages::Mirror*> DevicePages::Prepare(Context* context, int32_t rows) {
  const int64_t first_position = context->token_count();
  const int64_t blocks = BlocksOf(first_position + rows);
  if (blocks > table_stride_) {
    return Error(absl::StatusCode::kInvalidArgument, "CONTEXT_TOO_LONG",
                 fmt::format("a context of {} blocks is longer than the model's limit of {}",
                             blocks, table_stride_));
  }
  auto* mirror = static_cast<Mirror*>(context->mirror());
  if (mirror == nullptr) {
    if (free_numbers_.empty()) LECTERN_RETURN_IF_ERROR(AddContextNumbers());
    auto made = std::make_unique<Mirror>(this, context, free_numbers_.back());
    free_numbers_.pop_back();
    mirror = made.get();
    mirrors_.push_back(mirror);
    context->set_mirror(std::move(made));
  }
  LECTERN_RETURN_IF_ERROR(Synchronize(mirror, blocks, first_position));
  LECTERN_RETURN_IF_ERROR(PrepareOwn(mirror, first_position, rows));
  return mirror;
}

// The blocks that the mirror does not know yet, or by another name: their index keys come here, and
// of their K/V what is here is found.
absl::Status DevicePages::Synchronize(Mirror* mirror, int64_t blocks, int64_t first_position) {
  Context* const context = mirror->context_;
  // Only the tail changes its name: by a copy on write.
  int64_t known = static_cast<int64_t>(mirror->lineages_.size());
  while (known > 0 && mirror->lineages_[known - 1] != context->lineage(known - 1)) --known;
  Truncate(mirror, known);

  std::vector<const BlockPool::Slot*> from;
  std::vector<BlockPool::Slot*> to;
  for (int64_t block = known; block < blocks; ++block) {
    const uint64_t lineage = context->lineage(block);
    const int32_t tokens = static_cast<int32_t>(
        std::clamp<int64_t>(first_position - block * kBlockTokens, 0, kBlockTokens));
    const BlockKey key{.lineage = lineage, .block = block, .layer = 0};
    BlockPool::Slot* index = index_pool_.Find(key);
    if (index == nullptr) {
      index = index_pool_.Allocate(key);
      if (index == nullptr) {
        Truncate(mirror, known);
        return Error(
            absl::StatusCode::kResourceExhausted, "DEVICE_INDEX_FULL",
            fmt::format("the index keys of a context of {} blocks do not fit on the device "
                        "beside those of the other open contexts: wait for answers to "
                        "finish or raise --device_memory",
                        blocks));
      }
      index->tokens = 0;
    }
    mirror->lineages_.push_back(lineage);
    mirror->index_.push_back(index);
    for (Mirror::Table& table : mirror->tables_) table.pages.push_back(-1);
    mirror->missing_ += shape_.layers();
    mirror->Set(0, block, static_cast<int32_t>(index_pool_.IndexOf(index)));
    if (index->tokens < tokens) {
      from.push_back(context->index_slots()[block]);
      to.push_back(index);
    }
    for (int layer = 0; layer < shape_.layers(); ++layer) {
      BlockPool::Slot* slot = kv_pool_.Peek({.lineage = lineage, .block = block, .layer = layer});
      if (slot == nullptr || slot->tokens < tokens) continue;
      mirror->Set(1 + layer, block, static_cast<int32_t>(kv_pool_.IndexOf(slot)));
      // Of interest again.
      kv_pool_.Pin(slot);
      kv_pool_.Unpin(slot);
    }
  }
  if (absl::Status status = UploadIndex(context, from, to); !status.ok()) {
    Truncate(mirror, known);
    return status;
  }
  for (size_t i = 0; i < to.size(); ++i) {
    to[i]->tokens = std::max(to[i]->tokens, from[i]->tokens);
  }
  return absl::OkStatus();
}

void DevicePages::Truncate(Mirror* mirror, int64_t known) {
  for (int64_t block = known; block < static_cast<int64_t>(mirror->index_.size()); ++block) {
    index_pool_.Unpin(mirror->index_[block]);
    for (int table = 1; table <= shape_.layers(); ++table) mirror->Set(table, block, -1);
    mirror->missing_ -= shape_.layers();
  }
  mirror->lineages_.resize(static_cast<size_t>(known));
  mirror->index_.resize(static_cast<size_t>(known));
  for (Mirror::Table& table : mirror->tables_) {
    table.pages.resize(static_cast<size_t>(known));
    table.dirty_end = std::min(table.dirty_end, known);
    table.dirty_begin = std::min(table.dirty_begin, table.dirty_end);
  }
}

// The pages that the step's tokens go to; what the first of them holds before these is brought
// here.
absl::Status DevicePages::PrepareOwn(Mirror* mirror, int64_t first_position, int32_t rows) {
  const int64_t first = first_position / kBlockTokens;
  const int64_t end = BlocksOf(first_position + rows);
  const int32_t held = static_cast<int32_t>(first_position % kBlockTokens);
  for (int layer = 0; layer < shape_.layers(); ++layer) {
    for (int64_t block = first; block < end; ++block) {
      const BlockKey key{.lineage = mirror->lineages_[block], .block = block, .layer = layer};
      BlockPool::Slot* slot = kv_pool_.Find(key);
      if (slot == nullptr) {
        slot = kv_pool_.Allocate(key);
        if (slot == nullptr) {
          return Error(absl::StatusCode::kResourceExhausted, "DEVICE_POOL_FULL",
                       "the device has no room for the blocks of this step: ask fewer questions at "
                       "once or raise --device_memory");
        }
        slot->tokens = 0;
      }
      step_pins_.push_back(slot);
      if (block == first && slot->tokens < held) {
        const int32_t number = static_cast<int32_t>(block);
        LECTERN_RETURN_IF_ERROR(
            UploadKv(mirror, layer, std::span(&number, 1), std::span(&slot, 1)));
        slot->tokens = held;
      }
      mirror->Set(1 + layer, block, static_cast<int32_t>(kv_pool_.IndexOf(slot)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> DevicePages::Fetch(Mirror* mirror, int layer,
                                          std::span<const int32_t> blocks) {
  const int64_t position = mirror->context_->token_count();
  const size_t pins_before = fetch_pins_.size();
  std::vector<int32_t> missing;
  std::vector<BlockPool::Slot*> to;
  size_t fetched = 0;
  for (; fetched < blocks.size(); ++fetched) {
    const int32_t block = blocks[fetched];
    const BlockKey key{.lineage = mirror->lineages_[block], .block = block, .layer = layer};
    BlockPool::Slot* slot = kv_pool_.Find(key);
    if (slot == nullptr) {
      slot = kv_pool_.Allocate(key);
      if (slot == nullptr) break;
      slot->tokens = 0;
    }
    fetch_pins_.push_back(slot);
    const int32_t tokens = static_cast<int32_t>(
        std::clamp<int64_t>(position - int64_t{block} * kBlockTokens, 0, kBlockTokens));
    if (slot->tokens < tokens) {
      missing.push_back(block);
      to.push_back(slot);
    }
    mirror->Set(1 + layer, block, static_cast<int32_t>(kv_pool_.IndexOf(slot)));
  }
  if (missing.empty()) return fetched;
  if (absl::Status status = UploadKv(mirror, layer, missing, to); !status.ok()) {
    for (size_t i = pins_before; i < fetch_pins_.size(); ++i) kv_pool_.Unpin(fetch_pins_[i]);
    fetch_pins_.resize(pins_before);
    for (BlockPool::Slot* slot : to) {
      if (slot->pins == 0) kv_pool_.Drop(slot);
    }
    return status;
  }
  for (size_t i = 0; i < missing.size(); ++i) {
    to[i]->tokens = TokensInBlock(missing[i], position);
  }
  return fetched;
}

void DevicePages::Unpin() {
  for (BlockPool::Slot* slot : fetch_pins_) kv_pool_.Unpin(slot);
  fetch_pins_.clear();
}

int64_t DevicePages::LaneSlots(int64_t slot_bytes) const {
  return lanes_[0].device_tiles.size() / std::max(slot_bytes, kLeastSlotBytes);
}

int DevicePages::TakeLane() {
  const int lane = next_lane_;
  next_lane_ = (next_lane_ + 1) % Device::kMarks;
  return lane;
}

template <typename Slots>
absl::StatusOr<const DevicePages::Lane*> DevicePages::Send(const Slots& from,
                                                           std::span<BlockPool::Slot* const> to,
                                                           const BlockPool& pool,
                                                           int64_t slot_bytes) {
  const int number = TakeLane();
  Lane* const lane = &lanes_[number];
  LECTERN_RETURN_IF_ERROR(device_->WaitMark(number));
  const int64_t count = static_cast<int64_t>(to.size());
#pragma omp parallel for schedule(static) if (count > 16)
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(lane->tiles + i * slot_bytes, from[i]->data, static_cast<size_t>(slot_bytes));
    lane->numbers[i] = static_cast<int32_t>(pool.IndexOf(to[i]));
  }
  LECTERN_RETURN_IF_ERROR(
      device_->ToDevice(lane->device_tiles.get(), lane->tiles, count * slot_bytes));
  LECTERN_RETURN_IF_ERROR(device_->ToDevice(lane->device_numbers.get(), lane->numbers,
                                            count * int64_t{sizeof(int32_t)}));
  LECTERN_RETURN_IF_ERROR(device_->Mark(number));
  return lane;
}

absl::Status DevicePages::UploadIndex(Context* context,
                                      std::span<const BlockPool::Slot* const> from,
                                      std::span<BlockPool::Slot* const> to) {
  const int64_t slot_bytes = shape_.index_slot_bytes();
  if (slot_bytes == 0) return absl::OkStatus();
  const size_t most = static_cast<size_t>(LaneSlots(slot_bytes));
  for (size_t first = 0; first < from.size(); first += most) {
    const int64_t count = static_cast<int64_t>(std::min(most, from.size() - first));
    LECTERN_ASSIGN_OR_RETURN(
        const Lane* const lane,
        Send(from.subspan(first), to.subspan(first, static_cast<size_t>(count)), index_pool_,
             slot_bytes));
    LECTERN_RETURN_IF_ERROR(device_->CopyIndexPages(
        {.tiles = reinterpret_cast<Bf16*>(lane->device_tiles.get()),
         .block_stride = slot_bytes / static_cast<int64_t>(sizeof(Bf16)),
         .keys = index_.get(),
         .layer_stride = index_pages() * kernels::TileElements(shape_.index_dim()),
         .places = nullptr,
         .pages = lane->device_numbers.get(),
         .blocks = static_cast<int32_t>(count),
         .layers = static_cast<int32_t>(shape_.geometry().IndexedLayers()),
         .dim = shape_.index_dim(),
         .direction = kernels::CopyPages::kTilesToPages}));
    context->AddMovedToDevice(count * slot_bytes);
  }
  return absl::OkStatus();
}

absl::Status DevicePages::UploadKv(Mirror* mirror, int layer, std::span<const int32_t> blocks,
                                   std::span<BlockPool::Slot* const> to) {
  Context* const context = mirror->context_;
  const int64_t slot_bytes = shape_.kv_slot_bytes();
  const size_t most = static_cast<size_t>(LaneSlots(slot_bytes));
  Context::Pinned pinned(&context->kv_pool());
  for (size_t done = 0; done < blocks.size();) {
    LECTERN_RETURN_IF_ERROR(
        context->Fetch(layer, blocks.subspan(done, std::min(most, blocks.size() - done)), &pinned));
    const int64_t count = static_cast<int64_t>(pinned.size());
    LECTERN_ASSIGN_OR_RETURN(
        const Lane* const lane,
        Send(pinned, to.subspan(done, static_cast<size_t>(count)), kv_pool_, slot_bytes));
    LECTERN_RETURN_IF_ERROR(
        device_->CopyKvPages({.tiles = reinterpret_cast<Bf16*>(lane->device_tiles.get()),
                              .block_stride = slot_bytes / static_cast<int64_t>(sizeof(Bf16)),
                              .k = k_.get(),
                              .v = v_.get(),
                              .places = nullptr,
                              .pages = lane->device_numbers.get(),
                              .blocks = static_cast<int32_t>(count),
                              .kv_heads = shape_.kv_heads(),
                              .dim = shape_.head_dim(),
                              .direction = kernels::CopyPages::kTilesToPages}));
    context->AddMovedToDevice(count * slot_bytes);
    done += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

absl::Status DevicePages::FlushTable(Mirror* mirror, int table) {
  Mirror::Table& t = mirror->tables_[table];
  const int64_t count = t.dirty_end - t.dirty_begin;
  if (count == 0) return absl::OkStatus();
  auto* entries = arena_->Take<int32_t>(count);
  std::copy_n(t.pages.begin() + t.dirty_begin, count, entries);
  const int64_t at = TableOffset(mirror->number_, table) + t.dirty_begin;
  t.dirty_begin = t.dirty_end = 0;
  return device_->ToDevice(tables_.get() + at, entries, count * int64_t{sizeof(int32_t)});
}

absl::Status DevicePages::FlushTables(Mirror* mirror) {
  for (int table = 0; table <= shape_.layers(); ++table) {
    LECTERN_RETURN_IF_ERROR(FlushTable(mirror, table));
  }
  return absl::OkStatus();
}

void DevicePages::CountWritten(Mirror* mirror, int64_t first_position, int32_t rows) {
  const int64_t end = first_position + rows;
  for (int64_t block = first_position / kBlockTokens; block < BlocksOf(end); ++block) {
    const int32_t tokens = TokensInBlock(block, end);
    mirror->index_[block]->tokens = std::max(mirror->index_[block]->tokens, tokens);
    for (int layer = 0; layer < shape_.layers(); ++layer) {
      BlockPool::Slot* slot =
          kv_pool_.Peek({.lineage = mirror->lineages_[block], .block = block, .layer = layer});
      slot->tokens = std::max(slot->tokens, tokens);
    }
  }
}

void DevicePages::End() {
  Unpin();
  for (BlockPool::Slot* slot : step_pins_) kv_pool_.Unpin(slot);
  step_pins_.clear();
  arena_ = nullptr;
}

}  // namespace lectern::engine
