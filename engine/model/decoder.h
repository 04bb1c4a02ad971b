// The forward pass. A step is a ragged batch: a list of segments, each some new tokens of one open
// context, prefill chunks and decode rows mixed. Per layer it projects all rows at once, stores
// keys, values and index keys into the contexts' tails, and then runs three phases for every
// segment: select (kernels/index_select), fetch (kv/context), attend (kernels/sparse_attention).
//
// Numeric contract (design): a tile segment's rows are computed in tiles of 128 with row = position
// mod 128, so the bytes that a token leaves in the cache depend on the tokens before it and on
// nothing else: not on chunk sizes, not on what else is in the batch. Residual stream fp32; every
// matrix product takes bf16 inputs and sums in fp32 (FORMATS: kernels/matmul).
//
// A backend is a Decoder (cpu_decoder.h, engine/cuda/cuda_decoder.h). One Decoder serves one thread
// at a time (the engine's step thread); it uses all OpenMP threads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/kv/context.h"
#include "engine/model/checkpoint.h"
#include "kernels/bf16/bf16.h"

namespace lectern::engine {

// What attention did in one layer for the observed rows of a segment; evidence and coverage are
// made of it. Pointers live during the call. G = query heads per KV head.
struct LayerObservation {
  int layer = 0;
  Context* context = nullptr;
  int32_t rows = 0;
  const int32_t* positions = nullptr;  // [rows]
  const kernels::Bf16* q =
      nullptr;  // [rows][q_stride]: query head h at h * head_dim, after norm and RoPE
  int64_t q_stride = 0;
  float scale = 0;    // of q.k before the softmax
  int32_t slots = 0;  // entries of `selected` per (row, KV head)
  const int32_t* selected =
      nullptr;  // [rows][kv_heads][slots] ascending block numbers, -1 behind the last
  const float* block_lse =
      nullptr;  // [rows][kv_heads][slots][G] ln sum exp(scale q.k) over the block's visible tokens
  const float* lse = nullptr;  // [rows][kv_heads][G] the same over all selected blocks
  // [rows][kv_heads], the index branch's ln sum exp over all visible and over the selected tokens;
  // null in a dense layer.
  const float* index_lse_visible = nullptr;
  const float* index_lse_selected = nullptr;
};

class AttentionObserver {
 public:
  virtual ~AttentionObserver() = default;
  // Called once per layer, in order. May Fetch blocks of the context. An error ends the step for
  // this segment.
  virtual absl::Status OnLayer(const LayerObservation& observation) = 0;
};

// Decode rows of one step, over all segments that are not tiled.
inline constexpr int32_t kMaxDecodeRows = 64;

// Adaptive selection takes at most so many times the model's blocks: 16, then 32, then 64.
inline constexpr int32_t kAdaptiveWidening = 4;

struct StepSegment {
  Context* context =
      nullptr;  // REQUIRES: Reserve(tokens.size()) succeeded; no two segments share a context
  std::span<const int32_t> tokens;  // computed at positions token_count(), token_count() + 1, ...
  bool tiled =
      true;  // the numeric contract above; false: decode rows (at most kMaxDecodeRows per step)
  int32_t logit_rows = 0;  // its last tokens whose logits are wanted
  // Adaptive selection: a token's blocks in a sparse layer and group are doubled, up to
  // kAdaptiveWidening times the model's, while their coverage is below this (1: always), before
  // attention runs. 0: never. Only behind a stored context: what prefill leaves in a cache is made
  // with the model's own budget.
  float widen_below = 0;
  AttentionObserver* observer = nullptr;
  int32_t observed_from = 0;  // with an observer: tokens [observed_from, size) are observed
};

// What the sparse layers chose. A selection is one token's in one layer and KV group.
struct SelectionCounts {
  int64_t selections = 0;
  int64_t blocks = 0;   // of all of them
  int64_t widened = 0;  // those that took more than the model's budget

  void Add(const SelectionCounts& other) {
    selections += other.selections;
    blocks += other.blocks;
    widened += other.widened;
  }
};

struct SegmentResult {
  absl::Status status;  // not OK: the context is unchanged but for garbage in its reserved tail
  std::vector<float> logits;              // [logit_rows][vocab_size]
  std::vector<SelectionCounts> selected;  // [tokens] of each, over all sparse layers
};

SelectionCounts Sum(std::span<const SelectionCounts> counts);

struct DecoderOptions {
  std::vector<LayerAttention> attention;  // [layers], normally the configuration's
  int32_t selected_blocks = 16;           // ignored in dense layers
};

// What a backend has of a device's memory.
struct DeviceUse {
  std::string name;            // the device's
  int64_t memory_bytes = 0;    // weights, cache and scratch
  int64_t context_tokens = 0;  // of which keys and values fit
  int64_t index_pages = 0;     // a page is one block in all sparse layers
  int64_t kv_pages = 0;        // a page is one layer of one block
  int64_t kv_pages_used = 0;
  int64_t page_hits = 0;  // selected pages that were on the device, where that was not known before
  int64_t page_misses = 0;
  // Steps of decode rows alone: those replayed as one piece, and those launched call by call.
  int64_t replayed_steps = 0;
  int64_t launched_steps = 0;
};

// The forward pass on one backend (cpu_decoder.h, engine/cuda/cuda_decoder.h). The contexts' memory
// is the source of truth on every backend: after a step the new tokens' bytes are in their tails.
class Decoder {
 public:
  virtual ~Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  // Runs one step and advances every context whose segment succeeded. One result per segment; a
  // segment fails alone (a block that cannot be read, a pool without room).
  virtual std::vector<SegmentResult> Step(std::span<const StepSegment> segments) = 0;

  // Bytes of weights that the backend made for itself, beside the checkpoint's own.
  virtual int64_t packed_bytes() const = 0;
  // What computes: stored with every block.
  virtual std::string Provenance() const = 0;
  // Absent on the CPU. May be called from any thread.
  virtual std::optional<DeviceUse> device_use() const { return std::nullopt; }

  const ModelConfig& config() const { return checkpoint_->config(); }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const DecoderOptions& options() const { return options_; }
  bool sparse(int layer) const { return options_.attention[layer] == LayerAttention::kSparse; }
  storage::Geometry geometry() const;

 protected:
  Decoder(const Checkpoint* checkpoint, const DecoderOptions& options);

  const Checkpoint* const checkpoint_;
  const DecoderOptions options_;
};

}  // namespace lectern::engine
