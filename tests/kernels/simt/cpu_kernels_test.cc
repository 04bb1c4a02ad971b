// Decoding on a GPU and on a CPU is the same operation: the same blocks, ties included, and the
// same attention over them.

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/index_select/index_select.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "tests/kernels/decode_score/decode_case.h"

namespace lectern::kernels::testing {
namespace {

struct alignas(kTileAlignment) Line {
  Bf16 numbers[kTileAlignment / 2];
};

// The blocks of a request as the CPU has them.
class Tiles {
 public:
  Tiles(const Decode& decode, int request, const std::vector<Bf16>& pool, int heads, int head,
        int dim, bool values)
      : memory_(static_cast<size_t>(decode.stride * TileBytes(dim) / kTileAlignment)) {
    for (int64_t b = 0; b < decode.stride; ++b) {
      const int64_t page = decode.pages[static_cast<size_t>(request * decode.stride + b)];
      const Bf16* rows = pool.data() + (page * heads + head) * kBlockTokens * dim;
      Bf16* tile = memory_.data()->numbers + b * TileElements(dim);
      const TileRun whole = {.first = 0, .count = kBlockTokens, .dim = dim};
      values ? PackValues(whole, rows, dim, tile) : PackKeys(whole, rows, dim, tile);
      tiles_.push_back(tile);
    }
  }
  const std::vector<const Bf16*>& get() const { return tiles_; }

 private:
  std::vector<Line> memory_;
  std::vector<const Bf16*> tiles_;
};

void CompareSelections(const Decode& decode, const Decode::Result& gpu) {
  const Case& c = decode.shape;
  for (int row = 0; row < decode.rows; ++row) {
    const Tiles keys(decode, decode.row_requests[static_cast<size_t>(row)], decode.index_keys, 1, 0,
                     c.index_dim, false);
    std::vector<int32_t> selected(static_cast<size_t>(c.groups * c.topk));
    IndexSelect({.q = decode.index_q.data() + int64_t{row} * c.groups * c.index_dim,
                 .q_row_stride = int64_t{c.groups} * c.index_dim,
                 .positions = decode.positions.data() + row,
                 .key_blocks = keys.get().data(),
                 .blocks = static_cast<int32_t>(decode.stride),
                 .rows = 1,
                 .heads = c.groups,
                 .dim = c.index_dim,
                 .topk = c.topk,
                 .selected = selected.data()});
    const std::vector<int32_t> ours(gpu.selected.begin() + row * c.groups * c.topk,
                                    gpu.selected.begin() + (row + 1) * c.groups * c.topk);
    EXPECT_EQ(selected, ours) << Name(c) << " row " << row;
  }
}

void CompareAttention(const Decode& decode, const Decode::Result& gpu) {
  const Case& c = decode.shape;
  const AttentionShape shape = {
      .heads = c.heads, .dim = c.dim, .scale = 1 / std::sqrt(static_cast<float>(c.dim))};
  for (int row = 0; row < decode.rows; ++row) {
    for (int group = 0; group < c.groups; ++group) {
      const int request = decode.row_requests[static_cast<size_t>(row)];
      const Tiles k(decode, request, decode.k, c.groups, group, c.dim, false);
      const Tiles v(decode, request, decode.v, c.groups, group, c.dim, true);
      const int64_t row_group = int64_t{row} * c.groups + group;
      const int32_t zero = 0;
      std::vector<AttentionBlock> blocks;
      std::vector<float> block_lse(static_cast<size_t>(c.topk * c.heads));
      for (int slot = 0; slot < c.topk; ++slot) {
        const int32_t b = gpu.selected[static_cast<size_t>(row_group * c.topk + slot)];
        if (b < 0) continue;
        blocks.push_back({.block = b,
                          .k = k.get()[static_cast<size_t>(b)],
                          .v = v.get()[static_cast<size_t>(b)],
                          .rows = &zero,
                          .num_rows = 1,
                          .block_lse = block_lse.data() + slot * c.heads});
      }
      std::vector<float> out(static_cast<size_t>(c.heads * c.dim)), lse(out.size());
      SparseAttentionReference(shape, {.rows = 1,
                                       .q = decode.q.data() + row_group * c.heads * c.dim,
                                       .q_row_stride = int64_t{c.heads} * c.dim,
                                       .q_head_stride = c.dim,
                                       .positions = decode.positions.data() + row,
                                       .blocks = blocks.data(),
                                       .num_blocks = static_cast<int32_t>(blocks.size()),
                                       .out_f32 = out.data(),
                                       .out_row_stride = int64_t{c.heads} * c.dim,
                                       .out_head_stride = c.dim,
                                       .lse = lse.data()});
      for (int i = 0; i < c.heads * c.dim; ++i)
        EXPECT_NEAR(out[static_cast<size_t>(i)],
                    ToFloat(gpu.out[static_cast<size_t>(row_group * c.heads * c.dim + i)]), 1e-2);
      for (int h = 0; h < c.heads; ++h)
        EXPECT_NEAR(lse[static_cast<size_t>(h)],
                    gpu.lse[static_cast<size_t>(row_group * c.heads + h)], 1e-4);
      for (size_t i = 0; i < blocks.size() * static_cast<size_t>(c.heads); ++i)
        EXPECT_NEAR(block_lse[i],
                    gpu.block_lse[static_cast<size_t>(row_group * c.topk * c.heads) + i], 1e-4);
    }
  }
}

TEST(DecodeSimtAndCpu, DoTheSame) {
  for (Keys keys : {Keys::kWhole, Keys::kNormal, Keys::kEqual, Keys::kTopical}) {
    Case c;
    c.keys = keys;
    c.groups = 2;
    c.heads = 4;
    c.dim = keys == Keys::kNormal ? 128 : 64;
    c.index_dim = 64;
    c.topk = 4;
    c.rows = 3;
    c.lengths = {2600, 131};
    c.with_spans = keys == Keys::kTopical;
    Decode decode(c);
    const Decode::Result gpu = decode.Run();
    CompareSelections(decode, gpu);
    CompareAttention(decode, gpu);
  }
}

}  // namespace
}  // namespace lectern::kernels::testing
