// The calibration of coverage against the tool that makes it (tests/golden/coverage.json), and
// files that are not one.
#include "engine/model/coverage_calibration.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

using nlohmann::json;

constexpr int kLayers = 3, kGroups = 2;
constexpr char kWeights[] = "5eed";

json Golden() {
  std::ifstream file(std::string(LECTERN_SOURCE_DIR) + "/tests/golden/coverage.json");
  return json::parse(file);
}

json Calibration() {
  json calibration = Golden().at("calibration");
  calibration["weights_sha256"] = kWeights;
  return calibration;
}

absl::StatusOr<CoverageCalibration> Parse(const json& calibration) {
  return CoverageCalibration::Parse(calibration.dump(), kLayers, kGroups, kWeights);
}

std::vector<double> Flat(const json& matrix) {
  std::vector<double> out;
  for (const json& row : matrix) {
    for (const json& value : row) out.push_back(value);
  }
  return out;
}

TEST(CoverageCalibration, SaysWhatTheFittingToolSays) {
  auto calibration = Parse(Calibration());
  ASSERT_TRUE(calibration.ok()) << calibration.status();
  EXPECT_EQ(calibration->rows(), 4);
  EXPECT_EQ(calibration->probability_rows(), 49);
  int low = 0, answers = 0;
  const json golden = Golden();
  for (const json& answer : golden.at("answers")) {
    CoverageFeatures features = {.mass = Flat(answer.at("mass")),
                                 .first_mass = Flat(answer.at("first_mass")),
                                 .tokens = CoverageFeatures::Tokens{
                                     .first_probability = answer.at("first_probability"),
                                     .least_probability = answer.at("least_probability"),
                                     .mean_log_probability = answer.at("mean_log_probability"),
                                     .entropy = answer.at("entropy"),
                                     .none = answer.at("none")}};
    EXPECT_NEAR(calibration->Risk(features), answer.at("risk").get<double>(), 1e-9);
    EXPECT_EQ(calibration->Risk(features) >= calibration->threshold(), answer.at("low"));
    features.tokens.reset();
    ASSERT_TRUE(calibration->Attention(features).has_value());
    EXPECT_NEAR(*calibration->Attention(features), answer.at("attention").get<double>(), 1e-9);
    low += answer.at("low").get<bool>();
    ++answers;
  }
  EXPECT_GT(low, 0);
  EXPECT_LT(low, answers);
}

TEST(CoverageCalibration, MayNotKnowTheTrueAttention) {
  json calibration = Calibration();
  calibration.erase("attention");
  auto parsed = Parse(calibration);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_FALSE(parsed->Attention({}).has_value());
}

TEST(CoverageCalibration, OtherWeightsAreRefused) {
  auto parsed = CoverageCalibration::Parse(Calibration().dump(), kLayers, kGroups, "0ther");
  ASSERT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(parsed.status()), "CALIBRATION_MISMATCH");
  EXPECT_EQ(MetadataOf(parsed.status()).at("calibrated"), kWeights);
}

TEST(CoverageCalibration, WhatIsNoCalibrationIsRefused) {
  const auto refused = [](const absl::StatusOr<CoverageCalibration>& parsed) {
    return parsed.status().code() == absl::StatusCode::kInvalidArgument &&
           ReasonOf(parsed.status()) == "CALIBRATION_INVALID";
  };
  EXPECT_TRUE(refused(CoverageCalibration::Parse("{", kLayers, kGroups, kWeights)));
  EXPECT_TRUE(refused(CoverageCalibration::Parse("[]", kLayers, kGroups, kWeights)));
  EXPECT_TRUE(refused(CoverageCalibration::Parse(Calibration().dump(), 4, kGroups, kWeights)));
  EXPECT_TRUE(refused(CoverageCalibration::Parse(Calibration().dump(), kLayers, 1, kWeights)));
  const auto with = [](const json::json_pointer& at, const json& value) {
    json calibration = Calibration();
    calibration[at] = value;
    return Parse(calibration);
  };
  EXPECT_TRUE(refused(with("/version"_json_pointer, 2)));
  EXPECT_TRUE(refused(with("/rows"_json_pointer, 0)));
  EXPECT_TRUE(refused(with("/threshold"_json_pointer, "high")));
  EXPECT_TRUE(refused(with("/risk/weights/mass/0/0"_json_pointer, nullptr)));
  EXPECT_TRUE(refused(with("/risk/weights/mass"_json_pointer, json::array())));
  EXPECT_TRUE(refused(with("/risk/weights/first_mass/1"_json_pointer, {1, 2, 3})));
  EXPECT_TRUE(refused(with("/attention/weights"_json_pointer, json::object())));
  json without = Calibration();
  without.erase("risk");
  EXPECT_TRUE(refused(Parse(without)));
}

}  // namespace
}  // namespace lectern::engine
