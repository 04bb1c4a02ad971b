// What Prometheus sees of the cluster, at gateways and workers. Collected at scrape time.
//
//   lectern_cluster_store_up                  1 while what is known here keeps up with etcd
//   lectern_cluster_resyncs_total             how often everything was read again
//   lectern_cluster_groups                    groups that are alive
//   lectern_cluster_placements{state}         names placed, and deleted ones that are remembered
//   lectern_cluster_pending_purges            deletions that a group has not confirmed
// and of a worker:
//   lectern_cluster_answering                 1 while it answers requests
//   lectern_cluster_lease_remaining_seconds   until it stops answering if etcd is not heard of
//   lectern_cluster_joins_total               leases under which the group was registered
//   lectern_cluster_keepalive_failures_total  renewals that etcd did not answer
//   lectern_cluster_refused_total{reason}     requests and answers refused
//   lectern_cluster_purged_corpora_total      corpora deleted because the cluster says so
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"

namespace lectern::services {

class ClusterCollector final : public prometheus::Collectable {
 public:
  // What is given outlives the collector; `member` is null at gateways.
  ClusterCollector(const EtcdDirectory& directory, const Member* member)
      : directory_(directory), member_(member) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const EtcdDirectory& directory_;
  const Member* const member_;
};

}  // namespace lectern::services
