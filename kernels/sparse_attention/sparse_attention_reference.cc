#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/sparse_attention/sparse_attention.h"

namespace lectern::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Key(const AttentionBlock& b, int token, int d) {
  return ToFloat(b.k[(int64_t{d / 2} * kBlockTokens + token) * 2 + d % 2]);
}

double Value(const AttentionBlock& b, int token, int d, int dim) {
  return ToFloat(b.v[(int64_t{token / 2} * dim + d) * 2 + token % 2]);
}

double LogSumExp(const std::vector<double>& x) {
  double top = -kInfinity;
  for (double v : x) top = std::max(top, v);
  if (top == -kInfinity) return top;
  double sum = 0;
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

struct VisibleToken {
  const AttentionBlock* block;
  int token;
  double logit;
};

void AttendOne(const AttentionShape& shape, const AttentionTile& tile, int row, int head) {
  const Bf16* q = tile.q + row * tile.q_row_stride + head * tile.q_head_stride;
  std::vector<VisibleToken> tokens;
  for (int i = 0; i < tile.num_blocks; ++i) {
    const AttentionBlock& b = tile.blocks[i];
    const int32_t* entry = std::find(b.rows, b.rows + b.num_rows, row);
    if (entry == b.rows + b.num_rows) continue;
    std::vector<double> logits;
    for (int t = 0; t < kBlockTokens && b.block * kBlockTokens + t <= tile.positions[row]; ++t) {
      double dot = 0;
      for (int d = 0; d < shape.dim; ++d) dot += ToFloat(q[d]) * Key(b, t, d);
      tokens.push_back({&b, t, dot * shape.scale});
      logits.push_back(tokens.back().logit);
    }
    if (b.block_lse != nullptr) {
      b.block_lse[(entry - b.rows) * shape.heads + head] = static_cast<float>(LogSumExp(logits));
    }
  }
  std::vector<double> logits;
  double top = -kInfinity;
  for (const VisibleToken& t : tokens) {
    logits.push_back(t.logit);
    top = std::max(top, t.logit);
  }
  double mass = 0;
  for (double logit : logits) mass += std::exp(logit - top);
  for (int d = 0; d < shape.dim; ++d) {
    double sum = 0;
    for (const VisibleToken& t : tokens) {
      sum += std::exp(t.logit - top) * Value(*t.block, t.token, d, shape.dim);
    }
    if (!tokens.empty()) sum /= mass;
    const int64_t at = row * tile.out_row_stride + head * tile.out_head_stride + d;
    if (tile.out != nullptr) tile.out[at] = ToBf16(static_cast<float>(sum));
    if (tile.out_f32 != nullptr) tile.out_f32[at] = static_cast<float>(sum);
  }
  if (tile.lse != nullptr)
    tile.lse[row * shape.heads + head] = static_cast<float>(LogSumExp(logits));
}

}  // namespace

void SparseAttentionReference(const AttentionShape& shape, const AttentionTile& tile) {
  for (int row = 0; row < tile.rows; ++row) {
    for (int head = 0; head < shape.heads; ++head) AttendOne(shape, tile, row, head);
  }
}

}  // namespace lectern::kernels
