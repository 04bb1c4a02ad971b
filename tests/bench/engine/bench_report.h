// Rows of a benchmark: printed as they come, kept in a file of the form that tests/bench/results
// has.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace lectern::engine {

struct Row {
  std::string metric;
  int64_t size;  // tokens of context, or how many at once
  double value;
  std::string unit;
  std::string against;  // a peer or limit of the same run
  double ratio;
};

// Seconds of a steady clock.
double Seconds();

double Median(std::vector<double> values);

// The value below which a share `q` of them lies.
double Quantile(std::vector<double> values, double q);

class BenchReport {
 public:
  // Rows go to `path`, with what was measured on; `model` is said with every row.
  BenchReport(std::string path, std::string commit)
      : path_(std::move(path)), commit_(std::move(commit)) {}
  void set_device(std::string device) { device_ = std::move(device); }
  void set_model(std::string model) { model_ = std::move(model); }

  // Prints the row and writes all so far, so that an end before the last one leaves what was
  // measured.
  void Add(const Row& row);

 private:
  struct Entry {
    Row row;
    std::string model;
  };
  std::string path_, commit_, device_, model_;
  std::vector<Entry> entries_;
};

// A benchmark has nothing to do after an error but to say it.
template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    fmt::print(stderr, "{}\n", value.status().ToString());
    std::exit(1);
  }
  return *std::move(value);
}

void Must(const absl::Status& status);

}  // namespace lectern::engine
