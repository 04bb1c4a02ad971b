#include "engine/device/device_decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

constexpr int64_t kTileRows = StepRows::kTileRows;
// The most of what is free that is taken when nothing was said.
constexpr double kShareOfFree = 0.9;
// Bytes of scratch beside what grows with rows.
constexpr int64_t kFixedScratch = int64_t{256} << 20;
// As much is worth a copy of its own while layers go on; less waits for more.
constexpr int64_t kWorthACopy = int64_t{256} << 10;

absl::Status Unsupported(std::string message) {
  return Error(absl::StatusCode::kUnimplemented, "DEVICE_UNSUPPORTED", message);
}

absl::Status CheckShapes(const ModelConfig& c, const DecoderOptions& options) {
  for (int layer = 0; layer < c.num_layers; ++layer) {
    if (options.attention[layer] != LayerAttention::kSparse) {
      return Unsupported(fmt::format(
          "layer {} is dense, and the GPU serves models all of whose layers are sparse: use "
          "--device=cpu",
          layer));
    }
  }
  const auto dim_served = [](int dim) { return dim == 64 || dim == 128; };
  if (!dim_served(c.head_dim) || !dim_served(c.sparse.index_dim)) {
    return Unsupported(
        fmt::format("head_dim {} with sparse_index_dim {}: the GPU's kernels serve 64 and 128; use "
                    "--device=cpu",
                    c.head_dim, c.sparse.index_dim));
  }
  if (c.group_size() > kernels::kMaxPrefillRatio || c.num_kv_heads > kernels::kMaxIndexHeads) {
    return Unsupported(fmt::format(
        "{} query heads per KV head and {} KV heads: the GPU's kernels serve up to {} and {}; use "
        "--device=cpu",
        c.group_size(), c.num_kv_heads, kernels::kMaxPrefillRatio, kernels::kMaxIndexHeads));
  }
  if (options.selected_blocks < 1 || options.selected_blocks > kernels::kMaxPrefillSelected) {
    return Unsupported(
        fmt::format("{} selected blocks: the GPU's kernels serve up to {}; use --device=cpu",
                    options.selected_blocks, kernels::kMaxPrefillSelected));
  }
  if (c.hidden_size % 8 != 0 || c.intermediate_size % 8 != 0) {
    return Unsupported(
        fmt::format("hidden_size {} and intermediate_size {}: multiples of 8 are served on a GPU; "
                    "use --device=cpu",
                    c.hidden_size, c.intermediate_size));
  }
  if (BlocksOf(c.max_positions) > kernels::kMaxPrefillBlocks) {
    return Unsupported(fmt::format("max_position_embeddings {}: up to {} are served on a GPU",
                                   c.max_positions,
                                   kernels::kMaxPrefillBlocks * int64_t{kBlockTokens}));
  }
  return absl::OkStatus();
}

}  // namespace

DeviceDecoder::DeviceDecoder(std::unique_ptr<Device> device, const Checkpoint* checkpoint,
                             const DecoderOptions& options)
    : Decoder(checkpoint, options), device_(std::move(device)), arena_(device_.get()) {}

DeviceDecoder::~DeviceDecoder() { device_->Synchronize().IgnoreError(); }

absl::StatusOr<std::unique_ptr<DeviceDecoder>> DeviceDecoder::Create(
    std::unique_ptr<Device> device, const Checkpoint* checkpoint, const DecoderOptions& options,
    const DeviceDecoderOptions& sizes) {
  LECTERN_RETURN_IF_ERROR(CheckShapes(checkpoint->config(), options));
  auto decoder =
      std::unique_ptr<DeviceDecoder>(new DeviceDecoder(std::move(device), checkpoint, options));
  LECTERN_RETURN_IF_ERROR(decoder->Open(sizes));
  return decoder;
}

absl::Status DeviceDecoder::Open(const DeviceDecoderOptions& sizes) {
  const ModelConfig& c = config();
  replay_ = sizes.replay;
  const int64_t free = device_->FreeBytes();
  int64_t limit = static_cast<int64_t>(static_cast<double>(free) * kShareOfFree);
  if (sizes.memory_bytes > 0) limit = std::min(sizes.memory_bytes, free);

  // How the memory is shared out: weights, scratch of a step, the rest for the cache.
  const KvShape shape(geometry());
  int64_t weight_bytes = 0;
  const auto size = [](const Bf16Matrix& m) { return 2 * m.rows * m.cols; };
  weight_bytes +=
      size(checkpoint().embedding()) + (c.tied_embeddings ? 0 : size(checkpoint().lm_head()));
  int64_t widest = 0;
  for (const LayerWeights& w : checkpoint().layers()) {
    for (const Bf16Matrix* m :
         {&w.q, &w.k, &w.v, &w.o, &w.index_q, &w.index_k, &w.gate, &w.up, &w.down}) {
      weight_bytes += size(*m);
    }
    widest = std::max({widest, w.q.rows + w.k.rows + w.v.rows + w.index_q.rows + w.index_k.rows,
                       w.gate.rows + w.up.rows});
  }
  const int64_t row_bytes = 6 * int64_t{c.hidden_size} + 4 * widest + 4 * q_width() +
                            2 * index_q_width() + 2 * stored_width() * c.num_layers +
                            2 * int64_t{c.intermediate_size};
  const int64_t step_rows = sizes.step_tokens + 4 * kTileRows + kMaxDecodeRows;
  const int64_t fixed = weight_bytes + step_rows * row_bytes + kFixedScratch;
  const int64_t kv_page = DevicePages::KvPageBytes(shape);
  const int64_t index_page = DevicePages::IndexPageBytes(shape);
  // A step's own blocks (of every context one begun at either end), and what one row may select.
  const int64_t least_kv_pages =
      (BlocksOf(sizes.step_tokens) + 2 * sizes.step_contexts) * c.num_layers +
      std::min<int64_t>(kAdaptiveWidening * budget(), kernels::kMaxWidenedTopk) * c.num_kv_heads;
  const int64_t max_blocks = BlocksOf(c.max_positions) + 1;
  const int64_t least = fixed + least_kv_pages * kv_page + max_blocks * index_page;
  if (limit < least) {
    return Error(absl::StatusCode::kResourceExhausted, "DEVICE_MEMORY_TOO_SMALL",
                 fmt::format("{} bytes of the GPU's memory are too little for this model: at least "
                             "{} are needed for weights, a step, and the index keys of one context",
                             limit, least),
                 {{"needed_bytes", fmt::to_string(least)}, {"limit_bytes", fmt::to_string(limit)}});
  }
  // Index keys of open contexts must be here, keys and values need not.
  const int64_t cache = limit - fixed;
  const int64_t block_bytes = kv_page * c.num_layers + index_page;
  const int64_t index_pages = std::max(cache / block_bytes, max_blocks);
  const int64_t kv_pages = std::min((cache - index_pages * index_page) / kv_page,
                                    int64_t{INT_MAX} / (kBlockTokens * c.num_kv_heads));
  std::vector<bool> sparse_layers;
  for (int layer = 0; layer < c.num_layers; ++layer) sparse_layers.push_back(sparse(layer));
  LECTERN_ASSIGN_OR_RETURN(weights_, UploadWeights(device_.get(), checkpoint(), sparse_layers));
  LECTERN_ASSIGN_OR_RETURN(
      pages_, DevicePages::Create(
                  device_.get(), shape,
                  {.kv_pages = kv_pages, .index_pages = index_pages, .max_blocks = max_blocks}));
  return absl::OkStatus();
}

std::optional<DeviceUse> DeviceDecoder::device_use() const {
  const BlockPool::Usage kv = pages_->KvUsage();
  return DeviceUse{
      .name = device_->Name(),
      .memory_bytes = weights_->bytes + pages_->bytes(),
      .context_tokens =
          std::min(pages_->kv_pages() / config().num_layers, pages_->index_pages()) * kBlockTokens,
      .index_pages = pages_->index_pages(),
      .kv_pages = kv.capacity_slots,
      .kv_pages_used = kv.used_slots,
      .page_hits = kv.hits,
      .page_misses = kv.misses,
      .replayed_steps = replayed_steps_.load(std::memory_order_relaxed),
      .launched_steps = launched_steps_.load(std::memory_order_relaxed)};
}

std::vector<SegmentResult> DeviceDecoder::Step(std::span<const StepSegment> segments) {
  std::vector<SegmentResult> results(segments.size());
  if (segments.empty()) return results;
  if (!broken_.ok()) {
    for (SegmentResult& result : results) result.status = broken_;
    return results;
  }
  arena_.Reset();
  pages_->Begin(&arena_);
  std::vector<DevicePages::Mirror*> mirrors(segments.size());
  for (size_t i = 0; i < segments.size(); ++i) {
    Context* const context = segments[i].context;
    if (memory_ == nullptr) memory_ = context->memory();
    LECTERN_CHECK(memory_ == context->memory());
    absl::StatusOr<DevicePages::Mirror*> mirror =
        pages_->Prepare(context, static_cast<int32_t>(segments[i].tokens.size()));
    if (mirror.ok()) {
      mirrors[i] = *mirror;
    } else {
      results[i].status = mirror.status();
    }
  }
  rows_.LayOut(segments, &results);
  rows_.PadDecodeRows(FormRows(rows_.decode_rows()));
  parts_.clear();
  for (const Part& part : rows_.parts()) {
    parts_.push_back({.part = &part, .mirror = mirrors[part.segment - segments.data()]});
  }
  absl::Status status = parts_.empty() ? absl::OkStatus() : Run();
  // Everything enqueued has ended then, whether or not the step went well.
  if (absl::Status finished = device_->Synchronize(); status.ok()) status = finished;
  if (!status.ok()) {
    for (const Part& part : rows_.parts()) {
      if (part.result->status.ok()) part.result->status = status;
    }
    if (status.code() == absl::StatusCode::kInternal) broken_ = status;
  } else if (!parts_.empty()) {
    status = WriteBack();
    Observe();
    CountSelected();
    for (const Part& part : rows_.parts()) {
      if (part.result->status.ok()) part.segment->context->Advance(part.rows);
    }
  }
  pages_->End();
  return results;
}

absl::Status DeviceDecoder::Run() {
  resident_ = true;
  for (const PartState& state : parts_) resident_ = resident_ && state.mirror->missing() == 0;
  LECTERN_RETURN_IF_ERROR(PlanParts());
  LECTERN_RETURN_IF_ERROR(GrowBuffers());
  LECTERN_RETURN_IF_ERROR(FillInput());
  // Behind all that takes pinned memory: what has its address in a call has it in the next step.
  for (const PartState& state : parts_) LECTERN_RETURN_IF_ERROR(pages_->FlushTables(state.mirror));
  bool replayed = false;
  if (replay_ && resident_ && decode_only()) {
    LECTERN_ASSIGN_OR_RETURN(replayed, device_->Replayable([this] { return RunLayers(); }));
  } else {
    LECTERN_RETURN_IF_ERROR(RunLayers());
  }
  if (decode_only()) (replayed ? replayed_steps_ : launched_steps_).fetch_add(1);
  return absl::OkStatus();
}

absl::Status DeviceDecoder::RunLayers() {
  LECTERN_RETURN_IF_ERROR(device_->ToDevice(input_memory_.get(), host_input_, input_bytes_));
  LECTERN_RETURN_IF_ERROR(device_->Embed({.ids = input_.ids,
                                          .table = weights_->embedding.data.get(),
                                          .x = x_.get(),
                                          .rows = rows_.rows(),
                                          .width = config().hidden_size,
                                          .vocabulary = config().vocab_size}));
  // Nobody attends in rows of tiles without a token, nor in those of a part that fails midway.
  if (!decode_only() || !resident_) {
    LECTERN_RETURN_IF_ERROR(
        device_->Clear(attended_.get(), rows_.rows() * q_width() * int64_t{sizeof(Bf16)}));
  }
  for (int layer = 0; layer < config().num_layers; ++layer) {
    LECTERN_RETURN_IF_ERROR(RunLayer(layer));
  }
  return ComputeLogits();
}

absl::Status DeviceDecoder::Norm(const DeviceArray<float>& gain, const int32_t* x_rows,
                                 int64_t rows, Bf16* y) {
  const ModelConfig& c = config();
  return device_->RmsNorm(
      {.x = x_.get(),
       .x_stride = c.hidden_size,
       .x_rows = x_rows,
       .w = gain.get(),
       .y = y,
       .y_stride = c.hidden_size,
       .rows = rows,
       .hidden = c.hidden_size,
       .eps = static_cast<float>(c.rms_norm_eps),
       .gain = c.gemma_norm ? kernels::NormGain::kGemma : kernels::NormGain::kPlain});
}

absl::Status DeviceDecoder::Project(const DeviceMatrix& matrix, const Bf16* x, float* y, bool add) {
  const int64_t tile_rows = rows_.first_decode_row();
  Device::Product product = {.x = x,
                             .w = matrix.data.get(),
                             .y = y,
                             .rows = tile_rows,
                             .n = matrix.n,
                             .k = matrix.k,
                             .add = add};
  if (tile_rows > 0) LECTERN_RETURN_IF_ERROR(device_->MultiplyTiles(product));
  if (rows_.decode_rows() == 0) return absl::OkStatus();
  product.x += tile_rows * matrix.k;
  product.y += tile_rows * matrix.n;
  product.rows = rows_.decode_rows();
  return device_->MultiplyRows(product);
}

absl::Status DeviceDecoder::RunLayer(int layer_number) {
  const DeviceLayer& layer = weights_->layers[layer_number];
  const int64_t rows = rows_.rows();
  LECTERN_RETURN_IF_ERROR(Norm(layer.input_norm, nullptr, rows, normed_.get()));
  LECTERN_RETURN_IF_ERROR(Project(layer.qkv, normed_.get(), projected_.get(), /*add=*/false));
  LECTERN_RETURN_IF_ERROR(SplitHeads(layer_number));
  LECTERN_RETURN_IF_ERROR(CopyBack(&rows_out_, layer_number));
  LECTERN_RETURN_IF_ERROR(Attend(layer_number));
  LECTERN_RETURN_IF_ERROR(Project(layer.o, attended_.get(), x_.get(), /*add=*/true));
  LECTERN_RETURN_IF_ERROR(Norm(layer.post_attention_norm, nullptr, rows, normed_.get()));
  LECTERN_RETURN_IF_ERROR(Project(layer.gate_up, normed_.get(), projected_.get(), /*add=*/false));
  LECTERN_RETURN_IF_ERROR(device_->SwiGlu({.gate_up = projected_.get(),
                                           .y = activated_.get(),
                                           .rows = rows,
                                           .cols = config().intermediate_size}));
  return Project(layer.down, activated_.get(), x_.get(), /*add=*/true);
}

absl::Status DeviceDecoder::SplitHeads(int layer_number) {
  const ModelConfig& c = config();
  const DeviceLayer& layer = weights_->layers[layer_number];
  const int64_t rows = rows_.rows();
  Bf16* stored = stored_.get() + layer_number * rows * stored_width();
  return device_->HeadNormRope(
      {.x = projected_.get(),
       .x_stride = layer.qkv.n,
       .rows = rows,
       .heads = c.num_heads,
       .kv_heads = c.num_kv_heads,
       .dim = c.head_dim,
       .index_heads = c.num_kv_heads,
       .index_dim = c.sparse.index_dim,
       .rotary_dim = c.rotary_dim,
       .q_gain = layer.q_norm.get(),
       .k_gain = layer.k_norm.get(),
       .index_q_gain = layer.index_q_norm.get(),
       .index_k_gain = layer.index_k_norm.get(),
       .eps = static_cast<float>(c.rms_norm_eps),
       .gain = c.gemma_norm ? kernels::NormGain::kGemma : kernels::NormGain::kPlain,
       .cos = input_.cos,
       .sin = input_.sin,
       .q = q(layer_number),
       .index_q = index_q_.get(),
       .k = stored,
       .v = stored + rows * c.kv_width(),
       .index_k = stored + 2 * rows * c.kv_width(),
       .kv_pages = input_.kv_pages + layer_number * rows,
       .index_pages = input_.index_pages,
       .slots = input_.slots,
       .k_cache = pages_->k(),
       .v_cache = pages_->v(),
       .index_cache = pages_->index_keys(layer_number)});
}

absl::Status DeviceDecoder::CopyBack(Outgoing* out, int layer) {
  const int64_t bytes = (layer + 1 - out->sent) * out->layer_bytes;
  if (bytes < kWorthACopy && layer + 1 < config().num_layers) return absl::OkStatus();
  const int64_t at = out->sent * out->layer_bytes;
  out->sent = layer + 1;
  return device_->ToHostMeanwhile(out->to + at, out->from + at, bytes);
}

absl::Status DeviceDecoder::ComputeLogits() {
  const ModelConfig& c = config();
  const int64_t asking = static_cast<int64_t>(asking_rows_.size());
  if (asking == 0) return absl::OkStatus();
  LECTERN_RETURN_IF_ERROR(Norm(weights_->final_norm, input_.asking, asking, last_.get()));
  const DeviceMatrix& head = weights_->lm_head();
  for (int64_t first = 0; first < asking; first += kMaxDecodeRows) {
    LECTERN_RETURN_IF_ERROR(
        device_->MultiplyRows({.x = last_.get() + first * head.k,
                               .w = head.data.get(),
                               .y = logits_.get() + first * head.n,
                               .rows = std::min<int64_t>(kMaxDecodeRows, asking - first),
                               .n = head.n,
                               .k = head.k,
                               .add = false}));
  }
  return ToHost(host_logits_, logits_.get(), asking * c.vocab_size);
}

// The new tokens' bytes into the contexts' tails, the source of truth; logits to their askers.
absl::Status DeviceDecoder::WriteBack() {
  const ModelConfig& c = config();
  const int64_t rows = rows_.rows();
  std::vector<Context::Rows> layers(static_cast<size_t>(c.num_layers));
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    if (!part.result->status.ok()) continue;
    for (int layer = 0; layer < c.num_layers; ++layer) {
      const auto* stored =
          reinterpret_cast<const Bf16*>(rows_out_.to + layer * rows_out_.layer_bytes);
      layers[layer] = {
          .first_position = part.first_position,
          .count = part.rows,
          .k = stored + part.first_row * c.kv_width(),
          .k_stride = c.kv_width(),
          .v = stored + (rows + part.first_row) * c.kv_width(),
          .v_stride = c.kv_width(),
          .index_k = stored + 2 * rows * c.kv_width() + part.first_row * c.sparse.index_dim,
          .index_k_stride = c.sparse.index_dim};
    }
    part.segment->context->WriteLayers(layers);
    pages_->CountWritten(state.mirror, part.first_position, part.rows);
  }
  for (size_t i = 0; i < asking_.size(); ++i) {
    const float* logits = host_logits_ + static_cast<int64_t>(i) * c.vocab_size;
    const auto& [part, row] = asking_[i];
    if (row >= part->rows - part->segment->logit_rows && part->result->status.ok()) {
      part->result->logits.insert(part->result->logits.end(), logits, logits + c.vocab_size);
    }
  }
  return absl::OkStatus();
}

void DeviceDecoder::Observe() {
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    const int32_t observed = part.rows - state.observed_from;
    for (int layer = 0; observed > 0 && layer < config().num_layers; ++layer) {
      if (!part.result->status.ok()) break;
      const Observed& seen = state.observed[layer];
      part.result->status = part.segment->observer->OnLayer(
          {.layer = layer,
           .context = part.segment->context,
           .rows = observed,
           .positions = rows_.positions().data() + part.first_row + state.observed_from,
           .q = seen.q,
           .q_stride = q_width(),
           .scale = scale(),
           .slots = state.slots,
           .selected = state.widens ? state.widened[layer] + int64_t{state.observed_from} *
                                                                 config().num_kv_heads * state.slots
                                    : seen.selected,
           .block_lse = seen.block_lse,
           .lse = seen.lse,
           .index_lse_visible = seen.index_lse_visible,
           .index_lse_selected = seen.index_lse_selected});
    }
  }
}

void DeviceDecoder::CountSelected() {
  const int32_t heads = config().num_kv_heads;
  const int64_t selections = int64_t{heads} * config().num_layers;
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    const std::span<SelectionCounts> counts = part.result->selected;
    for (const int32_t* selected : state.widened) {
      CountSelections(std::span(selected, static_cast<size_t>(part.rows * heads * state.slots)),
                      heads, state.slots, budget(), counts);
    }
    for (int32_t i = 0; !state.widens && i < part.rows; ++i) {
      const int64_t seen = (part.first_position + i) / kBlockTokens + 1;
      counts[i] = {.selections = selections,
                   .blocks = std::min<int64_t>(budget(), seen) * selections};
    }
  }
}

}  // namespace lectern::engine
