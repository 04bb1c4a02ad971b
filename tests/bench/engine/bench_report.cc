#include "bench_report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

namespace lectern::engine {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  const auto at = static_cast<size_t>(q * static_cast<double>(values.size()));
  return values[std::min(at, values.size() - 1)];
}

void BenchReport::Add(const Row& row) {
  entries_.push_back({row, model_});
  fmt::print("{:<8} {:<24} {:>8} {:>12.4g} {:<10} {:>8.3f}  {}\n", model_, row.metric, row.size,
             row.value, row.unit, row.ratio, row.against);
  std::fflush(stdout);
  const std::time_t now = std::time(nullptr);
  char date[16];
  std::strftime(date, sizeof(date), "%Y-%m-%d", std::gmtime(&now));
  nlohmann::json json = {
      {"device", device_}, {"date", date}, {"commit", commit_}, {"rows", nlohmann::json::array()}};
  for (const Entry& entry : entries_) {
    json["rows"].push_back({{"metric", entry.row.metric},
                            {"model", entry.model},
                            {"keys", "bf16"},
                            {"size", entry.row.size},
                            {"value", entry.row.value},
                            {"unit", entry.row.unit},
                            {"against", entry.row.against},
                            {"ratio", std::round(entry.row.ratio * 1000) / 1000}});
  }
  std::ofstream(path_) << json.dump(1) << "\n";
}

void Must(const absl::Status& status) {
  if (!status.ok()) {
    fmt::print(stderr, "{}\n", status.ToString());
    std::exit(1);
  }
}

}  // namespace lectern::engine
