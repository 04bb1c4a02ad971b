#include "engine/model/step_rows.h"

#include <algorithm>

#include "engine/error/check.h"

namespace lectern::engine {

void StepRows::LayOut(std::span<const StepSegment> segments, std::vector<SegmentResult>* results) {
  parts_.clear();
  tiles_ = decode_rows_ = 0;
  const auto add = [&](size_t i, int64_t first_row) {
    parts_.push_back({.segment = &segments[i],
                      .result = &(*results)[i],
                      .first_row = first_row,
                      .first_position = segments[i].context->token_count(),
                      .rows = static_cast<int32_t>(segments[i].tokens.size())});
    (*results)[i].selected.resize(segments[i].tokens.size());
  };
  for (size_t i = 0; i < segments.size(); ++i) {
    if (!segments[i].tiled || !(*results)[i].status.ok()) continue;
    const int64_t first = segments[i].context->token_count();
    const int64_t last = first + static_cast<int64_t>(segments[i].tokens.size()) - 1;
    add(i, tiles_ * kTileRows + first % kBlockTokens);
    tiles_ += last / kBlockTokens - first / kBlockTokens + 1;
  }
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].tiled || !(*results)[i].status.ok()) continue;
    add(i, first_decode_row() + decode_rows_);
    decode_rows_ += static_cast<int64_t>(segments[i].tokens.size());
  }
  LECTERN_CHECK(decode_rows_ <= kMaxDecodeRows);
  first_padding_row_ = rows();
  positions_.assign(static_cast<size_t>(rows()), 0);
  for (const Part& part : parts_) {
    for (int32_t row = 0; row < part.rows; ++row) {
      positions_[part.first_row + row] = static_cast<int32_t>(part.first_position + row);
    }
  }
}

void StepRows::PadDecodeRows(int64_t decode_rows) {
  LECTERN_CHECK(decode_rows >= decode_rows_ && decode_rows <= kMaxDecodeRows);
  decode_rows_ = decode_rows;
  positions_.resize(static_cast<size_t>(rows()), 0);
}

void CountSelections(std::span<const int32_t> selected, int32_t kv_heads, int32_t slots,
                     int32_t budget, std::span<SelectionCounts> counts) {
  auto begin = selected.begin();
  for (SelectionCounts& token : counts) {
    for (int32_t head = 0; head < kv_heads; ++head, begin += slots) {
      const int64_t taken = std::find(begin, begin + slots, -1) - begin;
      token.Add({.selections = 1, .blocks = taken, .widened = taken > budget ? 1 : 0});
    }
  }
}

}  // namespace lectern::engine
