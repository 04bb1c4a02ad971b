#include "engine/answer/observed_mass.h"

#include <algorithm>
#include <cmath>

#include "engine/error/status_macros.h"
#include "kernels/token_mass/token_mass.h"

namespace lectern::engine {
namespace {

// A row looks at a block's tokens only if some head gives the block more than this of its mass.
constexpr double kTokenMassThreshold = 0.01;

}  // namespace

absl::Status ObservedMass::OnLayer(const LayerObservation& o) {
  const KvShape& shape = o.context->shape();
  const int kv_heads = shape.kv_heads();
  const int group = heads_ / kv_heads;
  if (o.layer == 0) rows_ += o.rows;
  for (int32_t row = 0; row < o.rows; ++row) {
    for (int head = 0; head < kv_heads; ++head) {
      const int64_t pair = int64_t{row} * kv_heads + head;
      const float* lse = o.lse + pair * group;
      std::vector<int32_t> looked_at;
      for (int32_t slot = 0; slot < o.slots; ++slot) {
        const int32_t block = o.selected[pair * o.slots + slot];
        if (block < 0) break;
        if (block * kBlockTokens >= context_tokens_) break;  // ascending: only the question's own blocks follow
        const float* block_lse = o.block_lse + (pair * o.slots + slot) * group;
        double most = 0;
        for (int h = 0; h < group; ++h) most = std::max(most, std::exp(double{block_lse[h]} - double{lse[h]}));
        if (most > kTokenMassThreshold) looked_at.push_back(block);
      }
      Context::Pinned pinned(&o.context->kv_pool());
      for (std::span<const int32_t> wanted = looked_at; !wanted.empty(); wanted = wanted.subspan(pinned.size())) {
        LECTERN_RETURN_IF_ERROR(o.context->Fetch(o.layer, wanted, &pinned));
        for (size_t i = 0; i < pinned.size(); ++i) {
          const int32_t block = wanted[i];
          BlockMass& mass = blocks_[block];
          std::array<float, kBlockTokens> tokens{};
          // Tokens of the context only: a block that the question shares counts up to where the context ends.
          const int32_t visible = TokensInBlock(block, std::min<int64_t>(context_tokens_, o.positions[row] + 1));
          kernels::TokenMass({.q = o.q + row * o.q_stride + int64_t{head} * group * shape.head_dim(),
                              .q_head_stride = shape.head_dim(),
                              .heads = group,
                              .dim = shape.head_dim(),
                              .k = shape.KeyTile(pinned[i], head),
                              .tokens = visible,
                              .scale = o.scale,
                              .lse = lse,
                              .mass = tokens.data()});
          for (int32_t t = 0; t < visible; ++t) {
            mass.tokens[t] += tokens[t];
            mass.mass += tokens[t];
          }
        }
      }
      if (o.index_lse_visible != nullptr) {
        RowCoverage& coverage = coverage_[o.positions[row]];
        coverage.sum += std::min(1.0, std::exp(double{o.index_lse_selected[pair]} - double{o.index_lse_visible[pair]}));
        ++coverage.terms;
      }
    }
  }
  return absl::OkStatus();
}

Coverage ObservedMass::coverage() const {
  Coverage result;
  if (coverage_.empty()) {
    // Every layer is dense: nothing was left out.
    result.mean = result.lower = result.upper = result.min_row = 1;
    return result;
  }
  double sum = 0;
  result.min_row = 1;
  for (const auto& [position, row] : coverage_) {
    const double mean = row.sum / static_cast<double>(row.terms);
    sum += mean;
    result.min_row = std::min(result.min_row, mean);
  }
  result.mean = result.lower = result.upper = sum / static_cast<double>(coverage_.size());
  return result;
}

}  // namespace lectern::engine
