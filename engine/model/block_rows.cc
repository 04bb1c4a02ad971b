#include "engine/model/block_rows.h"

#include <algorithm>

namespace lectern::engine {

BlockRows::BlockRows(int32_t rows, int32_t kv_heads)
    : rows_(rows), kv_heads_(kv_heads), tiles_((rows + kTileRows - 1) / kTileRows) {}

void BlockRows::FromSelection(const int32_t* selected, int32_t slots, int32_t blocks) {
  blocks_ = blocks;
  // A counting sort: count per (tile, head, block), prefix sums, then fill in row order, so rows
  // come out ascending.
  begin_.assign(static_cast<size_t>(tiles_) * kv_heads_ * blocks + 1, 0);
  const auto key = [&](int32_t row, int32_t head, int32_t block) {
    return (static_cast<size_t>(row / kTileRows) * kv_heads_ + head) * blocks_ + block;
  };
  std::vector<uint8_t> seen(static_cast<size_t>(blocks), 0);
  const auto each = [&](auto&& visit) {
    const int32_t* entry = selected;
    for (int32_t row = 0; row < rows_; ++row) {
      for (int32_t head = 0; head < kv_heads_; ++head, entry += slots) {
        for (int32_t slot = 0; slot < slots && entry[slot] >= 0; ++slot)
          visit(row, head, entry[slot]);
      }
    }
  };
  each([&](int32_t row, int32_t head, int32_t block) {
    ++begin_[key(row, head, block) + 1];
    seen[block] = 1;
  });
  for (size_t i = 1; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
  rows_of_.resize(static_cast<size_t>(begin_.back()));
  std::vector<int32_t> next(begin_.begin(), begin_.end() - 1);
  each([&](int32_t row, int32_t head, int32_t block) {
    rows_of_[next[key(row, head, block)]++] = row % kTileRows;
  });
  union_.clear();
  for (int32_t block = 0; block < blocks; ++block) {
    if (seen[block]) union_.push_back(block);
  }
}

void BlockRows::AllVisible(const int32_t* positions, int32_t blocks) {
  std::vector<int32_t> all;
  blocks_ = blocks;
  begin_.assign(1, 0);
  rows_of_.clear();
  union_.resize(static_cast<size_t>(blocks));
  for (int32_t block = 0; block < blocks; ++block) union_[block] = block;
  for (int32_t tile = 0; tile < tiles_; ++tile) {
    const int32_t first = tile * kTileRows;
    const int32_t end = std::min(rows_, first + kTileRows);
    for (int32_t head = 0; head < kv_heads_; ++head) {
      for (int32_t block = 0; block < blocks; ++block) {
        for (int32_t row = first; row < end; ++row) {
          if (positions[row] / kTileRows >= block) rows_of_.push_back(row - first);
        }
        begin_.push_back(static_cast<int32_t>(rows_of_.size()));
      }
    }
  }
}

std::span<const int32_t> BlockRows::RowsOf(int32_t block, int32_t tile, int32_t kv_head) const {
  const size_t key = (static_cast<size_t>(tile) * kv_heads_ + kv_head) * blocks_ + block;
  return std::span(rows_of_).subspan(static_cast<size_t>(begin_[key]),
                                     static_cast<size_t>(begin_[key + 1] - begin_[key]));
}

int32_t BlockRows::SlotOf(const int32_t* selected, int32_t slots, int32_t row, int32_t kv_head,
                          int32_t block, int32_t kv_heads) {
  const int32_t* begin = selected + (static_cast<int64_t>(row) * kv_heads + kv_head) * slots;
  return static_cast<int32_t>(std::find(begin, begin + slots, block) - begin);
}

}  // namespace lectern::engine
