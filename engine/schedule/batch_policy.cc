#include "engine/schedule/batch_policy.h"

#include <algorithm>

namespace lectern::engine {

std::vector<BatchEntry> PlanBatch(std::span<const BatchWish> wishes, const BatchLimits& limits,
                                  uint64_t turn) {
  std::vector<BatchEntry> batch;
  std::vector<size_t> ingests;
  bool questions = false;
  int64_t rows = 0;
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (wishes[i].kind == RunKind::kIngest) {
      ingests.push_back(i);
      continue;
    }
    questions = true;
    if (!wishes[i].wish.tiled && rows + wishes[i].wish.tokens <= limits.decode_rows) {
      batch.push_back({.run = i, .tokens = wishes[i].wish.tokens});
      rows += wishes[i].wish.tokens;
    }
  }
  int64_t budget = questions ? limits.shared_chunk_tokens : limits.chunk_tokens;
  const auto prefill = [&](size_t i) {
    const int64_t tokens = std::min(wishes[i].wish.tokens, budget);
    if (tokens <= 0) return;
    batch.push_back({.run = i, .tokens = tokens});
    budget -= tokens;
  };
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (wishes[i].kind == RunKind::kQuestion && wishes[i].wish.tiled) prefill(i);
  }
  if (!ingests.empty()) prefill(ingests[turn % ingests.size()]);
  return batch;
}

}  // namespace lectern::engine
