#include "engine/kv/context.h"

#include <algorithm>
#include <cstring>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {

using kernels::Bf16;

absl::StatusOr<std::unique_ptr<Context>> Context::Open(KvMemory* memory, uint64_t tenant_uid,
                                                       std::vector<storage::Segment> segments,
                                                       int64_t token_count, uint64_t own_lineage) {
  auto context = std::unique_ptr<Context>(new Context(memory, tenant_uid, own_lineage));
  context->segments_ = std::move(segments);
  context->token_count_ = context->opened_tokens_ = token_count;
  for (const storage::Segment& segment : context->segments_) {
    context->lineages_.insert(context->lineages_.end(), segment.block_count, segment.lineage);
  }
  context->own_begin_ = static_cast<int64_t>(context->lineages_.size());
  LECTERN_CHECK(context->own_begin_ == BlocksOf(token_count));
  context->index_tiles_.resize(static_cast<size_t>(memory->shape().geometry().IndexedLayers()));
  if (token_count > 0) {
    LECTERN_RETURN_IF_ERROR(context->EnsureReader(context->own_begin_ - 1));
    std::vector<BlockSource> sources;
    sources.reserve(static_cast<size_t>(context->own_begin_));
    for (int64_t block = 0; block < context->own_begin_; ++block)
      sources.push_back(context->Source(block));
    LECTERN_RETURN_IF_ERROR(memory->FetchIndex(context->reader_.get(), sources,
                                               &context->index_slots_, &context->moved_));
    context->PointAtIndex();
  }
  return context;
}

Context::~Context() {
  mirror_.reset();
  for (OwnBlock& block : own_) {
    for (BlockPool::Slot* slot : block.kv) memory_->kv_pool().Drop(slot);
  }
  const size_t stored = static_cast<size_t>(std::min<int64_t>(own_begin_, index_slots_.size()));
  for (size_t i = 0; i < index_slots_.size(); ++i) {
    if (i < stored) {
      memory_->index_pool().Unpin(index_slots_[i]);
    } else {
      memory_->index_pool().Drop(index_slots_[i]);
    }
  }
}

BlockSource Context::Source(int64_t block) const {
  return {
      .lineage = lineages_[block], .block = block, .tokens = TokensInBlock(block, token_count_)};
}

absl::Status Context::EnsureReader(int64_t block) {
  if (reader_ != nullptr && block < int64_t{reader_->block_count()}) return absl::OkStatus();
  // A reader shows what there was when it was opened; blocks adopted since need a new one.
  const int64_t tokens = std::min(token_count_, own_begin_ * kBlockTokens);
  auto reader = memory_->store()->OpenContext(tenant_uid_, segments_, static_cast<uint64_t>(tokens),
                                              memory_->shape().geometry());
  if (!reader.ok()) return reader.status();
  reader_ = *std::move(reader);
  return absl::OkStatus();
}

absl::Status Context::Reserve(int64_t tokens) {
  if (tokens == 0) return absl::OkStatus();
  const int64_t end = BlocksOf(token_count_ + tokens);
  if (own_.empty() && token_count_ % kBlockTokens != 0) LECTERN_RETURN_IF_ERROR(CopyTail());
  while (end_block() < end) LECTERN_RETURN_IF_ERROR(AddOwnBlock());
  PointAtIndex();
  return absl::OkStatus();
}

absl::Status Context::AddOwnBlock() {
  const int64_t block = end_block();
  BlockPool::Slot* index =
      memory_->index_pool().Allocate({.lineage = own_lineage_, .block = block, .layer = 0});
  if (index == nullptr) {
    return Error(absl::StatusCode::kResourceExhausted, "INDEX_MEMORY_FULL",
                 "no memory is left for another block of index keys: wait for answers to finish or "
                 "raise --index_bytes");
  }
  OwnBlock own;
  for (int layer = 0; layer < memory_->shape().layers(); ++layer) {
    BlockPool::Slot* slot =
        memory_->kv_pool().Allocate({.lineage = own_lineage_, .block = block, .layer = layer});
    if (slot == nullptr) {
      for (BlockPool::Slot* taken : own.kv) memory_->kv_pool().Drop(taken);
      memory_->index_pool().Drop(index);
      return Error(absl::StatusCode::kResourceExhausted, "POOL_FULL",
                   "no room for another block in the block pool: ask fewer questions at once or "
                   "raise --pool_bytes");
    }
    memory_->kv_pool().SetDirty(slot, true);
    own.kv.push_back(slot);
  }
  own_.push_back(std::move(own));
  index_slots_.push_back(index);
  return absl::OkStatus();
}

// Copy on write: the tokens of the partial last block, in all layers, into a block of the own
// lineage.
absl::Status Context::CopyTail() {
  const KvShape& shape = memory_->shape();
  const int64_t block = own_begin_ - 1;
  const BlockSource source = Source(block);
  std::vector<int32_t> blocks = {static_cast<int32_t>(block)};
  // Read everything before anything changes.
  std::vector<std::unique_ptr<Pinned>> base;
  for (int layer = 0; layer < shape.layers(); ++layer) {
    base.push_back(std::make_unique<Pinned>(&memory_->kv_pool()));
    LECTERN_RETURN_IF_ERROR(Fetch(layer, blocks, base.back().get()));
  }
  BlockPool::Slot* base_index = index_slots_.back();
  index_slots_.pop_back();
  const uint64_t base_lineage = lineages_.back();
  lineages_.pop_back();
  --own_begin_;
  if (absl::Status status = AddOwnBlock(); !status.ok()) {
    ++own_begin_;
    lineages_.push_back(base_lineage);
    index_slots_.push_back(base_index);
    return status;
  }
  if (--segments_.back().block_count == 0) segments_.pop_back();
  OwnBlock& own = own_.back();
  for (int layer = 0; layer < shape.layers(); ++layer) {
    std::memcpy(own.kv[layer]->data, (*base[layer])[0]->data,
                static_cast<size_t>(shape.kv_slot_bytes()));
    own.kv[layer]->tokens = source.tokens;
  }
  std::memcpy(index_slots_.back()->data, base_index->data,
              static_cast<size_t>(shape.index_slot_bytes()));
  index_slots_.back()->tokens = source.tokens;
  memory_->index_pool().Unpin(base_index);
  return absl::OkStatus();
}

void Context::PointAtIndex() {
  const KvShape& shape = memory_->shape();
  for (int layer = 0; layer < shape.layers(); ++layer) {
    if (!shape.sparse(layer)) continue;
    std::vector<const Bf16*>& tiles = index_tiles_[shape.sparse_rank(layer)];
    // Only the tail changes between calls, from the copied block on.
    const size_t keep = std::min(tiles.size(), static_cast<size_t>(own_begin_));
    tiles.resize(keep);
    for (size_t block = keep; block < index_slots_.size(); ++block) {
      tiles.push_back(shape.IndexTile(index_slots_[block], layer));
    }
  }
}

const Bf16* const* Context::IndexTiles(int layer) const {
  return index_tiles_[memory_->shape().sparse_rank(layer)].data();
}

void Context::Write(int layer, const Rows& rows) {
  Pack(layer, rows);
  CountWritten(rows);
}

void Context::WriteLayers(std::span<const Rows> layers) {
  LECTERN_CHECK(layers.size() == static_cast<size_t>(memory_->shape().layers()));
#pragma omp parallel for schedule(dynamic)
  for (int layer = 0; layer < static_cast<int>(layers.size()); ++layer) Pack(layer, layers[layer]);
  CountWritten(layers[0]);
}

void Context::CountWritten(const Rows& rows) {
  const int64_t end = rows.first_position + rows.count;
  for (int64_t block = rows.first_position / kBlockTokens; block < BlocksOf(end); ++block) {
    const int32_t tokens = TokensInBlock(block, end);
    for (BlockPool::Slot* slot : own_[block - own_begin_].kv) {
      slot->tokens = std::max(slot->tokens, tokens);
    }
    index_slots_[block]->tokens = std::max(index_slots_[block]->tokens, tokens);
  }
}

void Context::TakeBack(int64_t tokens) {
  const int64_t end = token_count_ - tokens;
  LECTERN_CHECK(tokens >= 0 && end >= std::max(opened_tokens_, own_begin_ * kBlockTokens));
  for (int64_t block = std::max(own_begin_, end / kBlockTokens); block < end_block(); ++block) {
    const int32_t held = std::max(0, TokensInBlock(block, end));
    for (BlockPool::Slot* slot : own_[block - own_begin_].kv) slot->tokens = held;
    index_slots_[block]->tokens = held;
  }
  token_count_ = end;
  if (mirror_ != nullptr) mirror_->OnTakeBack(end);
}

void Context::Pack(int layer, const Rows& rows) {
  const KvShape& shape = memory_->shape();
  const int dim = shape.head_dim();
  for (int32_t done = 0; done < rows.count;) {
    const int64_t position = rows.first_position + done;
    const int64_t block = position / kBlockTokens;
    const int32_t first = static_cast<int32_t>(position % kBlockTokens);
    const int32_t count =
        std::min<int32_t>(rows.count - done, static_cast<int32_t>(kBlockTokens) - first);
    LECTERN_CHECK(block >= own_begin_ && block < end_block());
    BlockPool::Slot* slot = own_[block - own_begin_].kv[layer];
    for (int head = 0; head < shape.kv_heads(); ++head) {
      const kernels::TileRun run{.first = first, .count = count, .dim = dim};
      kernels::PackKeys(run, rows.k + done * rows.k_stride + head * dim, rows.k_stride,
                        shape.KeyTile(slot, head));
      kernels::PackValues(run, rows.v + done * rows.v_stride + head * dim, rows.v_stride,
                          shape.ValueTile(slot, head));
    }
    if (rows.index_k != nullptr) {
      BlockPool::Slot* index = index_slots_[block];
      kernels::PackKeys({.first = first, .count = count, .dim = shape.index_dim()},
                        rows.index_k + done * rows.index_k_stride, rows.index_k_stride,
                        shape.IndexTile(index, layer));
    }
    done += count;
  }
}

void Context::Pinned::Release() {
  for (BlockPool::Slot* slot : slots_) pool_->Unpin(slot);
  slots_.clear();
}

absl::Status Context::Fetch(int layer, std::span<const int32_t> blocks, Pinned* pinned) {
  pinned->Release();
  const auto first_own = std::lower_bound(blocks.begin(), blocks.end(), own_begin_);
  const size_t stored = static_cast<size_t>(first_own - blocks.begin());
  if (stored > 0) {
    LECTERN_RETURN_IF_ERROR(EnsureReader(blocks[stored - 1]));
    std::vector<BlockSource> sources;
    sources.reserve(stored);
    for (size_t i = 0; i < stored; ++i) sources.push_back(Source(blocks[i]));
    LECTERN_RETURN_IF_ERROR(
        memory_->FetchKv(reader_.get(), layer, sources, &pinned->slots_, &moved_));
    if (pinned->slots_.size() < stored) return absl::OkStatus();  // as many as fit
  }
  for (size_t i = stored; i < blocks.size(); ++i) {
    BlockPool::Slot* slot = own_[blocks[i] - own_begin_].kv[layer];
    memory_->kv_pool().Pin(slot);
    pinned->slots_.push_back(slot);
    moved_.memory += memory_->shape().kv_slot_bytes();
  }
  return absl::OkStatus();
}

absl::StatusOr<storage::BlockHash> Context::StoredHash(int64_t block) {
  LECTERN_RETURN_IF_ERROR(EnsureReader(block));
  absl::StatusOr<storage::BlockInfo> info = reader_->Block(static_cast<uint32_t>(block));
  if (!info.ok()) return info.status();
  return info->hash;
}

Context::StoredBlocks Context::Export(int64_t end) const {
  const KvShape& shape = memory_->shape();
  const int layers = shape.layers();
  const int dim = shape.head_dim();
  const int64_t count = end - own_begin_;
  LECTERN_CHECK(count >= 0 && end <= end_block());
  const int64_t part = kBlockTokens * dim;
  const int64_t kv_elements = 2 * part * shape.kv_heads();
  const int64_t index_elements = kBlockTokens * shape.index_dim();
  const int64_t layer_elements = kv_elements + index_elements;

  StoredBlocks stored;
  stored.inputs_.resize(static_cast<size_t>(count));
  stored.pointers_.assign(static_cast<size_t>(2 * count * layers), nullptr);
  stored.bytes_.resize(static_cast<size_t>(count * layers * layer_elements) * sizeof(Bf16));
  auto* elements = reinterpret_cast<Bf16*>(stored.bytes_.data());
#pragma omp parallel for collapse(2) schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    for (int layer = 0; layer < layers; ++layer) {
      const int64_t block = own_begin_ + i;
      const int32_t tokens = TokensInBlock(block, token_count_);
      const BlockPool::Slot* slot = own_[i].kv[layer];
      Bf16* kv = elements + (i * layers + layer) * layer_elements;
      for (int head = 0; head < shape.kv_heads(); ++head) {
        const kernels::TileRun run{.first = 0, .count = tokens, .dim = dim};
        kernels::UnpackKeys(run, shape.KeyTile(slot, head), kv + 2 * head * part, dim);
        kernels::UnpackValues(run, shape.ValueTile(slot, head), kv + (2 * head + 1) * part, dim);
      }
      stored.pointers_[(i * 2) * layers + layer] = reinterpret_cast<const std::byte*>(kv);
      if (shape.sparse(layer)) {
        Bf16* keys = kv + kv_elements;
        kernels::UnpackKeys({.first = 0, .count = tokens, .dim = shape.index_dim()},
                            shape.IndexTile(index_slots_[block], layer), keys, shape.index_dim());
        stored.pointers_[(i * 2 + 1) * layers + layer] = reinterpret_cast<const std::byte*>(keys);
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const std::span<const std::byte* const> pointers = stored.pointers_;
    stored.inputs_[i].tokens = static_cast<uint32_t>(TokensInBlock(own_begin_ + i, token_count_));
    stored.inputs_[i].kv =
        pointers.subspan(static_cast<size_t>(i * 2 * layers), static_cast<size_t>(layers));
    stored.inputs_[i].index_keys =
        pointers.subspan(static_cast<size_t>((i * 2 + 1) * layers), static_cast<size_t>(layers));
  }
  return stored;
}

void Context::Adopt(uint64_t lineage, int64_t end) {
  LECTERN_CHECK(own_begin_ <= end && end <= end_block());
  const int64_t count = end - own_begin_;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t block = own_begin_ + i;
    for (int layer = 0; layer < memory_->shape().layers(); ++layer) {
      BlockPool::Slot* slot = own_[i].kv[layer];
      memory_->kv_pool().SetDirty(slot, false);
      if (memory_->kv_pool().Rename(slot, {.lineage = lineage, .block = block, .layer = layer})) {
        memory_->kv_pool().Unpin(slot);
      } else {
        memory_->kv_pool().Drop(slot);
      }
    }
    // The index slot stays pinned by this context whatever it is called; if an older version is in
    // use by another context, this one keeps its private name and goes with the context.
    memory_->index_pool().Rename(index_slots_[block],
                                 {.lineage = lineage, .block = block, .layer = 0});
    lineages_.push_back(lineage);
  }
  if (mirror_ != nullptr) mirror_->OnAdopt(lineage, own_begin_, end);
  own_.erase(own_.begin(), own_.begin() + count);
  if (!segments_.empty() && segments_.back().lineage == lineage) {
    segments_.back().block_count += static_cast<uint32_t>(count);
  } else if (count > 0) {
    segments_.push_back({.lineage = lineage,
                         .first_block = static_cast<uint32_t>(own_begin_),
                         .block_count = static_cast<uint32_t>(count)});
  }
  own_begin_ = end;
}

}  // namespace lectern::engine
