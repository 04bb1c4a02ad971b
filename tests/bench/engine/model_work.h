// What a model whose layers are all sparse must compute and read, by its configuration.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/kv/kv_memory.h"
#include "engine/model/config.h"

namespace lectern::engine {

struct Work {
  explicit Work(const ModelConfig& config) : c(config) {}

  int64_t QkvColumns() const {
    return int64_t{c.num_heads} * c.head_dim + 2 * c.kv_width() +
           (c.num_kv_heads + 1) * int64_t{c.sparse.index_dim};
  }
  // Of one token's projections, all layers.
  double ProjectionFlops() const {
    const double columns = static_cast<double>(QkvColumns()) + int64_t{c.num_heads} * c.head_dim +
                           3.0 * c.intermediate_size;
    return 2.0 * c.num_layers * c.hidden_size * columns;
  }
  // Of the rows at positions [begin, end): index scores of all earlier blocks, attention to the
  // selected tokens.
  double AttentionFlops(int64_t begin, int64_t end) const {
    double flops = 0;
    for (int64_t p = begin; p < end; ++p) {
      const double scored = static_cast<double>(p / kBlockTokens * kBlockTokens);
      const double own = static_cast<double>(p % kBlockTokens + 1);
      const double selected =
          own + static_cast<double>(std::min<int64_t>(p / kBlockTokens, c.sparse.topk_blocks - 1) *
                                    kBlockTokens);
      flops += 2.0 * c.num_kv_heads * c.sparse.index_dim * scored +
               4.0 * c.num_heads * c.head_dim * selected;
    }
    return flops * c.num_layers;
  }
  // That one decode step at `tokens` of context must read: weights, output matrix, index keys,
  // selected blocks.
  double DecodeBytes(int64_t tokens, bool dense) const {
    const double weights =
        ProjectionFlops() + 2.0 * c.vocab_size * c.hidden_size;  // bf16: 2 bytes for 2 FLOPs
    const double kv_token = 4.0 * c.kv_width() * c.num_layers;
    if (dense) return weights + kv_token * static_cast<double>(tokens);
    const double index = 2.0 * c.sparse.index_dim * c.num_layers * static_cast<double>(tokens);
    // Every group selects its own blocks; each reads its heads' share of a block.
    const double selected =
        static_cast<double>(std::min<int64_t>(tokens, c.sparse.topk_blocks * kBlockTokens));
    return weights + index + kv_token * selected;
  }
  const ModelConfig& c;
};

}  // namespace lectern::engine
