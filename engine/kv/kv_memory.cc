#include "engine/kv/kv_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

// Index keys are read in runs of this many blocks: 16 MiB of scratch for d_idx = 64, long
// sequential reads.
constexpr int64_t kIndexRunBlocks = 1024;
// K/V blocks are read in batches of this many, so that scratch stays small and readers stay busy.
constexpr size_t kKvBatchBlocks = 256;

int64_t SlotsOf(int64_t bytes, int64_t slot_bytes) {
  return std::max<int64_t>(1, bytes / slot_bytes);
}

void Unpin(BlockPool* pool, std::vector<BlockPool::Slot*>* slots) {
  for (BlockPool::Slot* slot : *slots) pool->Unpin(slot);
  slots->clear();
}

}  // namespace

KvShape::KvShape(const storage::Geometry& geometry)
    : geometry_(geometry), sparse_rank_(geometry.layers, -1) {
  LECTERN_CHECK(geometry.Validate().ok());
  for (int layer = 0; layer < layers(); ++layer) {
    if (sparse(layer)) sparse_rank_[layer] = sparse_layers_++;
  }
}

Bf16* KvShape::KeyTile(const BlockPool::Slot* slot, int kv_head) const {
  return reinterpret_cast<Bf16*>(slot->data + 2 * kv_head * kernels::TileBytes(head_dim()));
}

Bf16* KvShape::ValueTile(const BlockPool::Slot* slot, int kv_head) const {
  return reinterpret_cast<Bf16*>(slot->data + (2 * kv_head + 1) * kernels::TileBytes(head_dim()));
}

Bf16* KvShape::IndexTile(const BlockPool::Slot* slot, int layer) const {
  return reinterpret_cast<Bf16*>(slot->data +
                                 sparse_rank_[layer] * kernels::TileBytes(index_dim()));
}

KvMemory::KvMemory(const KvShape& shape, storage::BlockStore* store, const Options& options)
    : shape_(shape),
      store_(store),
      kv_pool_(shape.kv_slot_bytes(), SlotsOf(options.pool_bytes, shape.kv_slot_bytes())),
      // A model without sparse layers has index slots of no content; a cache line keeps the pool's
      // arithmetic valid.
      index_pool_(std::max<int64_t>(64, shape.index_slot_bytes()),
                  SlotsOf(options.index_bytes, std::max<int64_t>(64, shape.index_slot_bytes()))) {}

absl::Status KvMemory::FetchKv(const storage::ContextReader* reader, int layer,
                               std::span<const BlockSource> sources,
                               std::vector<BlockPool::Slot*>* slots, TierBytes* moved) {
  slots->clear();
  std::vector<BlockSource> missing;
  std::vector<BlockPool::Slot*> missing_slots;
  std::vector<BlockPool::Slot*> fresh;
  for (const BlockSource& source : sources) {
    const BlockKey key{.lineage = source.lineage, .block = source.block, .layer = layer};
    BlockPool::Slot* slot = kv_pool_.Find(key);
    if (slot == nullptr) {
      slot = kv_pool_.Allocate(key);
      if (slot == nullptr) break;
      slot->tokens = 0;
      fresh.push_back(slot);
    }
    slots->push_back(slot);
    if (slot->tokens < source.tokens) {
      // New here, or a session's tail that has grown since it was read.
      missing.push_back(source);
      missing_slots.push_back(slot);
    } else {
      moved->memory += shape_.kv_slot_bytes();
    }
  }
  if (slots->empty() && !sources.empty()) {
    return Error(absl::StatusCode::kResourceExhausted, "POOL_FULL",
                 "no room for one K/V block in the block pool: ask fewer questions at once or "
                 "raise --pool_bytes");
  }
  for (size_t first = 0; first < missing.size(); first += kKvBatchBlocks) {
    const size_t count = std::min(kKvBatchBlocks, missing.size() - first);
    const absl::Status status = ReadKv(reader, layer, std::span(missing).subspan(first, count),
                                       std::span(missing_slots).subspan(first, count));
    if (!status.ok()) {
      for (BlockPool::Slot* slot : fresh) {
        if (slot->tokens == 0) {
          slots->erase(std::find(slots->begin(), slots->end(), slot));
          kv_pool_.Drop(slot);
        }
      }
      Unpin(&kv_pool_, slots);
      return status;
    }
  }
  for (const BlockSource& source : missing) {
    moved->disk += static_cast<int64_t>(shape_.geometry().KvBytes(source.tokens));
  }
  return absl::OkStatus();
}

absl::Status KvMemory::ReadKv(const storage::ContextReader* reader, int layer,
                              std::span<const BlockSource> sources,
                              std::span<BlockPool::Slot* const> slots) {
  const int dim = shape_.head_dim();
  const int64_t part = kBlockTokens * dim;  // elements of K or V of one head
  const int64_t record = 2 * part * shape_.kv_heads();
  std::vector<Bf16> scratch(static_cast<size_t>(record) * sources.size());
  std::vector<storage::KvRequest> requests(sources.size());
  for (size_t i = 0; i < sources.size(); ++i) {
    requests[i] = {
        .layer = static_cast<uint16_t>(layer),
        .block = static_cast<uint32_t>(sources[i].block),
        .out = reinterpret_cast<std::byte*>(scratch.data() + static_cast<int64_t>(i) * record)};
  }
  LECTERN_CHECK(reader != nullptr);
  if (absl::Status status = reader->ReadKvBatch(requests); !status.ok()) return status;
  int64_t bytes = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    bytes += static_cast<int64_t>(shape_.geometry().KvBytes(sources[i].tokens));
    slots[i]->tokens = sources[i].tokens;
  }
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < static_cast<int64_t>(sources.size()); ++i) {
    const kernels::TileRun run{.first = 0, .count = sources[i].tokens, .dim = dim};
    for (int head = 0; head < shape_.kv_heads(); ++head) {
      const Bf16* k = scratch.data() + i * record + 2 * head * part;
      kernels::PackKeys(run, k, dim, shape_.KeyTile(slots[i], head));
      kernels::PackValues(run, k + part, dim, shape_.ValueTile(slots[i], head));
    }
  }
  disk_read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status KvMemory::FetchIndex(const storage::ContextReader* reader,
                                  std::span<const BlockSource> sources,
                                  std::vector<BlockPool::Slot*>* slots, TierBytes* moved) {
  slots->clear();
  std::vector<BlockSource> missing;
  std::vector<BlockPool::Slot*> missing_slots;
  std::vector<BlockPool::Slot*> fresh;
  const auto fail = [&](absl::Status status) {
    for (BlockPool::Slot* slot : fresh) {
      std::erase(*slots, slot);
      index_pool_.Drop(slot);
    }
    Unpin(&index_pool_, slots);
    return status;
  };
  slots->reserve(sources.size());
  for (const BlockSource& source : sources) {
    const BlockKey key{.lineage = source.lineage, .block = source.block, .layer = 0};
    BlockPool::Slot* slot = index_pool_.Find(key);
    if (slot == nullptr) {
      slot = index_pool_.Allocate(key);
      if (slot == nullptr) {
        return fail(Error(absl::StatusCode::kResourceExhausted, "INDEX_MEMORY_FULL",
                          fmt::format("the index keys of a context of {} blocks do not fit beside "
                                      "those of the other open "
                                      "contexts: wait for answers to finish or raise --index_bytes",
                                      sources.size()),
                          {{"needed_bytes", fmt::to_string(static_cast<int64_t>(sources.size()) *
                                                           index_pool_.slot_bytes())},
                           {"limit_bytes", fmt::to_string(index_pool_.capacity_slots() *
                                                          index_pool_.slot_bytes())}}));
      }
      slot->tokens = 0;
      fresh.push_back(slot);
    }
    slots->push_back(slot);
    if (slot->tokens < source.tokens) {
      missing.push_back(source);
      missing_slots.push_back(slot);
    } else {
      moved->memory += index_pool_.slot_bytes();
    }
  }
  if (missing.empty()) return absl::OkStatus();
  if (absl::Status status = ReadIndex(reader, missing, missing_slots); !status.ok())
    return fail(status);
  for (const BlockSource& source : missing) {
    moved->disk += static_cast<int64_t>(shape_.geometry().IndexBytes(source.tokens)) *
                   shape_.geometry().IndexedLayers();
  }
  return absl::OkStatus();
}

absl::Status KvMemory::ReadIndex(const storage::ContextReader* reader,
                                 std::span<const BlockSource> sources,
                                 std::span<BlockPool::Slot* const> slots) {
  // Runs of neighbouring blocks, each read and packed by one thread for one layer.
  struct Run {
    int layer;
    size_t first;  // in sources
    size_t count;
  };
  std::vector<Run> runs;
  for (size_t first = 0; first < sources.size();) {
    size_t count = 1;
    while (first + count < sources.size() && static_cast<int64_t>(count) < kIndexRunBlocks &&
           sources[first + count].block == sources[first].block + static_cast<int64_t>(count)) {
      ++count;
    }
    for (int layer = 0; layer < shape_.layers(); ++layer) {
      if (shape_.sparse(layer)) runs.push_back({.layer = layer, .first = first, .count = count});
    }
    first += count;
  }
  // Layer by layer, as the records lie on disk.
  std::stable_sort(runs.begin(), runs.end(),
                   [](const Run& a, const Run& b) { return a.layer < b.layer; });

  const int dim = shape_.index_dim();
  std::vector<absl::Status> statuses(runs.size());
  int64_t bytes = 0;
#pragma omp parallel for schedule(dynamic) reduction(+ : bytes)
  for (int64_t r = 0; r < static_cast<int64_t>(runs.size()); ++r) {
    const Run& run = runs[r];
    int64_t tokens = 0;
    for (size_t i = run.first; i < run.first + run.count; ++i) tokens += sources[i].tokens;
    std::vector<Bf16> scratch(static_cast<size_t>(tokens) * dim);
    statuses[r] = reader->ReadIndexKeys(
        static_cast<uint16_t>(run.layer), static_cast<uint32_t>(sources[run.first].block),
        static_cast<uint32_t>(run.count), std::as_writable_bytes(std::span(scratch)));
    if (!statuses[r].ok()) continue;
    const Bf16* rows = scratch.data();
    for (size_t i = run.first; i < run.first + run.count; ++i) {
      kernels::PackKeys({.first = 0, .count = sources[i].tokens, .dim = dim}, rows, dim,
                        shape_.IndexTile(slots[i], run.layer));
      rows += int64_t{sources[i].tokens} * dim;
    }
    bytes += tokens * dim * static_cast<int64_t>(sizeof(Bf16));
  }
  for (absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  for (size_t i = 0; i < sources.size(); ++i) slots[i]->tokens = sources[i].tokens;
  disk_read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  return absl::OkStatus();
}

}  // namespace lectern::engine
