// What the observed rows of a question attended to, summed up: the raw material of evidence and coverage.
//
// Observed are the last rows of the question and the first rows of the answer, in every layer. Per block: main-attention probability,
// averaged over rows, layers and heads. Per token, for blocks that matter: the same. Coverage: see Coverage in engine/types.h.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/kv/kv_memory.h"
#include "engine/model/decoder.h"
#include "engine/types.h"

namespace lectern::engine {

// Rows at the question's end that are observed: the question's last words and the answer mark, from where the answer is looked up.
inline constexpr int32_t kObservedQuestionRows = 8;
// Rows of the answer that are observed; the same number bounds the cost of long answers.
inline constexpr int32_t kObservedAnswerRows = 48;

class ObservedMass final : public AttentionObserver {
 public:
  // Counts tokens before `context_tokens` only: question and answer are no evidence.
  ObservedMass(const ModelConfig& config, int64_t context_tokens)
      : layers_(config.num_layers), heads_(config.num_heads), context_tokens_(context_tokens) {}

  absl::Status OnLayer(const LayerObservation& observation) override;

  struct BlockMass {
    double mass = 0;                             // sum over rows, layers and heads
    std::array<float, kBlockTokens> tokens{};    // the same by token
  };
  // By block number.
  const std::map<int32_t, BlockMass>& blocks() const { return blocks_; }
  // What a sum over rows, layers and heads is divided by to become an average.
  double normalizer() const { return static_cast<double>(rows_) * layers_ * heads_; }

  Coverage coverage() const;

 private:
  const int layers_;
  const int heads_;
  const int64_t context_tokens_;
  int64_t rows_ = 0;  // counted in layer 0
  std::map<int32_t, BlockMass> blocks_;
  // Coverage of each row: summed over sparse layers and groups, and how many terms.
  struct RowCoverage {
    double sum = 0;
    int64_t terms = 0;
  };
  std::map<int32_t, RowCoverage> coverage_;  // by position
};

}  // namespace lectern::engine
