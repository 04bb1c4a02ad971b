// Select, fetch, attend: one layer's attention of a step on a device.
#include <algorithm>
#include <cmath>

#include "engine/device/device_decoder.h"
#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {

using kernels::Bf16;

float DeviceDecoder::scale() const {
  return 1.0f / std::sqrt(static_cast<float>(config().head_dim));
}

absl::Status DeviceDecoder::Attend(int layer) {
  if (sequences_ > 0) LECTERN_RETURN_IF_ERROR(SelectForTiles(layer));
  if (any_plain_decode_) LECTERN_RETURN_IF_ERROR(SelectForDecode(layer));
  if (!resident_) {
    LECTERN_RETURN_IF_ERROR(AttendFetched(layer));
  } else {
    if (sequences_ > 0) {
      LECTERN_RETURN_IF_ERROR(AttendTiles(layer, input_.sequences, sequences_, sequence_rows_max_,
                                          sequence_rows_, sequence_tokens_max_));
    }
    for (const Piece& piece : pieces_) {
      LECTERN_RETURN_IF_ERROR(ObserveTiles(layer, piece, piece.first, piece.rows));
    }
    if (any_plain_decode_) {
      LECTERN_RETURN_IF_ERROR(AttendDecode(layer, 0, static_cast<int32_t>(rows_.decode_rows())));
    }
    for (const Piece& piece : widened_pieces_) {
      LECTERN_RETURN_IF_ERROR(SelectWidened(layer, piece));
      LECTERN_RETURN_IF_ERROR(AttendWidened(layer, piece, piece.first, piece.rows));
    }
  }
  for (const Piece& piece : pieces_) LECTERN_RETURN_IF_ERROR(ObserveTileMass(layer, piece));
  return decode_observed_ ? ObserveDecode(layer) : absl::OkStatus();
}

// ---- select ----

absl::Status DeviceDecoder::SelectForTiles(int layer) {
  const ModelConfig& c = config();
  kernels::PrefillIndexParams params = {.q = index_q_.get(),
                                        .q_row_stride = index_q_width(),
                                        .keys = pages_->index_keys(layer),
                                        .pages = pages_->index_pages(),
                                        .page_table = pages_->tables(),
                                        .sequences = input_.sequences,
                                        .num_sequences = all_sequences_,
                                        .max_rows = sequence_rows_max_,
                                        .max_tokens = sequence_tokens_max_,
                                        .rows = static_cast<int32_t>(rows_.first_decode_row()),
                                        .heads = c.num_kv_heads,
                                        .dim = c.sparse.index_dim,
                                        .topk = budget(),
                                        .selected = selected_.get(),
                                        .workspace = nullptr,
                                        .splits = 1};
  params.max_rows = std::max(
      params.max_rows, std::min<int32_t>(params.rows, static_cast<int32_t>(StepRows::kTileRows)));
  return device_->PrefillIndex(params);
}

absl::Status DeviceDecoder::SelectForDecode(int layer) {
  const ModelConfig& c = config();
  const int64_t first = rows_.first_decode_row();
  return device_->DecodeScore({.q = index_q_.get() + first * index_q_width(),
                               .keys = pages_->index_keys(layer),
                               .num_pages = pages_->index_pages(),
                               .pages = pages_->tables(),
                               .pages_stride = pages_->context_stride(),
                               .positions = input_.positions + first,
                               .spans = input_.spans,
                               .num_spans = decode_spans_,
                               .span_rows = span_rows_,
                               .heads = c.num_kv_heads,
                               .dim = c.sparse.index_dim,
                               .scores = scores_.get(),
                               .scores_stride = pages_->table_stride()});
}

absl::Status DeviceDecoder::IndexMass(int layer, kernels::IndexMassCudaParams params) {
  const ModelConfig& c = config();
  params.q_row_stride = index_q_width();
  params.keys = pages_->index_keys(layer);
  params.page_table = pages_->tables();
  params.max_position = PositionBound(params.max_position);
  params.heads = c.num_kv_heads;
  params.dim = c.sparse.index_dim;
  params.selected_stride = budget();
  params.block_stride = pages_->table_stride();
  params.block_lse = mass_block_lse_.get();
  return device_->IndexMass(params);
}

absl::Status DeviceDecoder::MassOfPiece(int layer, const Piece& piece, bool selected, bool scores) {
  const Part& part = *piece.state->part;
  const int64_t row = part.first_row + piece.first;
  return IndexMass(layer, {.q = index_q_.get(),
                           .requests = piece.request,
                           .num_requests = 1,
                           .max_count = piece.rows,
                           .rows = input_.iota + row,
                           .positions = input_.positions + row,
                           .listed = piece.rows,
                           .max_position = static_cast<int32_t>(part.first_position + piece.first +
                                                                piece.rows - 1),
                           .selected = selected ? selected_.get() : nullptr,
                           .block_max = scores ? mass_block_max_.get() : nullptr,
                           .lse_visible = mass_visible_.get(),
                           .lse_selected = selected ? mass_selected_.get() : nullptr});
}

absl::Status DeviceDecoder::MassToHost(int layer, const Piece& piece) {
  const PartState& state = *piece.state;
  const Observed& seen = state.observed[layer];
  const int64_t at = int64_t{piece.first - state.observed_from} * config().num_kv_heads;
  const int64_t pairs = int64_t{piece.rows} * config().num_kv_heads;
  LECTERN_RETURN_IF_ERROR(ToHost(seen.index_lse_visible + at, mass_visible_.get(), pairs));
  return ToHost(seen.index_lse_selected + at, mass_selected_.get(), pairs);
}

// The selections of rows that may widen, in wide_selected_; the host gets a copy.
absl::Status DeviceDecoder::SelectWidened(int layer, const Piece& piece) {
  const ModelConfig& c = config();
  PartState& state = *piece.state;
  const int64_t row = state.part->first_row + piece.first;
  LECTERN_RETURN_IF_ERROR(MassOfPiece(layer, piece, /*selected=*/false, /*scores=*/true));
  LECTERN_RETURN_IF_ERROR(device_->WidenSelection({.scores = mass_block_max_.get(),
                                                   .score_stride = pages_->table_stride(),
                                                   .block_lse = mass_block_lse_.get(),
                                                   .block_stride = pages_->table_stride(),
                                                   .lse_visible = mass_visible_.get(),
                                                   .positions = input_.positions + row,
                                                   .rows = nullptr,
                                                   .listed = piece.rows,
                                                   .heads = c.num_kv_heads,
                                                   .first_topk = budget(),
                                                   .topk = state.slots,
                                                   .widen_below = state.part->segment->widen_below,
                                                   .selected = wide_selected_.get(),
                                                   .selected_stride = state.slots,
                                                   .lse_selected = mass_selected_.get()}));
  const int64_t pairs = int64_t{piece.rows} * c.num_kv_heads;
  LECTERN_RETURN_IF_ERROR(
      ToHost(state.widened[layer] + int64_t{piece.first} * c.num_kv_heads * state.slots,
             wide_selected_.get(), pairs * state.slots));
  return piece.observed ? MassToHost(layer, piece) : absl::OkStatus();
}

// ---- attend ----

// By the union of neighbours' blocks, never by the reverse index: which of the two is faster
// depends on the batch, and the bits differ.
absl::Status DeviceDecoder::AttendTiles(int layer, const kernels::PrefillSequence* sequences,
                                        int32_t count, int32_t max_rows, int32_t rows,
                                        int32_t max_tokens) {
  const ModelConfig& c = config();
  const int64_t table = pages_->TableOffset(0, 1 + layer);
  return device_->PrefillAttention({.q = q(layer),
                                    .q_row_stride = q_width(),
                                    .k = pages_->k(),
                                    .v = pages_->v(),
                                    .pages = pages_->kv_pages(),
                                    .page_table = pages_->tables() + table,
                                    .table_entries = pages_->table_entries() - table,
                                    .sequences = sequences,
                                    .num_sequences = count,
                                    .max_rows = max_rows,
                                    .max_tokens = max_tokens,
                                    .rows = rows,
                                    .groups = c.num_kv_heads,
                                    .ratio = c.group_size(),
                                    .dim = c.head_dim,
                                    .topk = budget(),
                                    .scale = scale(),
                                    .selected = selected_.get(),
                                    .out = attended_.get(),
                                    .out_row_stride = q_width(),
                                    .lse = nullptr,
                                    .path = kernels::PrefillPath::kUnion,
                                    .workspace = nullptr});
}

// Decode rows [first, first + rows), by the scores of all.
absl::Status DeviceDecoder::AttendDecode(int layer, int32_t first, int32_t rows) {
  const ModelConfig& c = config();
  const int64_t row = rows_.first_decode_row() + first;
  const int64_t pair = int64_t{first} * c.num_kv_heads, head = int64_t{first} * c.num_heads;
  const Observed seen = decode_observed_ ? decode_seen_[layer] : Observed{};
  return device_->DecodeAttention(
      {.q = q(layer) + row * q_width(),
       .k = pages_->k(),
       .v = pages_->v(),
       .pages = pages_->tables() + pages_->TableOffset(0, 1 + layer),
       .pages_stride = pages_->context_stride(),
       .positions = input_.positions + row,
       .row_requests = input_.row_contexts + row,
       .request_rows = 1,
       .rows = rows,
       .groups = c.num_kv_heads,
       .heads = c.group_size(),
       .dim = c.head_dim,
       .topk = budget(),
       .scale = scale(),
       .scores = scores_.get() + pair * pages_->table_stride(),
       .scores_stride = pages_->table_stride(),
       .chosen = nullptr,
       .selected = decode_observed_ ? seen.selected + pair * budget() : nullptr,
       .out = attended_.get() + row * q_width(),
       .lse = decode_observed_ ? seen.lse + head : nullptr,
       .block_lse = decode_observed_ ? seen.block_lse + head * budget() : nullptr});
}

// Rows of one part by selections that are given, [rows][kv_heads][slots]. What each block weighs
// stays in block_lse_ and lse_.
absl::Status DeviceDecoder::AttendChosen(int layer, const PartState& state, int32_t first,
                                         int32_t rows, const int32_t* chosen, int32_t slots,
                                         Bf16* out) {
  const ModelConfig& c = config();
  const int64_t row = state.part->first_row + first;
  return device_->DecodeAttention({.q = q(layer) + row * q_width(),
                                   .k = pages_->k(),
                                   .v = pages_->v(),
                                   .pages = pages_->tables() + pages_->TableOffset(0, 1 + layer),
                                   .pages_stride = pages_->context_stride(),
                                   .positions = input_.positions + row,
                                   .row_requests = input_.row_contexts + row,
                                   .request_rows = 1,
                                   .rows = rows,
                                   .groups = c.num_kv_heads,
                                   .heads = c.group_size(),
                                   .dim = c.head_dim,
                                   .topk = slots,
                                   .scale = scale(),
                                   .scores = nullptr,
                                   .scores_stride = 0,
                                   .chosen = chosen,
                                   .selected = nullptr,
                                   .out = out,
                                   .lse = lse_.get(),
                                   .block_lse = block_lse_.get()});
}

absl::Status DeviceDecoder::AttendWidened(int layer, const Piece& piece, int32_t first,
                                          int32_t rows) {
  const ModelConfig& c = config();
  const PartState& state = *piece.state;
  const int64_t row = state.part->first_row + first;
  LECTERN_RETURN_IF_ERROR(AttendChosen(
      layer, state, first, rows,
      wide_selected_.get() + int64_t{first - piece.first} * c.num_kv_heads * state.slots,
      state.slots, attended_.get() + row * q_width()));
  if (!piece.observed) return absl::OkStatus();
  return AttendedToHost(layer, state.observed[layer], first - state.observed_from, row, rows,
                        state.slots);
}

// ---- observe ----

absl::Status DeviceDecoder::AttendedToHost(int layer, const Observed& seen, int64_t at, int64_t row,
                                           int64_t rows, int64_t slots) {
  const int64_t heads = config().num_heads;
  LECTERN_RETURN_IF_ERROR(
      ToHost(seen.q + at * q_width(), q(layer) + row * q_width(), rows * q_width()));
  LECTERN_RETURN_IF_ERROR(
      ToHost(seen.block_lse + at * heads * slots, block_lse_.get(), rows * heads * slots));
  return ToHost(seen.lse + at * heads, lse_.get(), rows * heads);
}

// Attention of observed rows of a tile once more, for what each block weighs.
absl::Status DeviceDecoder::ObserveTiles(int layer, const Piece& piece, int32_t first,
                                         int32_t rows) {
  const ModelConfig& c = config();
  const PartState& state = *piece.state;
  const int64_t row = state.part->first_row + first;
  const int32_t* chosen = selected_.get() + row * c.num_kv_heads * budget();
  LECTERN_RETURN_IF_ERROR(
      AttendChosen(layer, state, first, rows, chosen, budget(), unused_out_.get()));
  const Observed& seen = state.observed[layer];
  const int64_t at = first - state.observed_from;
  const int64_t slots = int64_t{c.num_kv_heads} * budget();
  LECTERN_RETURN_IF_ERROR(ToHost(seen.selected + at * slots, chosen, rows * slots));
  return AttendedToHost(layer, seen, at, row, rows, budget());
}

absl::Status DeviceDecoder::ObserveTileMass(int layer, const Piece& piece) {
  LECTERN_RETURN_IF_ERROR(MassOfPiece(layer, piece, /*selected=*/true, /*scores=*/false));
  return MassToHost(layer, piece);
}

// The decode rows are copied together; coverage is computed for those that somebody looks at.
absl::Status DeviceDecoder::ObserveDecode(int layer) {
  const Observed& seen = decode_seen_[layer];
  const int64_t first = rows_.first_decode_row();
  const int64_t rows = rows_.decode_rows();
  // A row that could not be attended to for want of its blocks has chosen them all the same.
  const int32_t* selected =
      resident_ ? seen.selected : selected_.get() + first * config().num_kv_heads * budget();
  LECTERN_RETURN_IF_ERROR(IndexMass(layer, {.q = index_q_.get() + first * index_q_width(),
                                            .requests = decode_requests_,
                                            .num_requests = decode_spans_,
                                            .max_count = span_rows_,
                                            .rows = input_.iota,
                                            .positions = input_.positions + first,
                                            .listed = static_cast<int32_t>(rows),
                                            .max_position = decode_position_max_,
                                            .selected = selected,
                                            .lse_visible = seen.index_lse_visible,
                                            .lse_selected = seen.index_lse_selected}));
  if (!decode_only()) {  // else they were made there
    LECTERN_RETURN_IF_ERROR(device_->WithinDevice(seen.q, q_.get() + first * q_width(),
                                                  rows * q_width() * int64_t{sizeof(Bf16)}));
  }
  return CopyBack(&seen_out_, layer);
}

// ---- fetch ----

// As many rows at a time as there are pages for what they selected. `selected`: host,
// [rows][kv_heads][slots]. attend(first, rows) launches. What cannot be read fails the part alone.
template <typename AttendRows>
absl::Status DeviceDecoder::FetchAndAttend(int layer, PartState* state, const int32_t* selected,
                                           int32_t slots, int32_t rows, const AttendRows& attend) {
  const int64_t row_slots = int64_t{config().num_kv_heads} * slots;
  std::vector<int32_t> blocks;
  std::vector<bool> wanted;
  int32_t count = rows;
  for (int32_t first = 0; first < rows;) {
    count = std::min(count, rows - first);
    wanted.assign(static_cast<size_t>(BlocksOf(state->part->first_position + state->part->rows)),
                  false);
    blocks.clear();
    for (int64_t i = first * row_slots; i < (first + count) * row_slots; ++i) {
      const int32_t block = selected[i];
      if (block < 0 || wanted[block]) continue;
      wanted[block] = true;
      blocks.push_back(block);
    }
    if (count > 1 && static_cast<int64_t>(blocks.size()) > pages_->available_kv_pages()) {
      count = (count + 1) / 2;
      continue;
    }
    std::sort(blocks.begin(), blocks.end());
    const absl::StatusOr<size_t> fetched = pages_->Fetch(state->mirror, layer, blocks);
    if (!fetched.ok()) {
      state->part->result->status = fetched.status();
      return absl::OkStatus();
    }
    if (*fetched < blocks.size()) {
      pages_->Unpin();
      if (count > 1) {
        count = (count + 1) / 2;
        continue;
      }
      state->part->result->status = Error(
          absl::StatusCode::kResourceExhausted, "DEVICE_POOL_FULL",
          "the device has no room for the blocks that one token selected: ask fewer questions at "
          "once or raise --device_memory");
      return absl::OkStatus();
    }
    LECTERN_RETURN_IF_ERROR(pages_->FlushTable(state->mirror, 1 + layer));
    LECTERN_RETURN_IF_ERROR(attend(first, count));
    // The stream keeps the order: what takes a page from here on is copied behind this attention.
    pages_->Unpin();
    first += count;
  }
  return absl::OkStatus();
}

absl::Status DeviceDecoder::AttendFetched(int layer) {
  const ModelConfig& c = config();
  const int64_t row_slots = int64_t{c.num_kv_heads} * budget();
  const int64_t tile_rows = rows_.first_decode_row();
  if (any_plain_decode_) {
    // The choice that DecodeAttention will make of the same scores; nothing widens, so the masses
    // are not looked at.
    LECTERN_RETURN_IF_ERROR(
        device_->WidenSelection({.scores = scores_.get(),
                                 .score_stride = pages_->table_stride(),
                                 .block_lse = scores_.get(),
                                 .block_stride = pages_->table_stride(),
                                 .lse_visible = scores_.get(),
                                 .positions = input_.positions + tile_rows,
                                 .rows = nullptr,
                                 .listed = static_cast<int32_t>(rows_.decode_rows()),
                                 .heads = c.num_kv_heads,
                                 .first_topk = budget(),
                                 .topk = budget(),
                                 .widen_below = 0,
                                 .selected = selected_.get() + tile_rows * row_slots,
                                 .selected_stride = budget(),
                                 .lse_selected = nullptr}));
  }
  auto* selected = arena_.Take<int32_t>(rows_.rows() * row_slots);
  LECTERN_RETURN_IF_ERROR(ToHost(selected, selected_.get(), rows_.rows() * row_slots));
  LECTERN_RETURN_IF_ERROR(device_->Synchronize());
  for (PartState& state : parts_) {
    const Part& part = *state.part;
    if (state.widens || !part.result->status.ok()) continue;
    const int32_t* chosen = selected + part.first_row * row_slots;
    if (!part.segment->tiled) {
      const auto first_row = static_cast<int32_t>(part.first_row - tile_rows);
      LECTERN_RETURN_IF_ERROR(FetchAndAttend(layer, &state, chosen, budget(), part.rows,
                                             [&](int32_t first, int32_t rows) {
                                               return AttendDecode(layer, first_row + first, rows);
                                             }));
      continue;
    }
    LECTERN_RETURN_IF_ERROR(FetchAndAttend(
        layer, &state, chosen, budget(), part.rows,
        [&](int32_t first, int32_t rows) -> absl::Status {
          auto* sequence = arena_.Take<kernels::PrefillSequence>(1);
          *sequence = {.row = static_cast<int32_t>(part.first_row + first),
                       .rows = rows,
                       .first = static_cast<int32_t>(part.first_position + first),
                       .page_begin =
                           static_cast<int32_t>(state.mirror->number() * pages_->context_stride())};
          LECTERN_RETURN_IF_ERROR(device_->ToDevice(part_sequence_.get(), sequence,
                                                    static_cast<int64_t>(sizeof(*sequence))));
          LECTERN_RETURN_IF_ERROR(
              AttendTiles(layer, part_sequence_.get(), 1, rows, rows, sequence->first + rows));
          for (const Piece& piece : pieces_) {
            const int32_t from = std::max(first, piece.first);
            const int32_t to = std::min(first + rows, piece.first + piece.rows);
            if (piece.state != &state || from >= to) continue;
            LECTERN_RETURN_IF_ERROR(ObserveTiles(layer, piece, from, to - from));
          }
          return absl::OkStatus();
        }));
  }
  for (const Piece& piece : widened_pieces_) {
    PartState& state = *piece.state;
    if (!state.part->result->status.ok()) continue;
    LECTERN_RETURN_IF_ERROR(SelectWidened(layer, piece));
    LECTERN_RETURN_IF_ERROR(device_->Synchronize());
    LECTERN_RETURN_IF_ERROR(FetchAndAttend(
        layer, &state, state.widened[layer] + int64_t{piece.first} * c.num_kv_heads * state.slots,
        state.slots, piece.rows, [&](int32_t first, int32_t rows) {
          return AttendWidened(layer, piece, piece.first + first, rows);
        }));
  }
  return absl::OkStatus();
}

}  // namespace lectern::engine
