// Which rows of a segment chose which block, per tile of 128 rows and KV head: the transpose of a
// selection, as KV-outer attention wants it (msa.md 4.1). Built once per layer and segment.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lectern::engine {

class BlockRows {
 public:
  static constexpr int32_t kTileRows = 128;

  BlockRows(int32_t rows, int32_t kv_heads);

  // selected: [rows][kv_heads][slots] ascending block numbers, -1 behind the last.
  void FromSelection(const int32_t* selected, int32_t slots, int32_t blocks);
  // Dense: every row sees every block up to its own. positions: [rows], ascending.
  void AllVisible(const int32_t* positions, int32_t blocks);

  // Blocks that any row of any head chose, ascending.
  std::span<const int32_t> Union() const { return union_; }
  // Rows of tile `tile` (numbered within it, ascending) that chose `block` for `kv_head`.
  std::span<const int32_t> RowsOf(int32_t block, int32_t tile, int32_t kv_head) const;
  // Where `block` stands among a row's selected blocks. REQUIRES: it does.
  static int32_t SlotOf(const int32_t* selected, int32_t slots, int32_t row, int32_t kv_head,
                        int32_t block, int32_t kv_heads);

 private:
  const int32_t rows_;
  const int32_t kv_heads_;
  const int32_t tiles_;
  int32_t blocks_ = 0;
  // CSR over (tile, head, block): rows_of_[begin_[key]] .. begin_[key + 1].
  std::vector<int32_t> begin_;
  std::vector<int32_t> rows_of_;
  std::vector<int32_t> union_;
};

}  // namespace lectern::engine
