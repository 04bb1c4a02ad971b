#include "services/telemetry/levels.h"

#include <prometheus/metric_family.h>

#include <utility>

namespace lectern::services {

void Levels::Add(std::string name, std::string help, prometheus::ClientMetric::Label label,
                 std::function<std::optional<double>()> value) {
  levels_.push_back({std::move(name), std::move(help), {std::move(label)}, std::move(value)});
}

void Levels::Add(std::string name, std::string help, std::function<std::optional<double>()> value) {
  levels_.push_back({std::move(name), std::move(help), {}, std::move(value)});
}

std::vector<prometheus::MetricFamily> Levels::Collect() const {
  std::vector<prometheus::MetricFamily> families;
  for (const Level& level : levels_) {
    const std::optional<double> value = level.value();
    if (!value.has_value()) continue;
    if (families.empty() || families.back().name != level.name) {
      families.push_back({level.name, level.help, prometheus::MetricType::Gauge, {}});
    }
    prometheus::ClientMetric metric;
    metric.label = level.labels;
    metric.gauge.value = *value;
    families.back().metric.push_back(std::move(metric));
  }
  return families;
}

}  // namespace lectern::services
