#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/index_select/index_select.h"

namespace lectern::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Dot(const Bf16* q, const Bf16* tile, int token, int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d) {
    const Bf16 key = tile[(int64_t{d / 2} * kBlockTokens + token) * 2 + d % 2];
    sum += double{ToFloat(q[d])} * ToFloat(key);
  }
  return std::isnan(sum) ? -kInfinity : sum;
}

double LogSumExp(const std::vector<double>& x) {
  const double top = x.empty() ? -kInfinity : *std::max_element(x.begin(), x.end());
  if (top == -kInfinity) return top;
  double sum = 0;
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

void SelectOne(const IndexSelectParams& p, int row, int head) {
  const int64_t out = int64_t{row} * p.heads + head;
  const Bf16* q = p.q + row * p.q_row_stride + int64_t{head} * p.dim;
  const int position = p.positions[row];
  const int own = position / kBlockTokens;

  std::vector<std::vector<double>> scores(static_cast<size_t>(own) + 1);
  std::vector<double> block_max(scores.size(), -kInfinity);
  for (int b = 0; b <= own; ++b) {
    for (int t = 0; t < kBlockTokens && b * kBlockTokens + t <= position; ++t) {
      scores[b].push_back(Dot(q, p.key_blocks[b], t, p.dim));
    }
    block_max[b] = *std::max_element(scores[b].begin(), scores[b].end());
  }

  std::vector<int> order;
  for (int b = 0; b < own; ++b) order.push_back(b);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return block_max[a] > block_max[b]; });
  const size_t free = std::min(order.size(), static_cast<size_t>(p.topk - 1));
  if (p.margin != nullptr) {
    const bool cut = free > 0 && free < order.size();
    double margin = kInfinity;
    if (cut) margin = block_max[order[free - 1]] - block_max[order[free]];
    p.margin[out] =
        std::isnan(margin) ? 0.0f : static_cast<float>(margin);  // both -infinity: a tie
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(p.dim));
  // ln sum exp over the tokens of the given blocks.
  const auto mass_of = [&](const std::vector<int>& blocks) {
    std::vector<double> tokens;
    for (int b : blocks) {
      for (double s : scores[b]) tokens.push_back(s * scale);
    }
    return LogSumExp(tokens);
  };
  std::vector<int> every;
  for (int b = 0; b <= own; ++b) every.push_back(b);
  order.resize(free);
  if (p.first_topk > 0) {
    size_t taken = static_cast<size_t>(p.first_topk);
    while (taken < static_cast<size_t>(p.topk) && taken < every.size()) {
      std::vector<int> inside(order.begin(), order.begin() + static_cast<int64_t>(taken) - 1);
      inside.push_back(own);
      if (p.widen_below < 1 && std::exp(mass_of(inside) - mass_of(every)) >= p.widen_below) break;
      taken = std::min(2 * taken, static_cast<size_t>(p.topk));
    }
    order.resize(std::min(order.size(), taken - 1));
  }
  order.push_back(own);
  std::sort(order.begin(), order.end());
  std::fill_n(p.selected + out * p.topk, p.topk, -1);
  std::copy(order.begin(), order.end(), p.selected + out * p.topk);

  if (p.flagged == nullptr || p.flagged[row] == 0) return;
  p.lse_visible[out] = static_cast<float>(mass_of(every));
  p.lse_selected[out] = static_cast<float>(mass_of(order));
}

}  // namespace

void IndexSelectReference(const IndexSelectParams& p) {
  for (int row = 0; row < p.rows; ++row) {
    for (int head = 0; head < p.heads; ++head) SelectOne(p, row, head);
  }
}

}  // namespace lectern::kernels
