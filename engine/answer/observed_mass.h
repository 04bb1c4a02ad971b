// What a question looked at: the raw material of evidence and coverage.
//
// Most heads look at what is near, at the first token, or at every paragraph's end, whatever is
// asked; a few look at where the answer stands. The difference shows against a *baseline*: the row
// of the question's first mark, which has read the documents but not one word of the question. For
// every observed row (the answer mark and the first answer tokens, all layers) and every block,
//   looked = max over layers and heads of (mass the head gives the block - mass it gave the block
//   in the baseline row)
// where mass is main-attention probability on the block's document tokens. A block's mass is the
// average of `looked` over the rows. Coverage of the same rows: see Coverage in engine/types.h.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/kv/kv_memory.h"
#include "engine/model/coverage_calibration.h"
#include "engine/model/decoder.h"
#include "engine/types.h"

namespace lectern::engine {

// Answer tokens whose rows are observed, after the answer mark: bounds the cost of long answers.
inline constexpr int32_t kObservedAnswerRows = 48;

class ObservedMass final : public AttentionObserver {
 public:
  // Counts tokens before `context_tokens` only: question and answer are no evidence. `by_head`:
  // what the last row looked at is to be compared with what it looks at in other contexts.
  ObservedMass(const ModelConfig& config, int64_t context_tokens, bool by_head = false)
      : heads_(config.num_heads),
        layers_(config.num_layers),
        by_head_(by_head),
        context_tokens_(context_tokens) {}

  // The next rows are the baseline (true), or rows to compare with it (false, the default).
  void set_baseline(bool baseline) { baseline_row_ = baseline; }

  absl::Status OnLayer(const LayerObservation& observation) override;

  // Of the rows seen since the last call, those before position `end` count from now on; the others
  // are forgotten. Call it after every step: nothing below knows of a row before.
  void Keep(int64_t end);

  struct BlockMass {
    double mass = 0;                           // averaged over rows, 0 to 1
    std::array<float, kBlockTokens> tokens{};  // where in the block, in arbitrary units
  };
  // By block number.
  std::map<int32_t, BlockMass> Blocks() const;

  // With by_head, of the last row: by layer and head (layer * heads + head), the logarithm of the
  // sum of e^score over all that it attended to, the denominator of its softmax.
  const std::vector<double>& head_weights() const { return last_.weights; }
  // With by_head: as Blocks, of the last row alone, and with the masses that each head gives times
  // `scale`, by layer and head.
  std::map<int32_t, BlockMass> Blocks(std::span<const double> scale) const;

  // The blocks that the last row looked at, most first, at most `limit`.
  std::vector<int32_t> LastBlocks(size_t limit) const;
  // What was seen of one token, in the units of BlockMass::tokens.
  float TokenMass(int64_t position) const;

  Coverage coverage() const;
  // The masses that a calibration reads, of the first `rows` rows; none if every layer is dense.
  std::optional<CoverageFeatures> CalibrationFeatures(int rows) const;

 private:
  using TokenMasses = std::array<float, kBlockTokens>;
  struct Gain {
    int32_t head = 0;  // layer * heads_ + head
    int32_t block = 0;
    float mass = 0;
  };
  struct ByHead {
    std::vector<double> weights;
    std::vector<Gain> gains;
  };
  // One row of the step at hand. Summed up row by row, so that sums do not depend on which rows one
  // step held.
  struct Row {
    std::map<int32_t, float> looked;
    ByHead by_head;
    std::vector<std::pair<int32_t, TokenMasses>> tokens;  // by block, in the order seen
    std::vector<double> coverage;
  };

  const int heads_;
  const int layers_;
  const bool by_head_;
  const int64_t context_tokens_;
  bool baseline_row_ = false;
  std::map<int32_t, Row> step_;                                       // by position
  std::map<std::pair<int, int>, std::map<int32_t, float>> baseline_;  // by (layer, head)
  std::map<int32_t, std::map<int32_t, float>> looked_;  // by row's position, then block
  std::map<int32_t, TokenMasses> tokens_;               // by block
  ByHead last_;                                         // of the last row
  // Coverage of each row by sparse layer and group, by position.
  std::map<int32_t, std::vector<double>> coverage_;
};

}  // namespace lectern::engine
