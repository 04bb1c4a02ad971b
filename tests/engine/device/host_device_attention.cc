// The attention of the host as a device: pages are packed into the CPU kernels' tiles as they are
// needed.
#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/error/check.h"
#include "kernels/block_tile/block_tile.h"
#include "kernels/index_select/index_select.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "tests/engine/device/host_device.h"

namespace lectern::engine {
namespace {

using kernels::Bf16;

// Tiles that the CPU's kernels can read.
class Tiles {
 public:
  Tiles(size_t count, int dim)
      : elements_(kernels::TileElements(dim)),
        memory_(static_cast<Bf16*>(std::aligned_alloc(
            kernels::kTileAlignment,
            std::max<size_t>(count, 1) * static_cast<size_t>(kernels::TileBytes(dim))))) {}
  ~Tiles() { std::free(memory_); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  Bf16* operator[](size_t i) { return memory_ + static_cast<int64_t>(i) * elements_; }

 private:
  const int64_t elements_;
  Bf16* const memory_;
};

// What both attention kernels have in common.
struct Shape {
  const Bf16* q;
  int64_t q_row_stride;
  const Bf16* k;
  const Bf16* v;
  int32_t groups, ratio, dim;
  float scale;
  Bf16* out;
  int64_t out_row_stride;
};

// One row of one group over `blocks`, ascending. block_lse: [blocks][ratio] or null.
void AttendRow(const Shape& s, int64_t row, int32_t position, int group,
               std::span<const int32_t> blocks, const int32_t* pages, float* lse,
               float* block_lse) {
  const kernels::AttentionShape shape{.heads = s.ratio, .dim = s.dim, .scale = s.scale};
  std::vector<float> state(static_cast<size_t>(kernels::AttentionStateFloats(shape, 1)) + 16);
  auto* aligned =
      reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(state.data()) + 63) / 64 * 64);
  Tiles keys(blocks.size(), s.dim), values(blocks.size(), s.dim);
  const kernels::TileRun whole{.first = 0, .count = kernels::kBlockTokens, .dim = s.dim};
  const int32_t zero = 0;
  std::vector<kernels::AttentionBlock> list;
  for (size_t i = 0; i < blocks.size(); ++i) {
    LECTERN_CHECK(pages[blocks[i]] >= 0);
    const int64_t at =
        (int64_t{pages[blocks[i]]} * s.groups + group) * kernels::TileElements(s.dim);
    kernels::PackKeys(whole, s.k + at, s.dim, keys[i]);
    kernels::PackValues(whole, s.v + at, s.dim, values[i]);
    list.push_back({.block = blocks[i],
                    .k = keys[i],
                    .v = values[i],
                    .rows = &zero,
                    .num_rows = 1,
                    .block_lse = block_lse != nullptr ? block_lse + i * s.ratio : nullptr});
  }
  std::vector<float> own_lse(static_cast<size_t>(s.ratio));
  kernels::AttentionTile tile = {
      .rows = 1,
      .state = aligned,
      .q = s.q + row * s.q_row_stride + int64_t{group} * s.ratio * s.dim,
      .q_row_stride = s.q_row_stride,
      .q_head_stride = s.dim,
      .positions = &position,
      .blocks = list.data(),
      .num_blocks = static_cast<int32_t>(list.size()),
      .out = s.out + row * s.out_row_stride + int64_t{group} * s.ratio * s.dim,
      .out_row_stride = s.out_row_stride,
      .out_head_stride = s.dim,
      .lse = own_lse.data()};
  kernels::BeginAttention(shape, &tile, 1);
  kernels::AccumulateAttention(shape, &tile, 1);
  kernels::FinishAttention(shape, &tile, 1);
  if (lse != nullptr) std::copy(own_lse.begin(), own_lse.end(), lse);
}

// One sequence of one group, as the CPU's forward pass does it.
void AttendSequence(const kernels::PrefillAttentionParams& p, const kernels::PrefillSequence& s,
                    int group) {
  constexpr int32_t kRows = kernels::kMaxAttentionRows;
  const int32_t blocks = (s.first + s.rows - 1) / kernels::kBlockTokens + 1;
  const int32_t row_tiles = (s.rows + kRows - 1) / kRows;
  // Which rows of each tile of rows chose each block.
  std::vector<std::vector<int32_t>> rows_of(static_cast<size_t>(row_tiles) * blocks);
  std::vector<bool> wanted(static_cast<size_t>(blocks), false);
  std::vector<int32_t> positions;
  for (int32_t row = 0; row < s.rows; ++row) {
    positions.push_back(s.first + row);
    const int32_t* selected = p.selected + (int64_t{s.row + row} * p.groups + group) * p.topk;
    for (int i = 0; i < p.topk && selected[i] >= 0; ++i) {
      LECTERN_CHECK(selected[i] <= positions.back() / kernels::kBlockTokens);
      rows_of[static_cast<size_t>(row / kRows) * blocks + selected[i]].push_back(row % kRows);
      wanted[selected[i]] = true;
    }
  }
  Tiles keys(static_cast<size_t>(blocks), p.dim), values(static_cast<size_t>(blocks), p.dim);
  const kernels::TileRun whole{.first = 0, .count = kernels::kBlockTokens, .dim = p.dim};
  for (int32_t block = 0; block < blocks; ++block) {
    if (!wanted[block]) continue;
    const int64_t page = p.page_table[s.page_begin + block];
    LECTERN_CHECK(page >= 0 && page < p.pages);
    const int64_t at = (page * p.groups + group) * kernels::TileElements(p.dim);
    kernels::PackKeys(whole, p.k + at, p.dim, keys[static_cast<size_t>(block)]);
    kernels::PackValues(whole, p.v + at, p.dim, values[static_cast<size_t>(block)]);
  }
  const kernels::AttentionShape shape{.heads = p.ratio, .dim = p.dim, .scale = p.scale};
  const int64_t state_floats = (kernels::AttentionStateFloats(shape, kRows) + 15) / 16 * 16;
  std::vector<float> state(static_cast<size_t>(state_floats * row_tiles) + 16);
  auto* aligned =
      reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(state.data()) + 63) / 64 * 64);
  std::vector<kernels::AttentionTile> tiles;
  std::vector<std::vector<kernels::AttentionBlock>> lists(static_cast<size_t>(row_tiles));
  for (int32_t tile = 0; tile < row_tiles; ++tile) {
    for (int32_t block = 0; block < blocks; ++block) {
      const std::vector<int32_t>& rows = rows_of[static_cast<size_t>(tile) * blocks + block];
      if (rows.empty()) continue;
      lists[tile].push_back({.block = block,
                             .k = keys[static_cast<size_t>(block)],
                             .v = values[static_cast<size_t>(block)],
                             .rows = rows.data(),
                             .num_rows = static_cast<int32_t>(rows.size())});
    }
    const int64_t row = s.row + tile * kRows;
    const int64_t column = int64_t{group} * p.ratio * p.dim;
    tiles.push_back({.rows = std::min(kRows, s.rows - tile * kRows),
                     .state = aligned + tile * state_floats,
                     .q = p.q + row * p.q_row_stride + column,
                     .q_row_stride = p.q_row_stride,
                     .q_head_stride = p.dim,
                     .positions = positions.data() + tile * kRows,
                     .blocks = lists[tile].data(),
                     .num_blocks = static_cast<int32_t>(lists[tile].size()),
                     .out = p.out + row * p.out_row_stride + column,
                     .out_row_stride = p.out_row_stride,
                     .out_head_stride = p.dim});
  }
  kernels::BeginAttention(shape, tiles.data(), row_tiles);
  kernels::AccumulateAttention(shape, tiles.data(), row_tiles);
  kernels::FinishAttention(shape, tiles.data(), row_tiles);
}

// The own block and the best of the earlier ones, ascending.
std::vector<int32_t> Choose(const float* scores, int32_t own, int32_t topk) {
  std::vector<int32_t> order(static_cast<size_t>(own));
  for (int32_t block = 0; block < own; ++block) order[block] = block;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  order.resize(static_cast<size_t>(std::min(own, topk - 1)));
  order.push_back(own);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

absl::Status HostDevice::PrefillIndex(const kernels::PrefillIndexParams& p) {
  CheckInside(p.selected, int64_t{p.rows} * p.heads * p.topk * 4);
  return Enqueue([=, this] {
    std::vector<int> sequences_of(static_cast<size_t>(p.rows));
    for (int32_t i = 0; i < p.num_sequences; ++i) {
      const kernels::PrefillSequence& s = p.sequences[i];
      LECTERN_CHECK(s.rows <= p.max_rows && s.row + s.rows <= p.rows);
      for (int32_t row = s.row; row < s.row + s.rows; ++row) ++sequences_of[row];
      const int32_t own = (s.first + s.rows - 1) / kernels::kBlockTokens;
      LECTERN_CHECK(s.first + s.rows <= p.max_tokens || own == 0);
      Tiles keys(static_cast<size_t>(own) + 1, p.dim);
      std::memset(keys[static_cast<size_t>(own)], 0xFF, kernels::TileBytes(p.dim));
      std::vector<const Bf16*> tiles;
      for (int32_t block = 0; block <= own; ++block) {
        tiles.push_back(keys[static_cast<size_t>(block)]);
        if (block == own) break;  // it is in without a score
        const int32_t page = p.page_table[s.page_begin + block];
        LECTERN_CHECK(page >= 0 && page < p.pages);
        kernels::PackKeys({.first = 0, .count = kernels::kBlockTokens, .dim = p.dim},
                          p.keys + page * kernels::TileElements(p.dim), p.dim,
                          keys[static_cast<size_t>(block)]);
      }
      std::vector<int32_t> positions;
      for (int32_t row = 0; row < s.rows; ++row) positions.push_back(s.first + row);
      kernels::IndexSelect({.q = p.q + s.row * p.q_row_stride,
                            .q_row_stride = p.q_row_stride,
                            .positions = positions.data(),
                            .key_blocks = tiles.data(),
                            .blocks = own + 1,
                            .rows = s.rows,
                            .heads = p.heads,
                            .dim = p.dim,
                            .topk = p.topk,
                            .selected = p.selected + int64_t{s.row} * p.heads * p.topk});
    }
    // The kernel looks for every row's sequence.
    for (const int count : sequences_of) LECTERN_CHECK(count == 1);
  });
}

absl::Status HostDevice::PrefillAttention(const kernels::PrefillAttentionParams& p) {
  return Enqueue([=, this] {
    int32_t rows = 0;
    for (int32_t i = 0; i < p.num_sequences; ++i) {
      const kernels::PrefillSequence& s = p.sequences[i];
      LECTERN_CHECK(s.rows <= p.max_rows && s.first + s.rows <= p.max_tokens);
      LECTERN_CHECK(s.page_begin + (s.first + s.rows - 1) / kernels::kBlockTokens <
                    p.table_entries);
      CheckInside(p.out + int64_t{s.row} * p.out_row_stride,
                  int64_t{s.rows} * p.out_row_stride * 2);
      rows += s.rows;
      for (int group = 0; group < p.groups; ++group) AttendSequence(p, s, group);
    }
    LECTERN_CHECK(rows == p.rows);
  });
}

absl::Status HostDevice::DecodeScore(const kernels::DecodeScoreParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.scores, p.scores_stride * 4);
  return Enqueue([=, this] {
    for (int32_t i = 0; i < p.num_spans; ++i) {
      const kernels::DecodeSpan& span = p.spans[i];
      LECTERN_CHECK(span.rows >= 1 && span.rows <= p.span_rows);
      for (int32_t row = span.first_row; row < span.first_row + span.rows; ++row) {
        LECTERN_CHECK(p.positions[row] / kernels::kBlockTokens < p.scores_stride);
        CheckInside(p.scores + int64_t{row} * p.heads * p.scores_stride,
                    int64_t{p.heads} * p.scores_stride * 4);
        for (int32_t block = 0; block < p.positions[row] / kernels::kBlockTokens; ++block) {
          const int32_t page = p.pages[span.request * p.pages_stride + block];
          LECTERN_CHECK(page >= 0 && page < p.num_pages);
        }
      }
    }
    kernels::DecodeScoreReference(p);
  });
}

absl::Status HostDevice::DecodeAttention(const kernels::DecodeAttentionParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.out, int64_t{p.rows} * p.groups * p.heads * p.dim * 2);
  return Enqueue([=, this] {
    LECTERN_CHECK((p.scores == nullptr) != (p.chosen == nullptr));
    const int64_t width = int64_t{p.groups} * p.heads * p.dim;
    const Shape shape = {.q = p.q,
                         .q_row_stride = width,
                         .k = p.k,
                         .v = p.v,
                         .groups = p.groups,
                         .ratio = p.heads,
                         .dim = p.dim,
                         .scale = p.scale,
                         .out = p.out,
                         .out_row_stride = width};
    for (int32_t row = 0; row < p.rows; ++row) {
      const int32_t request =
          p.row_requests != nullptr ? p.row_requests[row] : row / p.request_rows;
      for (int group = 0; group < p.groups; ++group) {
        const int64_t pair = int64_t{row} * p.groups + group;
        std::vector<int32_t> blocks;
        if (p.chosen != nullptr) {
          const int32_t* chosen = p.chosen + pair * p.topk;
          blocks.assign(chosen, std::find(chosen, chosen + p.topk, -1));
        } else {
          blocks = Choose(p.scores + pair * p.scores_stride,
                          p.positions[row] / kernels::kBlockTokens, p.topk);
        }
        std::vector<float> block_lse(static_cast<size_t>(p.topk) * p.heads,
                                     -std::numeric_limits<float>::infinity());
        AttendRow(shape, row, p.positions[row], group, blocks, p.pages + request * p.pages_stride,
                  p.lse != nullptr ? p.lse + pair * p.heads : nullptr,
                  p.block_lse != nullptr ? block_lse.data() : nullptr);
        if (p.block_lse != nullptr) {
          std::copy(block_lse.begin(), block_lse.end(), p.block_lse + pair * p.topk * p.heads);
        }
        if (p.selected != nullptr) {
          blocks.resize(static_cast<size_t>(p.topk), -1);
          std::copy(blocks.begin(), blocks.end(), p.selected + pair * p.topk);
        }
      }
    }
  });
}

absl::Status HostDevice::IndexMass(const kernels::IndexMassCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  CheckInside(p.block_lse, int64_t{p.listed} * p.heads * p.block_stride * 4);
  return Enqueue([=] {
    int32_t listed = 0;
    for (int32_t i = 0; i < p.num_requests; ++i) {
      LECTERN_CHECK(p.requests[i].count <= p.max_count);
      listed += p.requests[i].count;
    }
    LECTERN_CHECK(listed <= p.listed);
    for (int32_t i = 0; i < p.listed; ++i) LECTERN_CHECK(p.positions[i] <= p.max_position);
    LECTERN_CHECK(p.max_position / kernels::kBlockTokens + 1 <= p.block_stride);
    kernels::IndexMassReference(p);
  });
}

absl::Status HostDevice::WidenSelection(const kernels::WidenSelectionCudaParams& p) {
  if (Hold(p)) return absl::OkStatus();
  return Enqueue([=] { kernels::WidenSelectionReference(p); });
}

}  // namespace lectern::engine
