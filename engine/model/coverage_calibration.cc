#include "engine/model/coverage_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "engine/error/error.h"

namespace lectern::engine {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
// Keeps the logarithm of a part of nothing finite.
constexpr double kFloor = 1e-4;

double MissedLog(double share) { return std::log(1 - std::clamp(share, 0.0, 1.0) + kFloor); }

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

absl::Status Invalid(std::string_view what) {
  return InvalidArgument(
      "CALIBRATION_INVALID",
      fmt::format("{}: {}; make it again with training/calibrate_coverage.py, or remove it to "
                  "serve without",
                  kCoverageCalibrationFile, what));
}

}  // namespace

// Throws json::exception or std::invalid_argument with what is wrong.
struct CalibrationReader {
  size_t layers, groups;

  std::vector<double> Matrix(const json& weights, const char* name) const {
    const json& rows = weights.at(name);
    std::vector<double> out;
    if (rows.size() != layers) {
      throw std::invalid_argument(fmt::format("{} is not of {} sparse layers", name, layers));
    }
    for (const json& row : rows) {
      if (row.size() != groups)
        throw std::invalid_argument(fmt::format("{} is not of {} groups", name, groups));
      for (const json& weight : row) out.push_back(weight.get<double>());
    }
    return out;
  }

  CoverageCalibration::Logistic Part(const json& part, bool tokens) const {
    const json& weights = part.at("weights");
    CoverageCalibration::Logistic out;
    out.bias = part.at("bias");
    out.mass = Matrix(weights, "mass");
    out.mass_missed = Matrix(weights, "mass_missed_log");
    out.first_mass = Matrix(weights, "first_mass");
    out.first_mass_missed = Matrix(weights, "first_mass_missed_log");
    if (!tokens) return out;
    out.first_doubt = weights.at("first_doubt_log");
    out.least_doubt = weights.at("least_doubt_log");
    out.mean_log_probability = weights.at("mean_log_probability");
    out.entropy = weights.at("entropy");
    out.none = weights.at("none");
    return out;
  }

  CoverageCalibration Read(const json& j) const {
    CoverageCalibration out;
    out.rows_ = j.at("rows");
    out.probability_rows_ = j.at("probability_rows");
    if (out.rows_ < 1 || out.probability_rows_ < 1)
      throw std::invalid_argument("rows and probability_rows must be at least 1");
    if (j.at("layers").get<size_t>() != layers || j.at("groups").get<size_t>() != groups) {
      throw std::invalid_argument(
          fmt::format("it is of {} sparse layers and {} groups, the model has {} and {}",
                      j.at("layers").get<size_t>(), j.at("groups").get<size_t>(), layers, groups));
    }
    if (j.contains("attention")) out.attention_ = Part(j.at("attention"), false);
    out.risk_ = Part(j.at("risk"), true);
    out.threshold_ = j.at("threshold");
    return out;
  }
};

absl::StatusOr<CoverageCalibration> CoverageCalibration::Parse(const std::string& text,
                                                               int sparse_layers, int groups,
                                                               std::string_view weights) {
  try {
    const json j = json::parse(text);
    if (const int version = j.at("version"); version != kVersion) {
      return Invalid(
          fmt::format("it is of version {}, this server reads version {}", version, kVersion));
    }
    CoverageCalibration made =
        CalibrationReader{static_cast<size_t>(sparse_layers), static_cast<size_t>(groups)}.Read(j);
    if (const std::string of = j.at("weights_sha256"); of != weights) {
      return Error(absl::StatusCode::kFailedPrecondition, "CALIBRATION_MISMATCH",
                   fmt::format("{} was fitted on other weights than these: make it again with "
                               "training/calibrate_coverage.py, or remove it to serve without",
                               kCoverageCalibrationFile),
                   {{"calibrated", of}, {"serving", std::string(weights)}});
    }
    return made;
  } catch (const json::exception& e) {
    return Invalid(e.what());
  } catch (const std::invalid_argument& e) {
    return Invalid(e.what());
  }
}

double CoverageCalibration::Logistic::Masses(const CoverageFeatures& features) const {
  double sum = bias;
  for (size_t i = 0; i < mass.size(); ++i) {
    sum += mass[i] * features.mass[i] + mass_missed[i] * MissedLog(features.mass[i]) +
           first_mass[i] * features.first_mass[i] +
           first_mass_missed[i] * MissedLog(features.first_mass[i]);
  }
  return sum;
}

std::optional<double> CoverageCalibration::Attention(const CoverageFeatures& features) const {
  if (!attention_.has_value()) return std::nullopt;
  return Sigmoid(attention_->Masses(features));
}

double CoverageCalibration::Risk(const CoverageFeatures& features) const {
  const CoverageFeatures::Tokens& tokens = *features.tokens;
  return Sigmoid(risk_.Masses(features) + risk_.first_doubt * MissedLog(tokens.first_probability) +
                 risk_.least_doubt * MissedLog(tokens.least_probability) +
                 risk_.mean_log_probability * tokens.mean_log_probability +
                 risk_.entropy * tokens.entropy + risk_.none * (tokens.none ? 1 : 0));
}

}  // namespace lectern::engine
