#include "engine/answer/observed_mass.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/error/status_macros.h"
#include "kernels/token_mass/token_mass.h"

namespace lectern::engine {
namespace {

// Less than this of a head's mass is noise.
constexpr float kLeastMass = 0.02f;

}  // namespace

absl::Status ObservedMass::OnLayer(const LayerObservation& o) {
  const KvShape& shape = o.context->shape();
  const int kv_heads = shape.kv_heads();
  const int group = heads_ / kv_heads;
  Context::Pinned pinned(&o.context->kv_pool());
  for (int32_t row = 0; row < o.rows; ++row) {
    Row* const seen = baseline_row_ ? nullptr : &step_[o.positions[row]];
    const bool compared = by_head_ && seen != nullptr;
    if (compared) seen->by_head.weights.resize(static_cast<size_t>(layers_) * heads_, 0);
    for (int head = 0; head < heads_; ++head) {
      const int64_t pair = int64_t{row} * kv_heads + head / group;
      const int32_t number = o.layer * heads_ + head;
      if (compared) seen->by_head.weights[number] = o.lse[pair * group + head % group];
      std::map<int32_t, float>& before = baseline_[{o.layer, head}];
      for (int32_t slot = 0; slot < o.slots; ++slot) {
        const int32_t block = o.selected[pair * o.slots + slot];
        // Ascending, -1 behind the last; from the context's end on only the question's own blocks
        // follow.
        if (block < 0 || block * kBlockTokens >= context_tokens_) break;
        const double lse = o.lse[pair * group + head % group];
        float mass = static_cast<float>(
            std::exp(o.block_lse[(pair * o.slots + slot) * group + head % group] - lse));
        if (mass < kLeastMass) continue;
        const auto known = before.find(block);
        const float baseline = known == before.end() ? 0 : known->second;
        if (!baseline_row_ && mass - baseline < kLeastMass) continue;
        // Tokens of the context only: a block that the question shares counts up to where the
        // context ends.
        const int32_t visible =
            TokensInBlock(block, std::min<int64_t>(context_tokens_, o.positions[row] + 1));
        std::array<float, kBlockTokens> tokens{};
        LECTERN_RETURN_IF_ERROR(o.context->Fetch(o.layer, std::span(&block, 1), &pinned));
        kernels::TokenMass({.q = o.q + row * o.q_stride + int64_t{head} * shape.head_dim(),
                            .q_head_stride = shape.head_dim(),
                            .heads = 1,
                            .dim = shape.head_dim(),
                            .k = shape.KeyTile(pinned[0], head / group),
                            .tokens = visible,
                            .scale = o.scale,
                            .lse = o.lse + pair * group + head % group,
                            .mass = tokens.data()});
        mass = std::accumulate(tokens.begin(), tokens.begin() + visible, 0.0f);
        if (baseline_row_) {
          before[block] = std::max(baseline, mass);
          continue;
        }
        const float gained = mass - baseline;
        if (gained < kLeastMass) continue;
        float& most = seen->looked[block];
        most = std::max(most, gained);
        if (compared) seen->by_head.gains.push_back({number, block, gained});
        for (int32_t t = 0; t < visible; ++t) tokens[t] = tokens[t] * gained / mass;
        seen->tokens.emplace_back(block, tokens);
      }
    }
    if (baseline_row_ || o.index_lse_visible == nullptr) continue;
    for (int64_t pair = int64_t{row} * kv_heads; pair < int64_t{row + 1} * kv_heads; ++pair) {
      seen->coverage.push_back(std::min(
          1.0, std::exp(double{o.index_lse_selected[pair]} - double{o.index_lse_visible[pair]})));
    }
  }
  return absl::OkStatus();
}

void ObservedMass::Keep(int64_t end) {
  for (auto& [position, row] : step_) {
    if (position >= end) break;
    looked_[position] = std::move(row.looked);
    last_ = std::move(row.by_head);
    for (const auto& [block, tokens] : row.tokens) {
      TokenMasses& sum = tokens_[block];
      for (size_t t = 0; t < sum.size(); ++t) sum[t] += tokens[t];
    }
    if (!row.coverage.empty()) coverage_[position] = std::move(row.coverage);
  }
  step_.clear();
}

std::vector<int32_t> ObservedMass::LastBlocks(size_t limit) const {
  std::vector<std::pair<float, int32_t>> heaviest;
  if (!looked_.empty()) {
    for (const auto& [block, mass] : looked_.rbegin()->second) heaviest.emplace_back(-mass, block);
  }
  std::sort(heaviest.begin(), heaviest.end());
  heaviest.resize(std::min(heaviest.size(), limit));
  std::vector<int32_t> blocks;
  for (const auto& [mass, block] : heaviest) blocks.push_back(block);
  return blocks;
}

float ObservedMass::TokenMass(int64_t position) const {
  const auto block = tokens_.find(static_cast<int32_t>(position / kBlockTokens));
  return block == tokens_.end() ? 0 : block->second[position % kBlockTokens];
}

std::map<int32_t, ObservedMass::BlockMass> ObservedMass::Blocks() const {
  std::map<int32_t, BlockMass> blocks;
  for (const auto& [position, looked] : looked_) {
    for (const auto& [block, mass] : looked)
      blocks[block].mass += mass / static_cast<double>(looked_.size());
  }
  for (const auto& [block, tokens] : tokens_) blocks[block].tokens = tokens;
  return blocks;
}

std::map<int32_t, ObservedMass::BlockMass> ObservedMass::Blocks(
    std::span<const double> scale) const {
  std::map<int32_t, BlockMass> blocks;
  for (const Gain& gain : last_.gains) {
    double& most = blocks[gain.block].mass;
    most = std::max(most, gain.mass * scale[gain.head]);
  }
  for (auto& [block, mass] : blocks) mass.tokens = tokens_.at(block);
  return blocks;
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
    const double mean =
        std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(row.size());
    sum += mean;
    result.min_row = std::min(result.min_row, mean);
  }
  result.mean = result.lower = result.upper = sum / static_cast<double>(coverage_.size());
  return result;
}

std::optional<CoverageFeatures> ObservedMass::CalibrationFeatures(int rows) const {
  if (coverage_.empty()) return std::nullopt;
  CoverageFeatures features;
  features.first_mass = coverage_.begin()->second;
  features.mass.assign(features.first_mass.size(), 0);
  int taken = 0;
  for (auto row = coverage_.begin(); row != coverage_.end() && taken < rows; ++row, ++taken) {
    for (size_t i = 0; i < features.mass.size(); ++i) features.mass[i] += row->second[i];
  }
  for (double& mass : features.mass) mass /= taken;
  return features;
}

}  // namespace lectern::engine
