// What Prometheus sees of a gateway's routes in a cluster. Collected at scrape time.
//
//   lectern_cluster_group_ready{group}   1 while this gateway can call the group's worker
//   lectern_cluster_retries_total        attempts beyond a call's first
//   lectern_cluster_waiting_calls        calls that wait for a group to come back
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "services/gateway/router.h"

namespace lectern::services {

class RouterCollector final : public prometheus::Collectable {
 public:
  // `router` outlives the collector.
  explicit RouterCollector(Router& router) : router_(router) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  Router& router_;
};

}  // namespace lectern::services
