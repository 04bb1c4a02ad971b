// The words of block storage: geometry of a model's cache, lineages, segments, and what a commit
// hands over.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "storage/encoding.h"

namespace lectern::storage {

inline constexpr uint32_t kBlockTokens = 128;

// Prefix-chain hash of a block: SHA-256 of (model fingerprint, tenant salt, previous block's hash,
// tokens), computed by the engine. Storage compares it and derives nothing from it.
using BlockHash = Digest;

// What one block of a model's cache looks like. Stored once per lineage; a lineage never changes
// it.
struct Geometry {
  uint16_t layers = 0;
  uint16_t kv_heads = 0;
  uint16_t head_dim = 0;
  uint16_t index_dim = 0;  // 0 when no layer has an index branch
  std::vector<uint8_t>
      indexed;  // [layers]: 1 where the layer keeps index keys, 0 for a dense layer

  // Bytes of K and V of `tokens` tokens in one layer: bf16, [kv_head][2 (K, V)][token][head_dim].
  size_t KvBytes(uint32_t tokens) const { return KvSliceBytes(tokens) * kv_heads; }
  size_t KvSliceBytes(uint32_t tokens) const {
    return size_t{2} * 2 * tokens * head_dim;
  }                                                                                    // one head
  size_t IndexBytes(uint32_t tokens) const { return size_t{2} * tokens * index_dim; }  // one layer
  int IndexedLayers() const;

  // kInvalidArgument, saying which field, unless layers, heads and dims are >= 1, indexed has
  // `layers` entries of 0 or 1, and index_dim > 0 exactly when one of them is 1.
  absl::Status Validate() const;

  bool operator==(const Geometry&) const = default;
};

// Blocks [first_block, first_block + block_count) of a context, stored in `lineage`. Block numbers
// are absolute positions in the context (token position / 128). A shard group's rank numbers its
// own blocks 0, 1, 2...; the engine translates.
struct Segment {
  uint64_t lineage = 0;
  uint32_t first_block = 0;
  uint32_t block_count = 0;

  uint32_t end_block() const { return first_block + block_count; }
  bool operator==(const Segment&) const = default;
};

// One block on its way into storage. Borrowed memory, needed until the commit returns.
struct BlockInput {
  uint32_t tokens = 0;  // 1..128; less than 128 only in the last block of a batch
  BlockHash hash = {};
  // kv[layer]: [kv_head][2][token_capacity][head_dim] bf16, of which the first `tokens` rows of
  // each part count.
  std::span<const std::byte* const> kv;
  uint32_t token_capacity = kBlockTokens;
  // index_keys[layer]: [tokens][index_dim] bf16; null for layers without an index branch.
  std::span<const std::byte* const> index_keys;
};

// Consecutive blocks of one lineage that become visible together.
struct BlockBatch {
  // The lineage's end, or its last block when that is partial: it is then replaced by one that
  // begins with the same tokens and has at least as many.
  uint32_t first_block = 0;
  std::span<const BlockInput> blocks;
  // Which backend, instruction set and kernel versions computed the bytes (numeric contract:
  // "stored cache"). At most kMaxProvenanceBytes.
  std::string provenance;
};
inline constexpr size_t kMaxProvenanceBytes = 256;

}  // namespace lectern::storage
