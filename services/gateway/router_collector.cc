#include "services/gateway/router_collector.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

namespace lectern::services {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

std::vector<MetricFamily> RouterCollector::Collect() const {
  const Router::Counts counts = router_.Count();
  MetricFamily ready = {"lectern_cluster_group_ready",
                        "1 while this gateway can call the group's worker.",
                        MetricType::Gauge,
                        {}};
  for (const auto& [group, up] : counts.ready) {
    ClientMetric metric;
    metric.label = {{"group", group}};
    metric.gauge.value = up ? 1 : 0;
    ready.metric.push_back(metric);
  }
  ClientMetric retries;
  retries.counter.value = static_cast<double>(counts.retries);
  ClientMetric waiting;
  waiting.gauge.value = static_cast<double>(counts.waiting);
  return {ready,
          {"lectern_cluster_retries_total",
           "Attempts beyond a call's first.",
           MetricType::Counter,
           {retries}},
          {"lectern_cluster_waiting_calls",
           "Calls that wait for a group to come back.",
           MetricType::Gauge,
           {waiting}}};
}

}  // namespace lectern::services
