// Where the rows of a step lie, on every backend: first the tiles (128 rows, row = position mod
// 128, rows without a token between them), then the decode rows. What the numeric contract needs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/decoder.h"

namespace lectern::engine {

class StepRows {
 public:
  static constexpr int64_t kTileRows = kBlockTokens;

  struct Part {
    const StepSegment* segment;
    SegmentResult* result;
    int64_t first_row;  // of its first token
    int64_t first_position;
    int32_t rows;
  };

  // Segments whose result has failed already get no rows; the others' results get a count of
  // selections per token. REQUIRES: at most kMaxDecodeRows rows of
  // segments that are not tiled.
  void LayOut(std::span<const StepSegment> segments, std::vector<SegmentResult>* results);

  // Rows without a token behind the decode rows, so that there are `decode_rows` of them.
  // REQUIRES: decode_rows() to kMaxDecodeRows.
  void PadDecodeRows(int64_t decode_rows);

  std::span<const Part> parts() const { return parts_; }  // tiled ones first
  int64_t tiles() const { return tiles_; }
  int64_t decode_rows() const { return decode_rows_; }
  int64_t rows() const { return first_decode_row() + decode_rows_; }
  // rows(): there are none.
  int64_t first_padding_row() const { return first_padding_row_; }
  int64_t first_decode_row() const { return tiles_ * kTileRows; }
  // [rows()] absolute; 0 in rows without a token.
  std::span<const int32_t> positions() const { return positions_; }

 private:
  std::vector<Part> parts_;
  int64_t tiles_ = 0;
  int64_t decode_rows_ = 0;
  int64_t first_padding_row_ = 0;
  std::vector<int32_t> positions_;
};

// Adds one layer's selections, [tokens][kv_heads][slots] with -1 behind the last of each, to the
// tokens' counts.
void CountSelections(std::span<const int32_t> selected, int32_t kv_heads, int32_t slots,
                     int32_t budget, std::span<SelectionCounts> counts);

}  // namespace lectern::engine
