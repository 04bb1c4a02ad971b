// Adaptive selection in the forward pass: against the independent implementation, against a decoder
// with the wider budget, and against itself in other company.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>

#include "engine/kv/context.h"
#include "engine/model/checkpoint.h"
#include "engine/model/cpu_decoder.h"
#include "storage/store.h"
#include "tests/engine/model/golden_file.h"

namespace lectern::engine {
namespace {

constexpr int64_t kWidest = 64;
constexpr double kNearMass = 0.005;  // bf16 roundings that flipped, in a share of the mass

// What all observed rows of a step selected.
class SelectionRecorder final : public AttentionObserver {
 public:
  absl::Status OnLayer(const LayerObservation& o) override {
    const int kv_heads = o.context->shape().kv_heads();
    for (int32_t row = 0; row < o.rows; ++row) {
      for (int head = 0; head < kv_heads; ++head) {
        const int32_t* begin = o.selected + (int64_t{row} * kv_heads + head) * o.slots;
        std::vector<int32_t> blocks(begin, std::find(begin, begin + o.slots, -1));
        selected[{o.layer, o.positions[row], head}] = std::move(blocks);
        const int64_t pair = int64_t{row} * kv_heads + head;
        coverage[{o.layer, o.positions[row], head}] =
            std::exp(double{o.index_lse_selected[pair]} - double{o.index_lse_visible[pair]});
      }
    }
    return absl::OkStatus();
  }
  std::map<std::array<int, 3>, std::vector<int32_t>> selected;  // by layer, position, head
  std::map<std::array<int, 3>, double> coverage;
};

// The tiny int8 model over the golden file's tokens, the last of which are a question's.
class DecoderAdaptiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = std::string(LECTERN_SOURCE_DIR) + "/tests/golden/tiny/int8";
    const Golden golden(folder + "/adaptive.safetensors");
    tokens_ = golden.Get<int32_t>("tokens");
    thresholds_ = golden.Get<float>("thresholds");
    selected_ = golden.Get<int32_t>("selected");
    auto checkpoint = Checkpoint::Load(folder);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    question_ = static_cast<int32_t>(
        selected_.size() / (thresholds_.size() * static_cast<size_t>(config().num_layers) *
                            static_cast<size_t>(config().num_kv_heads) * kWidest));
    auto store = storage::Store::OpenInMemory({});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    decoder_ = MakeDecoder(16);
    wide_ = MakeDecoder(kWidest);
    const KvShape shape(decoder_->geometry());
    const int64_t blocks = 4 * (BlocksOf(static_cast<int64_t>(tokens_.size())) + 2);
    memory_ = std::make_unique<KvMemory>(
        shape, &store_->blocks(),
        KvMemory::Options{.pool_bytes = blocks * shape.layers() * shape.kv_slot_bytes(),
                          .index_bytes = blocks * std::max<int64_t>(64, shape.index_slot_bytes())});
  }

  const ModelConfig& config() const { return checkpoint_->config(); }
  int32_t documents() const { return static_cast<int32_t>(tokens_.size()) - question_; }

  std::unique_ptr<Decoder> MakeDecoder(int32_t budget) const {
    auto decoder = CpuDecoder::Create(checkpoint_.get(),
                                      {.attention = config().attention, .selected_blocks = budget});
    EXPECT_TRUE(decoder.ok()) << decoder.status();
    return *std::move(decoder);
  }

  // The documents behind the model's own budget.
  std::unique_ptr<Context> Prefilled() const {
    auto context =
        Context::Open(memory_.get(), /*tenant_uid=*/1, {}, 0, memory_->NewUnstoredLineage());
    EXPECT_TRUE(context.ok()) << context.status();
    while ((*context)->token_count() < documents()) {
      const int64_t first = (*context)->token_count();
      const int64_t count = std::min<int64_t>(2048, documents() - first);
      EXPECT_TRUE((*context)->Reserve(count).ok());
      const StepSegment segment = {.context = context->get(),
                                   .tokens = std::span(tokens_).subspan(
                                       static_cast<size_t>(first), static_cast<size_t>(count))};
      const SegmentResult result = decoder_->Step(std::span(&segment, 1))[0];
      EXPECT_TRUE(result.status.ok()) << result.status;
    }
    return *std::move(context);
  }

  StepSegment Question(Context* context, float widen_below, AttentionObserver* observer) const {
    EXPECT_TRUE(context->Reserve(question_).ok());
    return {.context = context,
            .tokens = std::span(tokens_).last(static_cast<size_t>(question_)),
            .logit_rows = 1,
            .widen_below = widen_below,
            .observer = observer};
  }

  SegmentResult Ask(Decoder& decoder, float widen_below, SelectionRecorder* recorder) const {
    const std::unique_ptr<Context> context = Prefilled();
    const StepSegment segment = Question(context.get(), widen_below, recorder);
    SegmentResult result = decoder.Step(std::span(&segment, 1))[0];
    EXPECT_TRUE(result.status.ok()) << result.status;
    return result;
  }

  int32_t question_ = 0;
  std::vector<int32_t> tokens_, selected_;
  std::vector<float> thresholds_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<Decoder> decoder_, wide_;
  std::unique_ptr<KvMemory> memory_;
};

TEST_F(DecoderAdaptiveTest, SelectsWhatTheReferenceSelects) {
  std::map<size_t, int> sizes;
  for (size_t t = 0; t < thresholds_.size(); ++t) {
    SelectionRecorder recorder;
    const SegmentResult result = Ask(*decoder_, thresholds_[t], &recorder);
    int other_count = 0, other_blocks = 0, compared = 0;
    int64_t blocks = 0, widened = 0;
    for (int layer = 0; layer < config().num_layers; ++layer) {
      for (int32_t row = 0; row < question_; ++row) {
        for (int head = 0; head < config().num_kv_heads; ++head) {
          const size_t at = (((t * static_cast<size_t>(config().num_layers) + layer) *
                                  static_cast<size_t>(question_) +
                              row) *
                                 static_cast<size_t>(config().num_kv_heads) +
                             head) *
                            kWidest;
          const auto begin = selected_.begin() + static_cast<int64_t>(at);
          const std::vector<int32_t> expected(begin, std::find(begin, begin + kWidest, -1));
          const std::array<int, 3> key = {layer, documents() + row, head};
          const std::vector<int32_t>& found = recorder.selected[key];
          ++compared;
          std::vector<int32_t> apart;
          std::set_symmetric_difference(found.begin(), found.end(), expected.begin(),
                                        expected.end(), std::back_inserter(apart));
          if (found.size() != expected.size()) {
            // The reference's mass and ours lie on either side of the threshold, both close to it.
            ++other_count;
            if (found.size() < expected.size()) {
              EXPECT_LT(recorder.coverage[key], thresholds_[t] + kNearMass);
            }
          } else if (!apart.empty()) {
            // A near tie among so many blocks of random keys: one for another.
            EXPECT_LE(apart.size(), 2u) << "layer " << layer << " row " << row << " head " << head;
            ++other_blocks;
          }
          ++sizes[found.size()];
          blocks += static_cast<int64_t>(found.size());
          widened += found.size() > 16;
        }
      }
    }
    std::printf("threshold %.2f: of %d selections %d of another size, %d with another block\n",
                thresholds_[t], compared, other_count, other_blocks);
    EXPECT_LE(other_count * 100, compared * 4);
    EXPECT_LE(other_blocks * 100, compared * 16);
    EXPECT_EQ(Sum(result.selected).selections, compared);
    EXPECT_EQ(Sum(result.selected).blocks, blocks);
    EXPECT_EQ(Sum(result.selected).widened, widened);
  }
  EXPECT_GT(sizes[16], 0);
  EXPECT_GT(sizes[32], 0);
  EXPECT_GT(sizes[64], 0);
}

TEST_F(DecoderAdaptiveTest, NeverWideningIsBitwiseTheSame) {
  SelectionRecorder off, on;
  const SegmentResult expected = Ask(*decoder_, 0, &off);
  const SegmentResult result = Ask(*decoder_, 1e-9f, &on);
  EXPECT_EQ(result.logits, expected.logits);
  EXPECT_EQ(on.selected, off.selected);
  EXPECT_EQ(on.coverage, off.coverage);
  EXPECT_EQ(Sum(result.selected).widened, 0);
  EXPECT_EQ(Sum(result.selected).blocks, 16 * Sum(result.selected).selections);
  EXPECT_EQ(Sum(result.selected).selections,
            int64_t{question_} * config().num_layers * config().num_kv_heads);
}

TEST_F(DecoderAdaptiveTest, AlwaysWideningIsBitwiseTheWiderBudget) {
  SelectionRecorder wide, on;
  const SegmentResult expected = Ask(*wide_, 0, &wide);
  const SegmentResult result = Ask(*decoder_, 1, &on);
  EXPECT_EQ(result.logits, expected.logits);
  EXPECT_EQ(on.selected, wide.selected);
  EXPECT_EQ(on.coverage, wide.coverage);
  EXPECT_EQ(Sum(result.selected).widened, Sum(result.selected).selections);
  EXPECT_EQ(Sum(result.selected).blocks, kWidest * Sum(result.selected).selections);
  EXPECT_NE(result.logits, Ask(*decoder_, 0, nullptr).logits);
}

// Other rows of the step, widened or not, and whether anybody looks, do not show.
TEST_F(DecoderAdaptiveTest, CompanyDoesNotShow) {
  SelectionRecorder alone;
  const SegmentResult expected = Ask(*decoder_, thresholds_[0], &alone);
  EXPECT_EQ(Ask(*decoder_, thresholds_[0], nullptr).logits, expected.logits);
  const std::unique_ptr<Context> first = Prefilled(), second = Prefilled(), third = Prefilled();
  SelectionRecorder recorder;
  const std::vector<StepSegment> segments = {Question(first.get(), 0, nullptr),
                                             Question(second.get(), thresholds_[0], &recorder),
                                             Question(third.get(), 1, nullptr)};
  const std::vector<SegmentResult> results = decoder_->Step(segments);
  EXPECT_EQ(results[1].logits, expected.logits);
  EXPECT_EQ(recorder.selected, alone.selected);
  EXPECT_EQ(Sum(results[0].selected).widened, 0);
  EXPECT_EQ(Sum(results[2].selected).widened, Sum(results[2].selected).selections);
}

}  // namespace
}  // namespace lectern::engine
