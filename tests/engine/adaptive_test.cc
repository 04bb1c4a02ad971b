// Adaptive selection and calibrated coverage as a caller meets them.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using nlohmann::json;
using testing::AskAndWait;
using testing::RetrieveAndWait;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};
constexpr int64_t kChoicesPerToken = 2 * 2;  // layers and groups of the random model
constexpr int64_t kBudget = 16, kWidest = 64;

class AdaptiveTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new testing::TemporaryDirectory();
    testing::WriteRandomModel({}, model_->path());
  }
  static void TearDownTestSuite() { delete model_; }
  void TearDown() override { std::filesystem::remove(CalibrationPath()); }

  static std::string CalibrationPath() { return model_->path() + "/coverage_calibration.json"; }

  // With one document of more blocks than the widest selection.
  static std::unique_ptr<Engine> Open(double adaptive_coverage = 0,
                                      AttentionMode attention = AttentionMode::kSparse) {
    auto engine = Engine::Open({.model_dir = model_->path(),
                                .attention = attention,
                                .pool_bytes = 64 << 20,
                                .index_bytes = 64 << 20,
                                .adaptive_coverage = adaptive_coverage});
    EXPECT_TRUE(engine.ok()) << engine.status();
    if (!engine.ok()) return nullptr;
    testing::Upload(**engine, kCorpus, "a", testing::RandomText(7000, 1));
    const Operation ingest = testing::IngestAndWait(**engine, kCorpus);
    EXPECT_TRUE(ingest.error.ok()) << ingest.error;
    EXPECT_GT(ingest.tokens_total, (kWidest + 2) * 128);
    return *std::move(engine);
  }

  static AskRequest Question(std::optional<double> adaptive) {
    return {.target = {.corpus = kCorpus},
            .question = "what is it?",
            .max_tokens = 12,
            .adaptive_coverage = adaptive};
  }
  static Answer Ask(Engine& engine, std::optional<double> adaptive) {
    auto answer = AskAndWait(engine, Question(adaptive));
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? *answer : Answer{};
  }
  static void ExpectSame(const Answer& a, const Answer& b) {
    EXPECT_EQ(a.text, b.text);
    EXPECT_EQ(a.coverage.mean, b.coverage.mean);
    EXPECT_EQ(a.coverage.min_row, b.coverage.min_row);
    EXPECT_EQ(a.usage.selections, b.usage.selections);
    EXPECT_EQ(a.usage.selected_blocks, b.usage.selected_blocks);
    EXPECT_EQ(a.usage.widened_selections, b.usage.widened_selections);
    ASSERT_EQ(a.evidence.size(), b.evidence.size());
    for (size_t i = 0; i < a.evidence.size(); ++i) {
      EXPECT_EQ(a.evidence[i].byte_begin, b.evidence[i].byte_begin);
      EXPECT_EQ(a.evidence[i].mass, b.evidence[i].mass);
    }
  }

  // A calibration that looks at nothing but the first row's mass in the first layer and group.
  static json Calibration(double slope) {
    const json nothing = json::array({{0, 0}, {0, 0}});
    json first = nothing;
    first[0][0] = slope;
    json masses = {{"mass", nothing},
                   {"mass_missed_log", nothing},
                   {"first_mass", first},
                   {"first_mass_missed_log", nothing}};
    json all = masses;
    for (const char* name :
         {"first_doubt_log", "least_doubt_log", "mean_log_probability", "entropy", "none"})
      all[name] = 0;
    return {{"version", 1},
            {"rows", 4},
            {"probability_rows", 49},
            {"layers", 2},
            {"groups", 2},
            {"attention", {{"bias", 0}, {"weights", masses}}},
            {"risk", {{"bias", 0}, {"weights", all}}},
            {"threshold", 0.5}};
  }
  static void WriteCalibration(const json& calibration) {
    std::ofstream(CalibrationPath()) << calibration.dump();
  }

  static testing::TemporaryDirectory* model_;
};
testing::TemporaryDirectory* AdaptiveTest::model_ = nullptr;

TEST_F(AdaptiveTest, OffUnlessAskedFor) {
  auto engine = Open();
  const Answer off = Ask(*engine, std::nullopt);
  ExpectSame(off, Ask(*engine, 0));
  ExpectSame(off, Ask(*engine, 1e-9));  // nothing is ever that low
  // The last token is sampled, not computed.
  const int64_t tokens = off.usage.prompt_tokens + off.usage.generated_tokens - 1;
  EXPECT_EQ(off.usage.selections, tokens * kChoicesPerToken);
  EXPECT_EQ(off.usage.selected_blocks, tokens * kChoicesPerToken * kBudget);
  EXPECT_EQ(off.usage.widened_selections, 0);
}

TEST_F(AdaptiveTest, WidensAndSaysHowMuch) {
  auto engine = Open();
  const Answer off = Ask(*engine, 0);
  const Answer always = Ask(*engine, 1);
  EXPECT_EQ(always.usage.widened_selections, always.usage.selections);
  EXPECT_EQ(always.usage.selected_blocks, always.usage.selections * kWidest);
  EXPECT_GT(always.coverage.mean, off.coverage.mean);
  ExpectSame(always, Ask(*engine, 1));
  // Between the two: some widen, some do not.
  const Answer some = Ask(*engine, off.coverage.mean);
  EXPECT_GT(some.usage.widened_selections, 0);
  EXPECT_GT(some.usage.selected_blocks, some.usage.selections * kBudget);
  EXPECT_LT(some.usage.selected_blocks, some.usage.selections * kWidest);
  ExpectSame(some, Ask(*engine, off.coverage.mean));
  auto found = RetrieveAndWait(
      *engine, {.target = {.corpus = kCorpus}, .query = "what is it?", .adaptive_coverage = 1});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->usage.widened_selections, found->usage.selections);
  EXPECT_EQ(found->usage.selections, found->usage.prompt_tokens * kChoicesPerToken);
}

TEST_F(AdaptiveTest, TheServersDefaultHoldsForQuestionsThatDoNotSay) {
  auto engine = Open(1);
  const Answer always = Ask(*engine, std::nullopt);
  EXPECT_EQ(always.usage.widened_selections, always.usage.selections);
  EXPECT_EQ(Ask(*engine, 0).usage.widened_selections, 0);
  // What the documents leave in the cache is made with the model's own budget.
  auto plain = Open(0);
  ExpectSame(always, Ask(*plain, 1));
}

TEST_F(AdaptiveTest, InABatchAsAlone) {
  auto engine = Open();
  const std::vector<double> thresholds = {0, 0.3, 1, 0.6};
  std::vector<Answer> alone;
  for (const double threshold : thresholds) alone.push_back(Ask(*engine, threshold));
  std::vector<std::future<Answer>> together;
  for (const double threshold : thresholds) {
    together.push_back(
        std::async(std::launch::async, [&engine, threshold] { return Ask(*engine, threshold); }));
  }
  for (size_t i = 0; i < thresholds.size(); ++i) {
    const Answer answer = together[i].get();
    EXPECT_EQ(answer.text, alone[i].text) << thresholds[i];
    EXPECT_EQ(answer.usage.selected_blocks, alone[i].usage.selected_blocks) << thresholds[i];
  }
}

TEST_F(AdaptiveTest, OutOfRangeIsRefused) {
  auto engine = Open();
  for (const double value : {-0.1, 1.1, std::nan("")}) {
    auto answer = AskAndWait(*engine, Question(value));
    EXPECT_EQ(ReasonOf(answer.status()), "ARGUMENT_OUT_OF_RANGE") << value;
    EXPECT_EQ(MetadataOf(answer.status())["field"], "adaptive_coverage");
  }
}

TEST_F(AdaptiveTest, DenseReadsEverythingAndSelectsNothing) {
  WriteCalibration(Calibration(1));  // not looked at: nothing is ever left out
  auto engine = Open(1, AttentionMode::kDense);
  const Answer answer = Ask(*engine, 1);
  EXPECT_EQ(answer.usage.selections, 0);
  EXPECT_EQ(answer.coverage.mean, 1);
  EXPECT_FALSE(answer.coverage.calibrated);
}

TEST_F(AdaptiveTest, WithoutACalibrationTheAnswerSaysSo) {
  auto engine = Open();
  const Answer answer = Ask(*engine, 0);
  EXPECT_FALSE(answer.coverage.calibrated);
  EXPECT_FALSE(answer.coverage.attention.has_value());
  EXPECT_FALSE(answer.coverage.risk.has_value());
  EXPECT_FALSE(answer.coverage.low);
}

TEST_F(AdaptiveTest, ACalibrationIsAppliedAndKeptWithTheTurn) {
  std::string fingerprint;
  std::string digest;
  {
    // The digest of the weights, from the message of a server that meets another.
    auto plain = Open();
    fingerprint = plain->GetModel().fingerprint;
    json other = Calibration(0);
    other["weights_sha256"] = "0ther";
    WriteCalibration(other);
    auto refused = Engine::Open({.model_dir = model_->path()});
    ASSERT_EQ(ReasonOf(refused.status()), "CALIBRATION_MISMATCH");
    digest = MetadataOf(refused.status())["serving"];
  }
  for (const double slope : {-4.0, 4.0}) {
    json calibration = Calibration(slope);
    calibration["weights_sha256"] = digest;
    WriteCalibration(calibration);
    auto engine = Open();
    EXPECT_EQ(engine->GetModel().fingerprint, fingerprint) << "a cache survives a better fit";
    auto session = engine->CreateSession({.corpus = kCorpus, .id = "s"}, "", 0);
    ASSERT_TRUE(session.ok()) << session.status();
    AskRequest request = Question(0);
    request.target.session = "s";
    auto answer = AskAndWait(*engine, request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_TRUE(answer->coverage.calibrated);
    ASSERT_TRUE(answer->coverage.risk.has_value());
    // Below 1/2 for every positive mass, or above.
    EXPECT_EQ(answer->coverage.low, slope > 0);
    EXPECT_EQ(*answer->coverage.risk >= 0.5, slope > 0);
    EXPECT_EQ(answer->coverage.attention, answer->coverage.risk) << "the same weights here";
    // sigmoid(slope mass) gives the mass back, and more is read when the selection widens.
    const auto mass = [slope](const Coverage& c) {
      return std::log(*c.risk / (1 - *c.risk)) / slope;
    };
    EXPECT_GT(mass(answer->coverage), 0);
    EXPECT_LT(mass(answer->coverage), 1);
    EXPECT_GT(mass(Ask(*engine, 1).coverage), mass(Ask(*engine, 0).coverage));
    auto turns = engine->ListTurns({.corpus = kCorpus, .id = "s"}, {});
    ASSERT_TRUE(turns.ok()) << turns.status();
    const Answer& kept = turns->items.at(0).answer;
    EXPECT_EQ(kept.coverage.calibrated, true);
    EXPECT_EQ(kept.coverage.low, answer->coverage.low);
    EXPECT_EQ(kept.coverage.risk, answer->coverage.risk);
    EXPECT_EQ(kept.coverage.attention, answer->coverage.attention);
    EXPECT_EQ(kept.usage.selections, answer->usage.selections);
    EXPECT_EQ(kept.usage.selected_blocks, answer->usage.selected_blocks);
    auto found = RetrieveAndWait(*engine, {.target = {.corpus = kCorpus}, .query = "what is it?"});
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found->coverage.calibrated);
    EXPECT_TRUE(found->coverage.attention.has_value());
    EXPECT_FALSE(found->coverage.risk.has_value()) << "nothing was answered";
  }
}

}  // namespace
}  // namespace lectern::engine
