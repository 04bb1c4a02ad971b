// The engine's counters and levels, read when Prometheus asks. What each means is said with it, in
// engine_collector.cc, and in the table of deploy/OPERATIONS.md, which a test holds against the
// page.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "engine/engine.h"

namespace lectern::services {

class EngineCollector final : public prometheus::Collectable {
 public:
  // `engine` outlives the collector.
  explicit EngineCollector(engine::Engine& engine) : engine_(engine) {}
  // Nothing if the engine cannot tell: a missing series is truer than a zero.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  engine::Engine& engine_;
};

}  // namespace lectern::services
