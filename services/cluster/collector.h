// What Prometheus sees of the cluster, at gateways and workers. Collected at scrape time.
//
//   lectern_cluster_store_up                  1 while what is known here keeps up with etcd
//   lectern_cluster_resyncs_total             how often everything was read again
//   lectern_cluster_groups                    groups that are alive
//   lectern_cluster_placements{state}         names placed, and deleted ones that are remembered
//   lectern_cluster_pending_purges            deletions that a group has not confirmed
//   lectern_cluster_moves_running             corpora on their way to another group
//   lectern_cluster_draining_groups           groups that are being emptied
// and of a worker:
//   lectern_cluster_answering                 1 while it answers requests
//   lectern_cluster_lease_remaining_seconds   until it stops answering if etcd is not heard of
//   lectern_cluster_joins_total               leases under which the group was registered
//   lectern_cluster_keepalive_failures_total  renewals that etcd did not answer
//   lectern_cluster_refused_total{reason}     requests and answers refused
//   lectern_cluster_purged_corpora_total      corpora deleted because the cluster says so
//   lectern_cluster_held_corpora              corpora whose changes are refused for a move's end
//   lectern_cluster_moves_total{result}       moves to this group that ended
//   lectern_cluster_move_failures_total       attempts that failed, most of which are made again
//   lectern_cluster_moved_bytes_total         of records that came, verified
// and of a worker's second copies of corpora:
//   lectern_cluster_replicas{state}            corpora of this group whose second copy is ready
//                                              (every acknowledged change is on it), behind, or
//                                              missing (none, or its group is away)
//   lectern_cluster_replica_unsynced_seconds   age of the oldest change that is not on it
//   lectern_cluster_replica_waiting_calls      changes that are not acknowledged for that
//   lectern_cluster_replica_sync_failures_total  requests to take changes that failed
//   lectern_cluster_replicas_followed          second copies that this group has
//   lectern_cluster_replica_caches_behind      of these, those whose caches have not come whole
//   lectern_cluster_replica_bytes_behind       of their caches, still to come
//   lectern_cluster_replicated_bytes_total     of records that came, verified
//   lectern_cluster_replica_pull_failures_total  rounds that failed; they are made again
//   lectern_cluster_failovers_total            corpora that this group took over from a lost one
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"
#include "services/cluster/mover.h"
#include "services/cluster/replicas.h"

namespace lectern::services {

class ClusterCollector final : public prometheus::Collectable {
 public:
  // What is given outlives the collector; gateways have nothing but the
  // directory.
  explicit ClusterCollector(const EtcdDirectory& directory, const Member* member = nullptr,
                            const Mover* mover = nullptr, const Replicas* replicas = nullptr)
      : directory_(directory), member_(member), mover_(mover), replicas_(replicas) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  void AddReplicas(std::vector<prometheus::MetricFamily>& families) const;

  const EtcdDirectory& directory_;
  const Member* const member_;
  const Mover* const mover_;
  const Replicas* const replicas_;
};

}  // namespace lectern::services
