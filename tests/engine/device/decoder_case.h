// A model, a cache in memory and the decoders of both backends over it, for tests that compare
// them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/cuda/cuda_backend.h"
#include "engine/device/device_decoder.h"
#include "engine/kv/context.h"
#include "engine/model/checkpoint.h"
#include "engine/model/cpu_decoder.h"
#include "storage/store.h"
#include "tests/engine/device/host_device.h"

namespace lectern::engine {

// What the observed rows of a segment were told, by layer and position.
class Recorder final : public AttentionObserver {
 public:
  struct Row {
    std::vector<std::vector<int32_t>> selected;  // [kv_heads]
    std::vector<float> block_lse;                // of the selected blocks, in their order
    std::vector<float> lse, index_lse_visible, index_lse_selected;
    std::vector<uint16_t> q;
  };

  absl::Status OnLayer(const LayerObservation& o) override {
    const int kv_heads = o.context->shape().kv_heads();
    const int dim = o.context->shape().head_dim();
    for (int32_t r = 0; r < o.rows; ++r) {
      Row& row = rows[{o.layer, o.positions[r]}];
      row = {};
      for (int head = 0; head < kv_heads; ++head) {
        const int64_t pair = int64_t{r} * kv_heads + head;
        const int32_t* begin = o.selected + pair * o.slots;
        row.selected.emplace_back(begin, std::find(begin, begin + o.slots, -1));
        row.index_lse_visible.push_back(o.index_lse_visible[pair]);
        row.index_lse_selected.push_back(o.index_lse_selected[pair]);
        for (int g = 0; g < group; ++g) row.lse.push_back(o.lse[pair * group + g]);
        for (size_t slot = 0; slot < row.selected.back().size(); ++slot) {
          for (int g = 0; g < group; ++g) {
            row.block_lse.push_back(
                o.block_lse[(pair * o.slots + static_cast<int64_t>(slot)) * group + g]);
          }
        }
      }
      const auto* q = reinterpret_cast<const uint16_t*>(o.q + r * o.q_stride);
      row.q.assign(q, q + int64_t{kv_heads} * group * dim);
    }
    return absl::OkStatus();
  }

  int group = 1;  // query heads per KV head
  std::map<std::pair<int, int32_t>, Row> rows;
};

class DecoderCase {
 public:
  // `model`: a directory, if relative below the repository. context_tokens: what the host's memory
  // is made for, four contexts of them.
  DecoderCase(const std::string& model, int64_t context_tokens) {
    auto checkpoint =
        Checkpoint::Load(model.starts_with("/") ? model : LECTERN_SOURCE_DIR "/" + model);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    auto cpu = CpuDecoder::Create(checkpoint_.get(), options());
    EXPECT_TRUE(cpu.ok()) << cpu.status();
    cpu_ = *std::move(cpu);
    auto store = storage::Store::OpenInMemory({});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    const KvShape shape(cpu_->geometry());
    const int64_t blocks = 12 * (BlocksOf(context_tokens) + 4);
    memory_ = std::make_unique<KvMemory>(
        shape, &store_->blocks(),
        KvMemory::Options{.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(),
                          .index_bytes = blocks * shape.index_slot_bytes()});
  }

  DecoderOptions options() const {
    return {.attention = config().attention, .selected_blocks = config().sparse.topk_blocks};
  }
  const ModelConfig& config() const { return checkpoint_->config(); }
  const Checkpoint* checkpoint() const { return checkpoint_.get(); }
  Decoder& cpu() { return *cpu_; }
  KvMemory* memory() { return memory_.get(); }

  // On the GPU: NO_GPU where there is none.
  absl::StatusOr<std::unique_ptr<DeviceDecoder>> OnGpu(const DeviceDecoderOptions& sizes) const {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenCudaDevice();
    if (!device.ok()) return device.status();
    return DeviceDecoder::Create(*std::move(device), checkpoint_.get(), options(), sizes);
  }
  // On the host as a device; `device`, if given, gets it.
  absl::StatusOr<std::unique_ptr<DeviceDecoder>> OnHost(const DeviceDecoderOptions& sizes,
                                                        HostDevice** device = nullptr) const {
    auto host = std::make_unique<HostDevice>(int64_t{64} << 30);
    if (device != nullptr) *device = host.get();
    return DeviceDecoder::Create(std::move(host), checkpoint_.get(), options(), sizes);
  }

  std::unique_ptr<Context> Open() {
    auto context =
        Context::Open(memory_.get(), /*tenant_uid=*/1, {}, 0, memory_->NewUnstoredLineage());
    EXPECT_TRUE(context.ok()) << context.status();
    return *std::move(context);
  }

  static SegmentResult Step(Decoder& decoder, const StepSegment& segment) {
    EXPECT_TRUE(segment.context->Reserve(static_cast<int64_t>(segment.tokens.size())).ok());
    SegmentResult result = decoder.Step(std::span(&segment, 1))[0];
    EXPECT_TRUE(result.status.ok()) << result.status;
    return result;
  }

  // Prefills in chunks of the given sizes, taken in turn; returns the last token's logits.
  static std::vector<float> Prefill(Decoder& decoder, Context* context,
                                    std::span<const int32_t> tokens,
                                    const std::vector<int64_t>& chunks) {
    std::vector<float> logits;
    for (size_t i = 0; !tokens.empty(); ++i) {
      const size_t count = std::min(tokens.size(), static_cast<size_t>(chunks[i % chunks.size()]));
      logits = Step(decoder, {.context = context,
                              .tokens = tokens.first(count),
                              .logit_rows = count == tokens.size() ? 1 : 0})
                   .logits;
      tokens = tokens.subspan(count);
    }
    return logits;
  }

  // Everything that the context would store.
  static std::vector<std::byte> Bytes(const Context& context, const KvMemory& memory) {
    const int64_t end = BlocksOf(context.token_count());
    Context::StoredBlocks blocks = context.Export(end);
    const storage::Geometry& geometry = memory.shape().geometry();
    std::vector<std::byte> bytes;
    for (const storage::BlockInput& input : blocks.inputs()) {
      for (int layer = 0; layer < geometry.layers; ++layer) {
        const size_t tokens = input.tokens;
        const size_t part = tokens * geometry.head_dim * 2;
        for (int i = 0; i < 2 * geometry.kv_heads; ++i) {
          const std::byte* at =
              input.kv[layer] + static_cast<int64_t>(i) * kBlockTokens * geometry.head_dim * 2;
          bytes.insert(bytes.end(), at, at + part);
        }
        const std::byte* keys = input.index_keys[layer];
        bytes.insert(bytes.end(), keys, keys + tokens * geometry.index_dim * 2);
      }
    }
    return bytes;
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<KvMemory> memory_;
  std::unique_ptr<CpuDecoder> cpu_;
};

}  // namespace lectern::engine
