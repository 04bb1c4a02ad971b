// What a step needs before its first layer: who widens, who is looked at, where everything lies.
#include <algorithm>
#include <bit>
#include <climits>

#include "engine/device/device_decoder.h"
#include "engine/error/check.h"
#include "engine/error/status_macros.h"
#include "kernels/rope/rope_table.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

constexpr int64_t kTileRows = StepRows::kTileRows;
// Rows that the decode kernels take of one part at a time: bounds the scratch.
constexpr int32_t kPieceRows = 64;
// Bounds of positions move by so many blocks at a time: one that moved with every token would make
// every step another form (Device::Replayable).
constexpr int64_t kBoundBlocks = 64;
// Numbers of decode rows that are forms of their own: all up to this, and so many between any power
// of two and the next, about.
constexpr uint64_t kFormRows = 8;
static_assert(kMaxDecodeRows % kFormRows == 0);

}  // namespace

// Arrays of one step, at the same place in pinned and in device memory.
class DeviceDecoder::Carver {
 public:
  Carver(std::byte* host, std::byte* device, int64_t bytes)
      : host_(host), device_(device), bytes_(bytes) {}
  template <typename T>
  T* Take(int64_t count, T** device) {
    T* host = reinterpret_cast<T*>(host_ + used_);
    *device = reinterpret_cast<T*>(device_ + used_);
    used_ += Aligned(count * static_cast<int64_t>(sizeof(T)));
    LECTERN_CHECK(used_ <= bytes_);
    return host;
  }
  static int64_t Aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }
  int64_t used() const { return used_; }

 private:
  std::byte* host_;
  std::byte* device_;
  int64_t bytes_;
  int64_t used_ = 0;
};

// 1 to 8, 10 to 16 by twos, 20 to 32 by fours, 40 to 64 by eights.
int64_t DeviceDecoder::FormRows(int64_t decode_rows) {
  const auto rows = static_cast<uint64_t>(decode_rows);
  const uint64_t unit = std::max<uint64_t>(1, std::bit_ceil(rows) / kFormRows);
  return static_cast<int64_t>((rows + unit - 1) / unit * unit);
}

int32_t DeviceDecoder::PositionBound(int64_t position) {
  static_assert(kBoundBlocks == DevicePages::kTableUnit, "no bound is beyond the tables");
  constexpr int64_t unit = kBoundBlocks * kBlockTokens;
  return static_cast<int32_t>((position / unit + 1) * unit - 1);
}

// Who widens, who is looked at, and into which pieces that falls.
absl::Status DeviceDecoder::PlanParts() {
  const ModelConfig& c = config();
  pieces_.clear();
  widened_pieces_.clear();
  asking_.clear();
  asking_rows_.clear();
  decode_observed_ = any_plain_decode_ = false;
  const auto padding = static_cast<int32_t>(rows_.rows() - rows_.first_padding_row());
  decode_spans_ = padding;
  decode_region_.clear();
  decode_seen_.clear();
  // Of decode rows alone all are asked if one is: the others' logits cost next to nothing.
  const bool all_asked =
      decode_only() && std::any_of(parts_.begin(), parts_.end(), [](const PartState& state) {
        return state.part->segment->logit_rows > 0;
      });
  for (PartState& state : parts_) {
    const StepSegment& segment = *state.part->segment;
    const int32_t rows = state.part->rows;
    const int64_t last = state.part->first_position + rows - 1;
    state.widens = segment.widen_below > 0 && BlocksOf(last + 1) > budget();
    state.slots = state.widens
                      ? std::min<int32_t>(kAdaptiveWidening * budget(), kernels::kMaxWidenedTopk)
                      : budget();
    state.observed_from =
        segment.observer != nullptr ? std::min(segment.observed_from, rows) : rows;
    for (int32_t row = all_asked ? 0 : rows - segment.logit_rows; row < rows; ++row) {
      asking_.push_back({.part = state.part, .row = row});
      asking_rows_.push_back(static_cast<int32_t>(state.part->first_row) + row);
    }
    if (!segment.tiled) {
      decode_spans_ += (rows + SpanRows() - 1) / SpanRows();
      any_plain_decode_ = any_plain_decode_ || !state.widens;
    }
    if (state.widens) {
      for (int layer = 0; layer < c.num_layers; ++layer) {
        state.widened.push_back(arena_.Take<int32_t>(int64_t{rows} * c.num_kv_heads * state.slots));
      }
    }
    const auto cut = [&](int32_t from, int32_t to, bool observed, std::vector<Piece>* pieces) {
      for (int32_t first = from; first < to; first += kPieceRows) {
        pieces->push_back({.state = &state,
                           .first = first,
                           .rows = std::min(kPieceRows, to - first),
                           .observed = observed,
                           .request = nullptr});
      }
    };
    if (state.widens) {
      cut(0, state.observed_from, false, &widened_pieces_);
      cut(state.observed_from, rows, true, &widened_pieces_);
    } else if (segment.tiled) {
      cut(state.observed_from, rows, true, &pieces_);
    }
    if (state.observed_from < rows) LECTERN_RETURN_IF_ERROR(MakeRoomForObserved(&state));
  }
  for (int64_t row = rows_.first_padding_row(); all_asked && row < rows_.rows(); ++row) {
    asking_rows_.push_back(static_cast<int32_t>(row));
  }
  return absl::OkStatus();
}

// Where the host gets to know what an observed part did, [layers].
absl::Status DeviceDecoder::MakeRoomForObserved(PartState* state) {
  const ModelConfig& c = config();
  const Part& part = *state->part;
  const int64_t observed = part.rows - state->observed_from;
  const auto make = [&](int64_t rows, int64_t slots) {
    return Observed{.q = arena_.Take<Bf16>(rows * q_width()),
                    .selected = arena_.Take<int32_t>(rows * c.num_kv_heads * slots),
                    .block_lse = arena_.Take<float>(rows * c.num_heads * slots),
                    .lse = arena_.Take<float>(rows * c.num_heads),
                    .index_lse_visible = arena_.Take<float>(rows * c.num_kv_heads),
                    .index_lse_selected = arena_.Take<float>(rows * c.num_kv_heads)};
  };
  if (part.segment->tiled || state->widens) {
    for (int layer = 0; layer < c.num_layers; ++layer) {
      state->observed.push_back(make(observed, state->slots));
    }
    return absl::OkStatus();
  }
  // The decode rows are copied together, whoever is observed.
  if (!decode_observed_) LECTERN_RETURN_IF_ERROR(MakeRoomForDecodeObserved());
  const int64_t row = part.first_row - rows_.first_decode_row() + state->observed_from;
  for (const Observed& r : decode_region_) {
    state->observed.push_back({.q = r.q + row * q_width(),
                               .selected = r.selected + row * c.num_kv_heads * budget(),
                               .block_lse = r.block_lse + row * c.num_heads * budget(),
                               .lse = r.lse + row * c.num_heads,
                               .index_lse_visible = r.index_lse_visible + row * c.num_kv_heads,
                               .index_lse_selected = r.index_lse_selected + row * c.num_kv_heads});
  }
  return absl::OkStatus();
}

// All decode rows leave theirs in one region, a layer after the other, on the device and for the
// host alike.
absl::Status DeviceDecoder::MakeRoomForDecodeObserved() {
  const ModelConfig& c = config();
  const int64_t rows = rows_.decode_rows();
  const auto bytes = [&](int64_t count) {
    const int64_t pairs = count * c.num_kv_heads, heads = count * c.num_heads;
    return Carver::Aligned(count * q_width() * int64_t{sizeof(Bf16)}) +
           Carver::Aligned(4 * pairs * budget()) + Carver::Aligned(4 * heads * budget()) +
           Carver::Aligned(4 * heads) + 2 * Carver::Aligned(4 * pairs);
  };
  // Growing moves the memory: seldom.
  const auto most = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)));
  LECTERN_RETURN_IF_ERROR(seen_memory_.Grow(device_.get(), c.num_layers * bytes(most)));
  seen_out_ = {.from = seen_memory_.get(),
               .to = arena_.Take<std::byte>(c.num_layers * bytes(rows)),
               .layer_bytes = bytes(rows),
               .sent = 0};
  for (int layer = 0; layer < c.num_layers; ++layer) {
    const int64_t at = layer * seen_out_.layer_bytes;
    Carver carver(seen_out_.to + at, seen_memory_.get() + at, seen_out_.layer_bytes);
    Observed& host = decode_region_.emplace_back();
    Observed& device = decode_seen_.emplace_back();
    host.q = carver.Take(rows * q_width(), &device.q);
    host.selected = carver.Take(rows * c.num_kv_heads * budget(), &device.selected);
    host.block_lse = carver.Take(rows * c.num_heads * budget(), &device.block_lse);
    host.lse = carver.Take(rows * c.num_heads, &device.lse);
    host.index_lse_visible = carver.Take(rows * c.num_kv_heads, &device.index_lse_visible);
    host.index_lse_selected = carver.Take(rows * c.num_kv_heads, &device.index_lse_selected);
  }
  decode_observed_ = true;
  return absl::OkStatus();
}

absl::Status DeviceDecoder::GrowBuffers() {
  const ModelConfig& c = config();
  const int64_t rows = rows_.rows();
  int64_t widest = 0;
  for (const DeviceLayer& layer : weights_->layers) {
    widest = std::max({widest, layer.qkv.n, layer.gate_up.n});
  }
  const int64_t taken = std::max<int64_t>(kMaxDecodeRows, kPieceRows);
  const int64_t pairs = taken * c.num_kv_heads;
  const int64_t stride = pages_->table_stride();
  const int64_t widest_slots = kernels::kMaxWidenedTopk;
  LECTERN_RETURN_IF_ERROR(x_.Grow(device_.get(), rows * c.hidden_size));
  LECTERN_RETURN_IF_ERROR(normed_.Grow(device_.get(), rows * c.hidden_size));
  LECTERN_RETURN_IF_ERROR(projected_.Grow(device_.get(), rows * widest));
  LECTERN_RETURN_IF_ERROR(q_.Grow(device_.get(), rows * q_width()));
  LECTERN_RETURN_IF_ERROR(index_q_.Grow(device_.get(), rows * index_q_width()));
  LECTERN_RETURN_IF_ERROR(stored_.Grow(device_.get(), rows * stored_width() * c.num_layers));
  LECTERN_RETURN_IF_ERROR(attended_.Grow(device_.get(), rows * q_width()));
  LECTERN_RETURN_IF_ERROR(activated_.Grow(device_.get(), rows * c.intermediate_size));
  LECTERN_RETURN_IF_ERROR(selected_.Grow(device_.get(), rows * c.num_kv_heads * budget()));
  LECTERN_RETURN_IF_ERROR(scores_.Grow(device_.get(), pairs * stride));
  LECTERN_RETURN_IF_ERROR(lse_.Grow(device_.get(), taken * c.num_heads));
  LECTERN_RETURN_IF_ERROR(block_lse_.Grow(device_.get(), taken * c.num_heads * widest_slots));
  if (decode_observed_ || !pieces_.empty() || !widened_pieces_.empty()) {
    LECTERN_RETURN_IF_ERROR(mass_block_lse_.Grow(device_.get(), pairs * stride));
    LECTERN_RETURN_IF_ERROR(mass_block_max_.Grow(device_.get(), pairs * stride));
    LECTERN_RETURN_IF_ERROR(mass_visible_.Grow(device_.get(), pairs));
    LECTERN_RETURN_IF_ERROR(mass_selected_.Grow(device_.get(), pairs));
    LECTERN_RETURN_IF_ERROR(wide_selected_.Grow(device_.get(), pairs * widest_slots));
    LECTERN_RETURN_IF_ERROR(unused_out_.Grow(device_.get(), taken * q_width()));
  }
  LECTERN_RETURN_IF_ERROR(part_sequence_.Grow(device_.get(), 1));
  const int64_t asking = static_cast<int64_t>(asking_rows_.size());
  const auto most_asking = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(asking)));
  LECTERN_RETURN_IF_ERROR(last_.Grow(device_.get(), most_asking * c.hidden_size));
  LECTERN_RETURN_IF_ERROR(logits_.Grow(device_.get(), most_asking * c.vocab_size));
  host_logits_ = arena_.Take<float>(asking * c.vocab_size);
  const int64_t layer_bytes = rows * stored_width() * int64_t{sizeof(Bf16)};
  rows_out_ = {.from = reinterpret_cast<const std::byte*>(stored_.get()),
               .to = arena_.Take<std::byte>(c.num_layers * layer_bytes),
               .layer_bytes = layer_bytes,
               .sent = 0};
  return absl::OkStatus();
}

int64_t DeviceDecoder::SequencesMost() const {
  return 2 * static_cast<int64_t>(parts_.size()) + 1 + rows_.tiles();
}

// Few enough that scores are computed the same way however many rows a part has.
int32_t DeviceDecoder::SpanRows() const {
  return std::max(1, kernels::kMostNarrowColumns / config().num_kv_heads);
}

absl::Status DeviceDecoder::FillInput() {
  const ModelConfig& c = config();
  const int64_t rows = rows_.rows();
  const int64_t angles = c.rotary_dim / 2;
  const int64_t pieces = static_cast<int64_t>(pieces_.size() + widened_pieces_.size());
  const int64_t sequences_most = SequencesMost();
  const int64_t arrays = 20;
  const int64_t bytes =
      rows * 4 * (9 + c.num_layers + 2 * angles) +
      sequences_most * static_cast<int64_t>(sizeof(kernels::PrefillSequence)) +
      decode_spans_ * static_cast<int64_t>(sizeof(kernels::DecodeSpan)) +
      (pieces + decode_spans_) * static_cast<int64_t>(sizeof(kernels::IndexMassRequest)) +
      arrays * 512;
  LECTERN_RETURN_IF_ERROR(input_memory_.Grow(device_.get(), bytes));
  host_input_ = arena_.Take<std::byte>(bytes);
  Carver carver(host_input_, input_memory_.get(), bytes);
  CarveRows(&carver);
  CarveSequences(&carver);
  CarveDecodeRows(&carver);
  CarveMass(&carver);
  int32_t* asking = carver.Take(static_cast<int64_t>(asking_rows_.size()), &input_.asking);
  std::copy(asking_rows_.begin(), asking_rows_.end(), asking);
  input_bytes_ = carver.used();
  return absl::OkStatus();
}

// The tokens, and where their keys and values go.
void DeviceDecoder::CarveRows(Carver* carver) {
  const ModelConfig& c = config();
  const int64_t rows = rows_.rows();
  const int64_t angles = c.rotary_dim / 2;
  int32_t* ids = carver->Take(rows, &input_.ids);
  int32_t* positions = carver->Take(rows, &input_.positions);
  int32_t* slots = carver->Take(rows, &input_.slots);
  int32_t* index_pages = carver->Take(rows, &input_.index_pages);
  int32_t* iota = carver->Take(rows, &input_.iota);
  int32_t* row_contexts = carver->Take(rows, &input_.row_contexts);
  int32_t* kv_pages = carver->Take(rows * c.num_layers, &input_.kv_pages);
  std::fill_n(ids, rows, -1);
  std::copy_n(rows_.positions().data(), rows, positions);
  std::fill_n(slots, rows, 0);
  // A row without a token attends to the first block of some context, if to anything.
  std::fill_n(row_contexts, rows, parts_[0].mirror->number());
  std::fill_n(index_pages, rows, -1);
  std::fill_n(kv_pages, rows * c.num_layers, -1);
  for (int64_t row = 0; row < rows; ++row) iota[row] = static_cast<int32_t>(row);
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    std::fill_n(row_contexts + part.first_row, part.rows, state.mirror->number());
    for (int32_t i = 0; i < part.rows; ++i) {
      const int64_t row = part.first_row + i;
      const int64_t position = part.first_position + i;
      ids[row] = part.segment->tokens[i];
      slots[row] = static_cast<int32_t>(position % kBlockTokens);
      index_pages[row] = state.mirror->page(0, position / kBlockTokens);
      for (int layer = 0; layer < c.num_layers; ++layer) {
        kv_pages[layer * rows + row] = state.mirror->page(1 + layer, position / kBlockTokens);
      }
    }
  }
  if (angles > 0) {
    kernels::FillRopeTable({.positions = positions,
                            .rows = rows,
                            .rotary_dim = c.rotary_dim,
                            .theta = c.rope_theta,
                            .cos = carver->Take(rows * angles, &input_.cos),
                            .sin = carver->Take(rows * angles, &input_.sin)});
  } else {
    input_.cos = input_.sin = nullptr;
  }
}

// Tiled parts that the prefill kernels take; then the rows of the tiles that they do not, as
// sequences of their own that read nothing: the kernels want every row to belong to one.
void DeviceDecoder::CarveSequences(Carver* carver) {
  const int64_t tile_rows = rows_.first_decode_row();
  const int64_t sequences_most = SequencesMost();
  kernels::PrefillSequence* sequences = carver->Take(sequences_most, &input_.sequences);
  sequences_ = sequence_rows_ = sequence_rows_max_ = sequence_tokens_max_ = 0;
  std::vector<std::pair<int64_t, int64_t>> others;  // rows [first, second)
  int64_t covered = 0;
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    if (!part.segment->tiled || state.widens) continue;
    if (part.first_row > covered) others.emplace_back(covered, part.first_row);
    covered = part.first_row + part.rows;
    sequences[sequences_++] = {
        .row = static_cast<int32_t>(part.first_row),
        .rows = part.rows,
        .first = static_cast<int32_t>(part.first_position),
        .page_begin = static_cast<int32_t>(state.mirror->number() * pages_->context_stride())};
    sequence_rows_ += part.rows;
    sequence_rows_max_ = std::max(sequence_rows_max_, part.rows);
    sequence_tokens_max_ =
        std::max(sequence_tokens_max_, static_cast<int32_t>(part.first_position + part.rows));
  }
  if (tile_rows > covered) others.emplace_back(covered, tile_rows);
  all_sequences_ = sequences_;
  for (const auto& [begin, end] : others) {
    for (int64_t row = begin; row < end; row += kTileRows) {
      LECTERN_CHECK(all_sequences_ < sequences_most);
      sequences[all_sequences_++] = {.row = static_cast<int32_t>(row),
                                     .rows = static_cast<int32_t>(std::min(kTileRows, end - row)),
                                     .first = 0,
                                     .page_begin = 0};
    }
  }
}

void DeviceDecoder::CarveDecodeRows(Carver* carver) {
  const int64_t tile_rows = rows_.first_decode_row();
  kernels::DecodeSpan* spans = carver->Take(std::max<int64_t>(1, decode_spans_), &input_.spans);
  span_rows_ = 0;
  int32_t span = 0;
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    if (part.segment->tiled) continue;
    for (int32_t row = 0; row < part.rows; row += SpanRows()) {
      const int32_t rows = std::min(SpanRows(), part.rows - row);
      spans[span++] = {.first_row = static_cast<int32_t>(part.first_row - tile_rows) + row,
                       .rows = rows,
                       .request = state.mirror->number(),
                       .first_block = 0,
                       .end_block = INT_MAX};
      span_rows_ = std::max(span_rows_, rows);
    }
  }
  // Nothing is scored for a row without a token: no block is before its own.
  for (int64_t row = rows_.first_padding_row(); row < rows_.rows(); ++row) {
    spans[span++] = {.first_row = static_cast<int32_t>(row - tile_rows),
                     .rows = 1,
                     .request = parts_[0].mirror->number(),
                     .first_block = 0,
                     .end_block = INT_MAX};
  }
}

// What coverage is computed for: pieces, then the observed rows of decode parts.
void DeviceDecoder::CarveMass(Carver* carver) {
  const int64_t pieces =
      static_cast<int64_t>(pieces_.size() + widened_pieces_.size()) + decode_spans_;
  kernels::IndexMassRequest* requests =
      carver->Take(std::max<int64_t>(1, pieces), &input_.requests);
  int32_t next = 0;
  for (std::vector<Piece>* list : {&pieces_, &widened_pieces_}) {
    for (Piece& piece : *list) {
      requests[next] = {.first = 0,
                        .count = piece.rows,
                        .page_begin = static_cast<int32_t>(
                            pages_->TableOffset(piece.state->mirror->number(), 0))};
      piece.request = input_.requests + next++;
    }
  }
  decode_requests_ = input_.requests + next;
  decode_position_max_ = 0;
  for (const PartState& state : parts_) {
    const Part& part = *state.part;
    if (part.segment->tiled) continue;
    for (int32_t row = 0; row < part.rows; row += SpanRows()) {
      const int32_t first = std::max(row, state.observed_from);
      const int32_t end = std::min(row + SpanRows(), part.rows);
      requests[next++] = {
          .first = static_cast<int32_t>(part.first_row - rows_.first_decode_row()) + first,
          .count = state.widens ? 0 : std::max(0, end - first),
          .page_begin = static_cast<int32_t>(pages_->TableOffset(state.mirror->number(), 0))};
    }
    decode_position_max_ =
        std::max(decode_position_max_, static_cast<int32_t>(part.first_position) + part.rows - 1);
  }
  for (int64_t row = rows_.first_padding_row(); row < rows_.rows(); ++row) {
    requests[next++] = {.first = 0, .count = 0, .page_begin = 0};
  }
}

}  // namespace lectern::engine
