#include "engine/model/cpu_decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/model/block_rows.h"
#include "engine/model/step_rows.h"
#include "kernels/embedding/embedding.h"
#include "kernels/head_norm_rope/head_norm_rope.h"
#include "kernels/index_select/index_select.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope_table.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "kernels/swiglu/swiglu.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

const Bf16* AsBf16(const Bf16Matrix& matrix) { return reinterpret_cast<const Bf16*>(matrix.data); }

kernels::WeightRows Rows(const Bf16Matrix& matrix) {
  return {.weights = AsBf16(matrix), .rows = matrix.rows};
}

// Blocks attended to between two fetches: bounds the scratch, and lets a pool much smaller than the
// context serve.
constexpr size_t kFetchBlocksMax = 2048;

// Memory that the kernels may read in whole cache lines.
template <typename T>
class Buffer {
 public:
  // Contents are kept only if the capacity sufficed.
  T* Resize(int64_t elements) {
    if (elements > capacity_) {
      capacity_ = elements + elements / 4;
      const size_t bytes = (static_cast<size_t>(capacity_) * sizeof(T) + 63) / 64 * 64;
      data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
      LECTERN_CHECK(data_ != nullptr);
    }
    return data_.get();
  }
  T* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace

// One layer's weights, packed; q, k, v and the index projections are one product, gate and up
// another.
struct CpuDecoder::Layer {
  Layer(const LayerWeights& w, const ModelConfig& config, bool sparse)
      : weights(w),
        sparse(sparse),
        qkv(Projections(w, sparse), config.hidden_size),
        o(AsBf16(w.o), w.o.rows, w.o.cols),
        gate_up(std::vector<kernels::WeightRows>{Rows(w.gate), Rows(w.up)}, config.hidden_size),
        down(AsBf16(w.down), w.down.rows, w.down.cols) {}

  static std::vector<kernels::WeightRows> Projections(const LayerWeights& w, bool sparse) {
    std::vector<kernels::WeightRows> rows = {Rows(w.q), Rows(w.k), Rows(w.v)};
    if (sparse) {
      rows.push_back(Rows(w.index_q));
      rows.push_back(Rows(w.index_k));
    }
    return rows;
  }

  const LayerWeights& weights;
  const bool sparse;
  kernels::PackedMatrix qkv;
  kernels::PackedMatrix o;
  kernels::PackedMatrix gate_up;
  kernels::PackedMatrix down;
};

struct CpuDecoder::Batch {
  StepRows rows;
  Buffer<float> x;          // [rows][hidden] residual stream
  Buffer<Bf16> normed;      // [rows][hidden]
  Buffer<float> projected;  // [rows][max(qkv, gate_up)]
  Buffer<float> cos, sin;   // [rows][rotary_dim / 2]
  Buffer<Bf16> q, k, v, index_q, index_k;
  Buffer<Bf16> attended;   // [rows][heads * head_dim]
  Buffer<Bf16> activated;  // [rows][intermediate]
  // Of one segment at a time.
  std::vector<int32_t> selected;
  std::vector<uint8_t> flagged;
  std::vector<float> lse_visible, lse_selected;
  Buffer<float> attention_state;
};

CpuDecoder::CpuDecoder(const Checkpoint* checkpoint, const DecoderOptions& options)
    : Decoder(checkpoint, options), batch_(std::make_unique<Batch>()) {}

CpuDecoder::~CpuDecoder() = default;

absl::StatusOr<std::unique_ptr<CpuDecoder>> CpuDecoder::Create(const Checkpoint* checkpoint,
                                                               const DecoderOptions& options) {
  const ModelConfig& config = checkpoint->config();
  const auto unsupported = [](std::string message) {
    return Error(absl::StatusCode::kUnimplemented, "MODEL_UNSUPPORTED", message);
  };
  if (config.head_dim % 16 != 0 || config.head_dim > kernels::kMaxHeadDim) {
    return unsupported(fmt::format("head_dim {} is not supported: multiples of 16 up to {} are",
                                   config.head_dim, kernels::kMaxHeadDim));
  }
  if (config.group_size() > kernels::kMaxGqaRatio) {
    return unsupported(fmt::format("{} query heads per KV head are not supported: at most {} are",
                                   config.group_size(), kernels::kMaxGqaRatio));
  }
  if (config.any_sparse()) {
    if (config.sparse.index_dim % 16 != 0 || config.sparse.index_dim > kernels::kMaxHeadDim) {
      return unsupported(
          fmt::format("sparse_index_dim {} is not supported: multiples of 16 up to {} are",
                      config.sparse.index_dim, kernels::kMaxHeadDim));
    }
    if (config.sparse.block_tokens != kBlockTokens) {
      return unsupported(fmt::format("sparse_block_size {} is not supported: {} is",
                                     config.sparse.block_tokens, kBlockTokens));
    }
    if (options.selected_blocks < 1 || options.selected_blocks > kernels::kMaxTopk) {
      return unsupported(fmt::format("{} selected blocks are not supported: 1 to {} are",
                                     options.selected_blocks, kernels::kMaxTopk));
    }
  }
  auto decoder = std::unique_ptr<CpuDecoder>(new CpuDecoder(checkpoint, options));
  for (int layer = 0; layer < config.num_layers; ++layer) {
    decoder->layers_.push_back(
        std::make_unique<Layer>(checkpoint->layers()[layer], config, decoder->sparse(layer)));
  }
  decoder->lm_head_ = std::make_unique<kernels::PackedMatrix>(
      AsBf16(checkpoint->lm_head()), checkpoint->lm_head().rows, checkpoint->lm_head().cols);
  return decoder;
}

int64_t CpuDecoder::packed_bytes() const {
  int64_t bytes = lm_head_->packed_bytes();
  for (const auto& layer : layers_) {
    bytes += layer->qkv.packed_bytes() + layer->o.packed_bytes() + layer->gate_up.packed_bytes() +
             layer->down.packed_bytes();
  }
  return bytes;
}

void CpuDecoder::EmbedRows(std::span<const StepSegment> segments,
                           std::vector<SegmentResult>* results) {
  Batch& batch = *batch_;
  batch.rows.LayOut(segments, results);
  const int64_t rows = batch.rows.rows();
  std::memset(batch.x.Resize(rows * config().hidden_size), 0,
              sizeof(float) * rows * config().hidden_size);
  for (const StepRows::Part& part : batch.rows.parts()) {
    kernels::Embedding({.table = AsBf16(checkpoint_->embedding()),
                        .ids = part.segment->tokens.data(),
                        .x = batch.x.get() + part.first_row * config().hidden_size,
                        .x_stride = config().hidden_size,
                        .rows = part.rows,
                        .hidden = config().hidden_size,
                        .vocabulary = config().vocab_size});
  }
  const int64_t angles = std::max(1, config().rotary_dim / 2);
  batch.cos.Resize(rows * angles);
  batch.sin.Resize(rows * angles);
  if (config().rotary_dim > 0) {
    kernels::FillRopeTable({.positions = batch.rows.positions().data(),
                            .rows = rows,
                            .rotary_dim = config().rotary_dim,
                            .theta = config().rope_theta,
                            .cos = batch.cos.get(),
                            .sin = batch.sin.get()});
  }
}

void CpuDecoder::Project(const kernels::PackedMatrix& matrix, const Bf16* x, float* y,
                         bool add) const {
  const Batch& batch = *batch_;
  const auto store = add ? kernels::MatmulStore::kAdd : kernels::MatmulStore::kOverwrite;
  if (batch.rows.tiles() > 0) {
    kernels::MatmulTiles(
        matrix,
        {.x = x, .y = y, .y_stride = matrix.n(), .tiles = batch.rows.tiles(), .store = store});
  }
  if (batch.rows.decode_rows() > 0) {
    const int64_t first = batch.rows.first_decode_row();
    kernels::MatVec(matrix, {.x = x + first * matrix.k(),
                             .x_stride = matrix.k(),
                             .y = y + first * matrix.n(),
                             .y_stride = matrix.n(),
                             .rows = batch.rows.decode_rows(),
                             .store = store});
  }
}

void CpuDecoder::Norm(std::span<const float> gain, int64_t first_row, int64_t rows, Bf16* y) const {
  kernels::RmsNorm(
      {.x = batch_->x.get() + first_row * config().hidden_size,
       .x_stride = config().hidden_size,
       .w = gain.data(),
       .y = y,
       .y_stride = config().hidden_size,
       .rows = rows,
       .hidden = config().hidden_size,
       .eps = static_cast<float>(config().rms_norm_eps),
       .gain = config().gemma_norm ? kernels::NormGain::kGemma : kernels::NormGain::kPlain});
}

void CpuDecoder::RunLayer(int layer_number) {
  Batch& batch = *batch_;
  const Layer& layer = *layers_[layer_number];
  const int64_t rows = batch.rows.rows();
  const int64_t hidden = config().hidden_size;

  Norm(layer.weights.input_norm, 0, rows, batch.normed.Resize(rows * hidden));
  Project(layer.qkv, batch.normed.get(), batch.projected.Resize(rows * layer.qkv.n()),
          /*add=*/false);
  SplitHeads(layer);
  for (const StepRows::Part& part : batch.rows.parts()) {
    if (!part.result->status.ok()) continue;
    Context::Rows stored = {.first_position = part.first_position,
                            .count = part.rows,
                            .k = batch.k.get() + part.first_row * config().kv_width(),
                            .k_stride = config().kv_width(),
                            .v = batch.v.get() + part.first_row * config().kv_width(),
                            .v_stride = config().kv_width()};
    if (layer.sparse) {
      stored.index_k = batch.index_k.get() + part.first_row * config().sparse.index_dim;
      stored.index_k_stride = config().sparse.index_dim;
    }
    part.segment->context->Write(layer_number, stored);
  }

  const int64_t attention_width = int64_t{config().num_heads} * config().head_dim;
  std::memset(batch.attended.Resize(rows * attention_width), 0,
              sizeof(Bf16) * rows * attention_width);
  for (size_t i = 0; i < batch.rows.parts().size(); ++i) {
    absl::Status& status = batch.rows.parts()[i].result->status;
    if (status.ok()) status = Attend(layer_number, i);
  }
  Project(layer.o, batch.attended.get(), batch.x.get(), /*add=*/true);

  Norm(layer.weights.post_attention_norm, 0, rows, batch.normed.get());
  Project(layer.gate_up, batch.normed.get(), batch.projected.Resize(rows * layer.gate_up.n()),
          /*add=*/false);
  kernels::SwiGlu({.gate = batch.projected.get(),
                   .up = batch.projected.get() + config().intermediate_size,
                   .stride = layer.gate_up.n(),
                   .y = batch.activated.Resize(rows * config().intermediate_size),
                   .y_stride = config().intermediate_size,
                   .rows = rows,
                   .cols = config().intermediate_size});
  Project(layer.down, batch.activated.get(), batch.x.get(), /*add=*/true);
}

// From the fused projection to heads: norm, RoPE and rounding to what is stored and multiplied.
void CpuDecoder::SplitHeads(const Layer& layer) {
  Batch& batch = *batch_;
  const ModelConfig& c = config();
  const int64_t rows = batch.rows.rows();
  const int64_t stride = layer.qkv.n();
  const auto rotate = [&](int64_t column, std::span<const float> gain, int heads, int dim,
                          Bf16* y) {
    kernels::HeadNormRope(
        {.x = batch.projected.get() + column,
         .x_stride = stride,
         .w = gain.empty() ? nullptr : gain.data(),
         .cos = c.rotary_dim > 0 ? batch.cos.get() : nullptr,
         .sin = c.rotary_dim > 0 ? batch.sin.get() : nullptr,
         .y = y,
         .y_f32 = nullptr,
         .y_stride = int64_t{heads} * dim,
         .rows = rows,
         .heads = heads,
         .dim = dim,
         .rotary_dim = c.rotary_dim,
         .eps = static_cast<float>(c.rms_norm_eps),
         .gain = c.gemma_norm ? kernels::NormGain::kGemma : kernels::NormGain::kPlain});
  };
  const int64_t q_width = int64_t{c.num_heads} * c.head_dim;
  rotate(0, layer.weights.q_norm, c.num_heads, c.head_dim, batch.q.Resize(rows * q_width));
  rotate(q_width, layer.weights.k_norm, c.num_kv_heads, c.head_dim,
         batch.k.Resize(rows * c.kv_width()));
  kernels::ConvertRowsToBf16({.x = batch.projected.get() + q_width + c.kv_width(),
                              .x_stride = stride,
                              .y = batch.v.Resize(rows * c.kv_width()),
                              .y_stride = c.kv_width(),
                              .rows = rows,
                              .cols = c.kv_width()});
  if (layer.sparse) {
    const int64_t index_q = q_width + 2 * int64_t{c.kv_width()};
    const int64_t index_q_width = int64_t{c.num_kv_heads} * c.sparse.index_dim;
    rotate(index_q, layer.weights.index_q_norm, c.num_kv_heads, c.sparse.index_dim,
           batch.index_q.Resize(rows * index_q_width));
    rotate(index_q + index_q_width, layer.weights.index_k_norm, 1, c.sparse.index_dim,
           batch.index_k.Resize(rows * c.sparse.index_dim));
  }
}

// Select, fetch, attend: one layer of one segment.
absl::Status CpuDecoder::Attend(int layer_number, size_t part_number) {
  Batch& batch = *batch_;
  const StepRows::Part& part = batch.rows.parts()[part_number];
  const StepSegment& segment = *part.segment;
  const Layer& layer = *layers_[layer_number];
  const ModelConfig& c = config();
  const int kv_heads = c.num_kv_heads;
  const int group = c.group_size();
  const int64_t q_width = int64_t{c.num_heads} * c.head_dim;
  const int32_t* positions = batch.rows.positions().data() + part.first_row;
  const int32_t visible_blocks = static_cast<int32_t>(BlocksOf(part.first_position + part.rows));
  const int32_t observed_from =
      segment.observer != nullptr ? std::min(segment.observed_from, part.rows) : part.rows;
  const int32_t observed = part.rows - observed_from;

  // Select.
  BlockRows choice(part.rows, kv_heads);
  const int32_t budget = options_.selected_blocks;
  const bool widens = segment.widen_below > 0 && visible_blocks > budget;
  const int32_t widest =
      widens ? std::min(kAdaptiveWidening * budget, int32_t{kernels::kMaxTopk}) : budget;
  const int32_t slots = layer.sparse ? widest : visible_blocks;
  if (layer.sparse) {
    batch.selected.resize(static_cast<size_t>(part.rows) * kv_heads * slots);
    batch.flagged.assign(static_cast<size_t>(part.rows), 0);
    std::fill(batch.flagged.begin() + observed_from, batch.flagged.end(), uint8_t{1});
    batch.lse_visible.resize(static_cast<size_t>(part.rows) * kv_heads);
    batch.lse_selected.resize(static_cast<size_t>(part.rows) * kv_heads);
    kernels::IndexSelect({.q = batch.index_q.get() + part.first_row * kv_heads * c.sparse.index_dim,
                          .q_row_stride = int64_t{kv_heads} * c.sparse.index_dim,
                          .positions = positions,
                          .key_blocks = segment.context->IndexTiles(layer_number),
                          .blocks = visible_blocks,
                          .rows = part.rows,
                          .heads = kv_heads,
                          .dim = c.sparse.index_dim,
                          .topk = slots,
                          .selected = batch.selected.data(),
                          .flagged = observed > 0 ? batch.flagged.data() : nullptr,
                          .lse_visible = observed > 0 ? batch.lse_visible.data() : nullptr,
                          .lse_selected = observed > 0 ? batch.lse_selected.data() : nullptr,
                          .first_topk = widens ? budget : 0,
                          .widen_below = segment.widen_below});
    CountSelections(
        std::span(batch.selected).first(static_cast<size_t>(part.rows) * kv_heads * slots),
        kv_heads, slots, budget, part.result->selected);
    choice.FromSelection(batch.selected.data(), slots, visible_blocks);
  } else {
    choice.AllVisible(positions, visible_blocks);
  }

  // Tiles of rows: one per (128 rows, KV head). They keep their running softmax between the
  // fetches.
  const kernels::AttentionShape shape = {
      .heads = group, .dim = c.head_dim, .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim))};
  const int64_t state_floats =
      (kernels::AttentionStateFloats(shape, kernels::kMaxAttentionRows) + 15) / 16 * 16;
  std::vector<kernels::AttentionTile> tiles;
  std::vector<float> lse(static_cast<size_t>(part.rows) * c.num_heads);
  const int32_t row_tiles = (part.rows + BlockRows::kTileRows - 1) / BlockRows::kTileRows;
  batch.attention_state.Resize(state_floats * row_tiles * kv_heads);
  std::vector<float> tile_lse(static_cast<size_t>(row_tiles) * kv_heads *
                              kernels::kMaxAttentionRows * group);
  for (int32_t tile = 0; tile < row_tiles; ++tile) {
    const int32_t first = tile * BlockRows::kTileRows;
    const int32_t rows = std::min<int32_t>(BlockRows::kTileRows, part.rows - first);
    for (int head = 0; head < kv_heads; ++head) {
      const int64_t index = int64_t{tile} * kv_heads + head;
      const int64_t row = part.first_row + first;
      tiles.push_back(
          {.rows = rows,
           .state = batch.attention_state.get() + index * state_floats,
           .q = batch.q.get() + row * q_width + int64_t{head} * group * c.head_dim,
           .q_row_stride = q_width,
           .q_head_stride = c.head_dim,
           .positions = positions + first,
           .out = batch.attended.get() + row * q_width + int64_t{head} * group * c.head_dim,
           .out_row_stride = q_width,
           .out_head_stride = c.head_dim,
           .lse = tile_lse.data() + index * kernels::kMaxAttentionRows * group});
    }
  }
  std::vector<float> block_lse;  // of observed rows, [observed][kv_heads][slots][group]
  if (observed > 0) {
    block_lse.assign(static_cast<size_t>(observed) * kv_heads * slots * group,
                     -std::numeric_limits<float>::infinity());
  }
  kernels::BeginAttention(shape, tiles.data(), static_cast<int64_t>(tiles.size()));

  // Fetch as many of the blocks as the pool can hold, attend to them, fetch the next.
  std::span<const int32_t> wanted = choice.Union();
  Context::Pinned pinned(&segment.context->kv_pool());
  std::vector<std::vector<kernels::AttentionBlock>> blocks(tiles.size());
  while (!wanted.empty()) {
    const size_t most = std::min<size_t>(wanted.size(), kFetchBlocksMax);
    LECTERN_RETURN_IF_ERROR(segment.context->Fetch(layer_number, wanted.first(most), &pinned));
    std::vector<std::unique_ptr<float[]>> lse_scratch;
    for (size_t t = 0; t < tiles.size(); ++t) {
      const int32_t tile = static_cast<int32_t>(t) / kv_heads;
      const int head = static_cast<int>(t) % kv_heads;
      const bool watched = observed > 0 && (tile + 1) * BlockRows::kTileRows > observed_from;
      blocks[t].clear();
      for (size_t i = 0; i < pinned.size(); ++i) {
        const std::span<const int32_t> rows = choice.RowsOf(wanted[i], tile, head);
        if (rows.empty()) continue;
        float* scratch = nullptr;
        if (watched) {
          lse_scratch.push_back(std::make_unique<float[]>(rows.size() * group));
          scratch = lse_scratch.back().get();
        }
        blocks[t].push_back({.block = wanted[i],
                             .k = segment.context->shape().KeyTile(pinned[i], head),
                             .v = segment.context->shape().ValueTile(pinned[i], head),
                             .rows = rows.data(),
                             .num_rows = static_cast<int32_t>(rows.size()),
                             .block_lse = scratch});
      }
      tiles[t].blocks = blocks[t].data();
      tiles[t].num_blocks = static_cast<int32_t>(blocks[t].size());
    }
    kernels::AccumulateAttention(shape, tiles.data(), static_cast<int64_t>(tiles.size()));
    if (observed > 0) {
      for (size_t t = 0; t < tiles.size(); ++t) {
        const int32_t tile = static_cast<int32_t>(t) / kv_heads;
        const int head = static_cast<int>(t) % kv_heads;
        for (const kernels::AttentionBlock& block : blocks[t]) {
          if (block.block_lse == nullptr) continue;
          for (int32_t r = 0; r < block.num_rows; ++r) {
            const int32_t row = tile * BlockRows::kTileRows + block.rows[r];
            if (row < observed_from) continue;
            const int32_t slot = layer.sparse ? BlockRows::SlotOf(batch.selected.data(), slots, row,
                                                                  head, block.block, kv_heads)
                                              : block.block;
            std::copy_n(
                block.block_lse + int64_t{r} * group, group,
                block_lse.data() +
                    ((int64_t{row - observed_from} * kv_heads + head) * slots + slot) * group);
          }
        }
      }
    }
    wanted = wanted.subspan(pinned.size());
  }
  pinned.Release();
  kernels::FinishAttention(shape, tiles.data(), static_cast<int64_t>(tiles.size()));
  if (observed == 0) return absl::OkStatus();

  // Observe.
  for (int32_t row = observed_from; row < part.rows; ++row) {
    for (int head = 0; head < kv_heads; ++head) {
      const int64_t tile = int64_t{row / BlockRows::kTileRows} * kv_heads + head;
      std::copy_n(tile_lse.data() +
                      (tile * kernels::kMaxAttentionRows + row % BlockRows::kTileRows) * group,
                  group, lse.data() + int64_t{row} * c.num_heads + head * group);
    }
  }
  std::vector<int32_t> all_visible;
  if (!layer.sparse) {
    all_visible.assign(static_cast<size_t>(observed) * kv_heads * slots, -1);
    for (int32_t row = 0; row < observed; ++row) {
      for (int head = 0; head < kv_heads; ++head) {
        for (int32_t block = 0; block <= positions[observed_from + row] / kBlockTokens; ++block) {
          all_visible[(int64_t{row} * kv_heads + head) * slots + block] = block;
        }
      }
    }
  }
  const int64_t selected_offset = int64_t{observed_from} * kv_heads * slots;
  return segment.observer->OnLayer(
      {.layer = layer_number,
       .context = segment.context,
       .rows = observed,
       .positions = positions + observed_from,
       .q = batch.q.get() + (part.first_row + observed_from) * q_width,
       .q_stride = q_width,
       .scale = shape.scale,
       .slots = slots,
       .selected = layer.sparse ? batch.selected.data() + selected_offset : all_visible.data(),
       .block_lse = block_lse.data(),
       .lse = lse.data() + int64_t{observed_from} * c.num_heads,
       .index_lse_visible =
           layer.sparse ? batch.lse_visible.data() + int64_t{observed_from} * kv_heads : nullptr,
       .index_lse_selected =
           layer.sparse ? batch.lse_selected.data() + int64_t{observed_from} * kv_heads : nullptr});
}

void CpuDecoder::ComputeLogits() {
  Batch& batch = *batch_;
  const int64_t hidden = config().hidden_size;
  std::vector<SegmentResult*> asking;  // one per row
  std::vector<Bf16> normed;
  for (const StepRows::Part& part : batch.rows.parts()) {
    const int32_t wanted = part.result->status.ok() ? part.segment->logit_rows : 0;
    if (wanted == 0) continue;
    asking.insert(asking.end(), static_cast<size_t>(wanted), part.result);
    normed.resize(asking.size() * static_cast<size_t>(hidden));
    Norm(checkpoint_->final_norm(), part.first_row + part.rows - wanted, wanted,
         normed.data() + normed.size() - static_cast<size_t>(wanted * hidden));
  }
  for (size_t first = 0; first < asking.size(); first += kernels::kMatVecMaxRows) {
    const size_t count = std::min<size_t>(asking.size() - first, kernels::kMatVecMaxRows);
    std::vector<float> logits(count * static_cast<size_t>(config().vocab_size));
    kernels::MatVec(*lm_head_, {.x = normed.data() + first * hidden,
                                .x_stride = hidden,
                                .y = logits.data(),
                                .y_stride = config().vocab_size,
                                .rows = static_cast<int64_t>(count)});
    for (size_t i = 0; i < count; ++i) {
      const float* row = logits.data() + i * config().vocab_size;
      std::vector<float>& wanted = asking[first + i]->logits;
      wanted.insert(wanted.end(), row, row + config().vocab_size);
    }
  }
}

std::vector<SegmentResult> CpuDecoder::Step(std::span<const StepSegment> segments) {
  std::vector<SegmentResult> results(segments.size());
  if (segments.empty()) return results;
  EmbedRows(segments, &results);
  for (int layer = 0; layer < config().num_layers; ++layer) RunLayer(layer);
  ComputeLogits();
  for (const StepRows::Part& part : batch_->rows.parts()) {
    if (part.result->status.ok()) part.segment->context->Advance(part.rows);
  }
  return results;
}

}  // namespace lectern::engine
