// Gauges whose value is asked for when Prometheus asks. Add before the page is served; the
// functions must be callable from any thread for as long as it is.
#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/collectable.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace lectern::services {

class Levels final : public prometheus::Collectable {
 public:
  // `value`: nothing when it cannot be told, and then there is no series. Levels of one name must
  // be added one after the other.
  void Add(std::string name, std::string help, prometheus::ClientMetric::Label label,
           std::function<std::optional<double>()> value);
  void Add(std::string name, std::string help, std::function<std::optional<double>()> value);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct Level {
    std::string name;
    std::string help;
    std::vector<prometheus::ClientMetric::Label> labels;
    std::function<std::optional<double>()> value;
  };
  std::vector<Level> levels_;
};

}  // namespace lectern::services
