#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/block_tile/block_tile.h"
#include "kernels/index_mass/index_mass_cuda.h"

namespace lectern::kernels {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double LogSumExp(const std::vector<double>& x) {
  const double top = x.empty() ? -kInfinity : *std::max_element(x.begin(), x.end());
  if (top == -kInfinity) return top;
  double sum = 0;
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

double Score(const Bf16* q, const Bf16* key, int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d) sum += double{ToFloat(q[d])} * double{ToFloat(key[d])};
  return std::isnan(sum) ? -kInfinity : sum;
}

void MassOf(const IndexMassCudaParams& p, const IndexMassRequest& request, int place, int head) {
  const int64_t query = int64_t{place} * p.heads + head;
  const int64_t row = p.rows[place];
  const Bf16* q = p.q + row * p.q_row_stride + int64_t{head} * p.dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(p.dim));
  const int position = p.positions[place];
  std::vector<std::vector<double>> tokens(static_cast<size_t>(position / kBlockTokens) + 1);
  for (size_t b = 0; b < tokens.size(); ++b) {
    const int64_t page = p.page_table[request.page_begin + static_cast<int>(b)];
    const Bf16* keys = p.keys + page * TileElements(p.dim);
    const int visible =
        std::min<int>(kBlockTokens, position + 1 - static_cast<int>(b) * kBlockTokens);
    double top = -kInfinity;
    for (int t = 0; t < visible; ++t) {
      const double s = Score(q, keys + t * p.dim, p.dim);
      top = std::max(top, s);
      tokens[b].push_back(s * scale);
    }
    const int64_t out = query * p.block_stride + static_cast<int64_t>(b);
    p.block_lse[out] = static_cast<float>(LogSumExp(tokens[b]));
    if (p.block_max != nullptr) p.block_max[out] = static_cast<float>(top);
  }
  std::vector<double> all, inside;
  for (const std::vector<double>& block : tokens) all.insert(all.end(), block.begin(), block.end());
  p.lse_visible[query] = static_cast<float>(LogSumExp(all));
  if (p.selected == nullptr) return;
  const int32_t* selected = p.selected + (row * p.heads + head) * p.selected_stride;
  for (int i = 0; i < p.selected_stride && selected[i] >= 0; ++i) {
    const std::vector<double>& block = tokens[static_cast<size_t>(selected[i])];
    inside.insert(inside.end(), block.begin(), block.end());
  }
  p.lse_selected[query] = static_cast<float>(LogSumExp(inside));
}

void WidenOne(const WidenSelectionCudaParams& p, int place, int head) {
  const int64_t query = int64_t{place} * p.heads + head;
  const int own = p.positions[place] / kBlockTokens;
  const float* scores = p.scores + query * p.score_stride;
  const float* lse = p.block_lse + query * p.block_stride;
  const double visible = p.lse_visible[query];
  const auto score = [&](int b) { return std::isnan(scores[b]) ? -kInfinity : double{scores[b]}; };
  std::vector<int32_t> order;
  for (int b = 0; b < own; ++b) order.push_back(b);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return score(a) > score(b); });
  order.insert(order.begin(), own);
  // Of the first `taken` in this order.
  const auto mass = [&](int taken) {
    std::vector<double> blocks;
    for (int i = 0; i < taken && i <= own; ++i) {
      blocks.push_back(lse[order[static_cast<size_t>(i)]]);
    }
    return LogSumExp(blocks);
  };
  int taken = p.first_topk;
  while (taken < p.topk && taken <= own) {
    if (p.widen_below < 1 && std::exp(mass(taken) - visible) >= double{p.widen_below}) break;
    taken = std::min(2 * taken, p.topk);
  }
  if (p.lse_selected != nullptr) p.lse_selected[query] = static_cast<float>(mass(taken));
  order.resize(static_cast<size_t>(std::min(taken, own + 1)));
  std::sort(order.begin(), order.end());
  const int64_t row = p.rows != nullptr ? p.rows[place] : place;
  int32_t* selected = p.selected + (row * p.heads + head) * p.selected_stride;
  std::fill_n(selected, p.selected_stride, -1);
  std::copy(order.begin(), order.end(), selected);
}

}  // namespace

void IndexMassReference(const IndexMassCudaParams& p) {
  for (int r = 0; r < p.num_requests; ++r) {
    const IndexMassRequest& request = p.requests[r];
    for (int place = request.first; place < request.first + request.count; ++place) {
      for (int head = 0; head < p.heads; ++head) MassOf(p, request, place, head);
    }
  }
}

void WidenSelectionReference(const WidenSelectionCudaParams& p) {
  for (int place = 0; place < p.listed; ++place) {
    for (int head = 0; head < p.heads; ++head) WidenOne(p, place, head);
  }
}

}  // namespace lectern::kernels
