// From what the index branch saw of one answer to one figure: coverage_calibration.json in the
// model directory, fitted by training/calibrate_coverage.py on answers whose truth is known. Data,
// not code: which layers' and groups' coverage tells is a property of the weights.
//
// Not part of the model fingerprint: it changes no stored byte, and a better fit shall not cost
// anybody a cache. It names the weights that it was fitted on instead, and is refused with others.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lectern::engine {

// File name in a model directory.
inline constexpr std::string_view kCoverageCalibrationFile = "coverage_calibration.json";

// What a calibration reads of one answer.
struct CoverageFeatures {
  // [sparse layer][KV group]: the index branch's probability mass inside the selection, averaged
  // over the first CoverageCalibration::rows() rows from the answer mark on, and of the answer
  // mark's row alone.
  std::vector<double> mass;
  std::vector<double> first_mass;
  // Of the answer's tokens, from the model's logits as they are: probability of the most probable
  // token in the first row, the least of all rows, mean of its logarithm, mean entropy in nats.
  // Over the first probability_rows() rows. Absent where nothing is generated.
  struct Tokens {
    double first_probability = 0;
    double least_probability = 0;
    double mean_log_probability = 0;
    double entropy = 0;
    bool none = false;  // the answer is "not in the documents"
  };
  std::optional<Tokens> tokens;
};

// Immutable: any thread.
class CoverageCalibration {
 public:
  // `weights` is the digest of the weights that are served, hexadecimal. Errors: INVALID_ARGUMENT
  // CALIBRATION_INVALID for a file that is not one of this version or not of such a model
  // (sparse_layers, groups), FAILED_PRECONDITION CALIBRATION_MISMATCH for one of other weights;
  // both say what to do.
  static absl::StatusOr<CoverageCalibration> Parse(const std::string& json, int sparse_layers,
                                                   int groups, std::string_view weights);

  int rows() const { return rows_; }
  int probability_rows() const { return probability_rows_; }
  // Risk at and above which an answer is marked.
  double threshold() const { return threshold_; }

  // Predicted share of the main branch's attention inside the selection; absent if the calibration
  // was made without knowing it.
  std::optional<double> Attention(const CoverageFeatures& features) const;
  // Probability that the answer is wrong where reading every block would have been right. REQUIRES:
  // features.tokens.
  double Risk(const CoverageFeatures& features) const;

 private:
  // sigmoid(bias + sum of weights * features), [sparse layer][group] as in CoverageFeatures. Missed
  // is ln(1 - share + 1e-4).
  struct Logistic {
    double bias = 0;
    std::vector<double> mass, mass_missed, first_mass, first_mass_missed;
    double first_doubt = 0, least_doubt = 0, mean_log_probability = 0, entropy = 0, none = 0;

    double Masses(const CoverageFeatures& features) const;
  };

  friend struct CalibrationReader;

  int rows_ = 0;
  int probability_rows_ = 0;
  double threshold_ = 0;
  std::optional<Logistic> attention_;
  Logistic risk_;
};

}  // namespace lectern::engine
