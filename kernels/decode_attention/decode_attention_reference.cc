#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/decode_attention/decode_attention.h"

namespace lectern::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<int> Chosen(const DecodeAttentionParams& p, int64_t row_group, int own) {
  std::vector<int> blocks;
  if (p.chosen != nullptr) {
    for (int i = 0; i < p.topk; ++i) {
      const int block = p.chosen[row_group * p.topk + i];
      if (block >= 0) blocks.push_back(block);
    }
    return blocks;
  }
  std::vector<std::pair<float, int>> order;
  for (int b = 0; b < own; ++b) {
    const float score = p.scores[row_group * p.scores_stride + b];
    order.emplace_back(std::isnan(score) ? -std::numeric_limits<float>::infinity() : score, b);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < std::min(order.size(), static_cast<size_t>(p.topk - 1)); ++i)
    blocks.push_back(order[i].second);
  blocks.push_back(own);
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

double LogSumExp(const std::vector<double>& x) {
  double top = -kInfinity, sum = 0;
  for (double v : x) top = std::max(top, v);
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

}  // namespace

void DecodeAttentionReference(const DecodeAttentionParams& p, double* out_f64) {
  for (int64_t row_group = 0; row_group < int64_t{p.rows} * p.groups; ++row_group) {
    const int row = static_cast<int>(row_group / p.groups);
    const int group = static_cast<int>(row_group % p.groups);
    const int position = p.positions[row];
    const int request = p.row_requests != nullptr ? p.row_requests[row] : row / p.request_rows;
    const std::vector<int> blocks = Chosen(p, row_group, position / kBlockTokens);
    for (int i = 0; p.selected != nullptr && i < p.topk; ++i) {
      p.selected[row_group * p.topk + i] =
          i < static_cast<int>(blocks.size()) ? blocks[static_cast<size_t>(i)] : -1;
    }
    for (int head = 0; head < p.heads; ++head) {
      const int64_t to = row_group * p.heads + head;
      std::vector<double> logits;
      std::vector<const Bf16*> values;
      for (int slot = 0; slot < p.topk; ++slot) {
        float* block_lse = p.block_lse != nullptr
                               ? p.block_lse + (row_group * p.topk + slot) * p.heads + head
                               : nullptr;
        if (slot >= static_cast<int>(blocks.size())) {
          if (block_lse != nullptr) *block_lse = -std::numeric_limits<float>::infinity();
          continue;
        }
        const int block = blocks[static_cast<size_t>(slot)];
        const int64_t page = p.pages[request * p.pages_stride + block];
        std::vector<double> of_block;
        for (int t = 0; t < kBlockTokens && block * kBlockTokens + t <= position; ++t) {
          const int64_t at = ((page * p.groups + group) * kBlockTokens + t) * p.dim;
          double dot = 0;
          for (int d = 0; d < p.dim; ++d)
            dot += double{ToFloat(p.q[to * p.dim + d])} * ToFloat(p.k[at + d]);
          of_block.push_back(dot * p.scale);
          logits.push_back(dot * p.scale);
          values.push_back(p.v + at);
        }
        if (block_lse != nullptr) *block_lse = static_cast<float>(LogSumExp(of_block));
      }
      const double lse = LogSumExp(logits);
      if (p.lse != nullptr) p.lse[to] = static_cast<float>(lse);
      for (int d = 0; d < p.dim; ++d) {
        double sum = 0;
        for (size_t i = 0; i < logits.size(); ++i)
          sum += std::exp(logits[i] - lse) * ToFloat(values[i][d]);
        if (p.out != nullptr) p.out[to * p.dim + d] = ToBf16(static_cast<float>(sum));
        if (out_f64 != nullptr) out_f64[to * p.dim + d] = sum;
      }
    }
  }
}

}  // namespace lectern::kernels
