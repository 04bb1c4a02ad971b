// The forward pass against golden values from an independent implementation in fp64
// (tests/golden/README.md): logits, and which blocks every layer and group selected, on tiny models
// of every shape and on the bundled one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/kv/context.h"
#include "engine/model/checkpoint.h"
#include "engine/model/cpu_decoder.h"
#include "storage/store.h"
#include "tests/engine/model/golden_file.h"

namespace lectern::engine {
namespace {

// What one row selected, [layers][kv_heads][16].
class SelectionRecorder final : public AttentionObserver {
 public:
  explicit SelectionRecorder(int kv_heads) : kv_heads_(kv_heads) {}
  absl::Status OnLayer(const LayerObservation& o) override {
    if (o.index_lse_visible == nullptr) return absl::OkStatus();  // dense
    std::vector<int32_t>& selected = layers[o.layer];
    selected.assign(o.selected, o.selected + int64_t{kv_heads_} * o.slots);
    return absl::OkStatus();
  }
  std::map<int, std::vector<int32_t>> layers;

 private:
  const int kv_heads_;
};

struct Case {
  std::string name;
  std::string model;
  std::string golden;
  double logit_floor;  // least tolerance of a logit; they reach 15 to 50
  double gap_floor;    // least tolerance of a selection gap
  double most_flips;   // share of the selections that may differ, at near ties
};

constexpr double kFlippedTolerance = 2.0;  // of a logit in a row of which a selection differs

// What rounding to bf16 may change in an index score of a layer: its queries and keys are unit
// vectors times gains, so a score is at most the sum of the gains' products, of which 2^-9 is
// rounding.
double ScoreRounding(const ModelConfig& config, const LayerWeights& layer) {
  const double one = config.gemma_norm ? 1.0 : 0.0;
  double largest = 0;
  for (size_t i = 0; i < layer.index_q_norm.size(); ++i) {
    largest += std::fabs((one + layer.index_q_norm[i]) * (one + layer.index_k_norm[i]));
  }
  return std::ldexp(largest, -9);
}

// Shows the case's name where a test fails.
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class DecoderGoldenTest : public ::testing::TestWithParam<Case> {};

TEST_P(DecoderGoldenTest, LogitsAndSelectionsAgree) {
  const std::string root = LECTERN_SOURCE_DIR;
  const Golden golden(root + "/" + GetParam().golden);
  const auto tokens = golden.Get<int32_t>("tokens");
  const auto rows = golden.Get<int32_t>("rows");
  const auto top_ids = golden.Get<int32_t>("top_ids");
  const auto top_logits = golden.Get<float>("top_logits");
  const auto selected = golden.Get<int32_t>("selected");
  const auto gaps = golden.Get<float>("gaps");
  const auto deviation = golden.Get<float>("fp32_deviation");
  ASSERT_EQ(deviation.size(), 6u);
  ASSERT_GT(tokens.size(), 2048u) << "selection must be at work";

  auto checkpoint = Checkpoint::Load(root + "/" + GetParam().model);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = (*checkpoint)->config();
  auto decoder = CpuDecoder::Create(
      checkpoint->get(),
      {.attention = config.attention, .selected_blocks = config.sparse.topk_blocks});
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  auto store = storage::Store::OpenInMemory({});
  ASSERT_TRUE(store.ok()) << store.status();
  const KvShape shape((*decoder)->geometry());
  const int64_t blocks = BlocksOf(static_cast<int64_t>(tokens.size())) + 1;
  KvMemory memory(shape, &(*store)->blocks(),
                  {.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(),
                   .index_bytes = blocks * std::max<int64_t>(64, shape.index_slot_bytes())});
  auto context = Context::Open(&memory, /*tenant_uid=*/1, {}, 0, memory.NewUnstoredLineage());
  ASSERT_TRUE(context.ok()) << context.status();

  // README.md of the golden files, "Tolerances".
  const double logit_tolerance = std::max(GetParam().logit_floor, 4.0 * deviation[0]);
  const double gap_tolerance = std::max(GetParam().gap_floor, 4.0 * deviation[4]);
  const int kv_heads = config.num_kv_heads;
  const int64_t slots = 16;
  int64_t compared_selections = 0;
  int64_t flipped = 0;
  int64_t rows_with_equal_selections = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    // Chunks that end at the sampled rows: logits are those of a segment's last token.
    SegmentResult result;
    SelectionRecorder recorder(kv_heads);
    while ((*context)->token_count() <= rows[r]) {
      const int64_t first = (*context)->token_count();
      const int64_t count = std::min<int64_t>(1024, rows[r] + 1 - first);
      ASSERT_TRUE((*context)->Reserve(count).ok());
      const StepSegment segment = {.context = context->get(),
                                   .tokens = std::span(tokens).subspan(static_cast<size_t>(first),
                                                                       static_cast<size_t>(count)),
                                   .logit_rows = 1,
                                   .observer = &recorder,
                                   .observed_from = static_cast<int32_t>(count - 1)};
      result = (*decoder)->Step(std::span(&segment, 1))[0];
      ASSERT_TRUE(result.status.ok()) << result.status;
    }
    bool row_agrees = true;
    for (const auto& [layer, mine] : recorder.layers) {
      for (int head = 0; head < kv_heads; ++head) {
        const int64_t row = (static_cast<int64_t>(layer) * static_cast<int64_t>(rows.size()) +
                             static_cast<int64_t>(r)) *
                                kv_heads +
                            head;
        const std::vector<int32_t> expected(selected.begin() + row * slots,
                                            selected.begin() + (row + 1) * slots);
        const std::vector<int32_t> found(mine.begin() + head * slots,
                                         mine.begin() + (head + 1) * slots);
        ++compared_selections;
        if (found == expected) continue;
        ++flipped;
        // Once a layer chose otherwise, later layers see another input.
        if (row_agrees) {
          const double rounding = ScoreRounding(config, (*checkpoint)->layers()[layer]);
          EXPECT_LT(gaps[row], std::max(gap_tolerance, rounding))
              << "layer " << layer << " head " << head << " position " << rows[r];
        }
        row_agrees = false;
      }
    }
    if (!row_agrees) {
      EXPECT_GE(rows[r], 2048) << "up to 2048 tokens everything is selected";
      // Which of two blocks that hardly matter was read shows a little.
      for (int i = 0; i < 8; ++i) {
        EXPECT_NEAR(result.logits[top_ids[r * 8 + i]], top_logits[r * 8 + i], kFlippedTolerance)
            << "position " << rows[r] << ", token " << top_ids[r * 8 + i];
      }
      continue;
    }
    ++rows_with_equal_selections;
    for (int i = 0; i < 8; ++i) {
      EXPECT_NEAR(result.logits[top_ids[r * 8 + i]], top_logits[r * 8 + i], logit_tolerance)
          << "position " << rows[r] << ", token " << top_ids[r * 8 + i];
    }
  }
  std::printf(
      "%s: %lld selections compared, %lld differ at near ties; %lld of %zu rows agree in all "
      "layers\n",
      GetParam().name.c_str(), static_cast<long long>(compared_selections),
      static_cast<long long>(flipped), static_cast<long long>(rows_with_equal_selections),
      rows.size());
  // Rows up to position 2,048 always agree; so do others.
  EXPECT_GT(rows_with_equal_selections, 10);
  EXPECT_LE(static_cast<double>(flipped),
            GetParam().most_flips * static_cast<double>(compared_selections))
      << "near ties are few";
}

INSTANTIATE_TEST_SUITE_P(
    Golden, DecoderGoldenTest,
    ::testing::Values(
        Case{"plain_untied_fp32", "tests/golden/tiny/plain_untied_fp32",
             "tests/golden/tiny/plain_untied_fp32/golden.safetensors", 0.05, 0.1, 0.08},
        Case{"dense_first_fp16", "tests/golden/tiny/dense_first_fp16",
             "tests/golden/tiny/dense_first_fp16/golden.safetensors", 0.05, 0.1, 0.08},
        Case{"m3_like_bf16", "tests/golden/tiny/m3_like_bf16",
             "tests/golden/tiny/m3_like_bf16/golden.safetensors", 0.05, 0.1, 0.08},
        Case{"int8", "tests/golden/tiny/int8", "tests/golden/tiny/int8/golden.safetensors", 0.05,
             0.1, 0.08},
        // Its index branch tells the right block from 8,191 others by scores of hundreds; the
        // blocks that do not matter lie close together, and rounding decides among them.
        Case{"bundled", "models/default", "tests/golden/default.safetensors", 0.25, 0.5, 0.15}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace lectern::engine
