#include "services/cluster/collector.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <string>
#include <utility>

namespace lectern::services {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Series {
  std::string label;  // value of the family's label
  double value = 0;
};

MetricFamily Family(MetricType type, std::string name, std::string help, const std::string& label,
                    const std::vector<Series>& series) {
  MetricFamily family = {std::move(name), std::move(help), type, {}};
  for (const Series& one : series) {
    ClientMetric metric;
    if (!label.empty()) metric.label = {{label, one.label}};
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = one.value;
    family.metric.push_back(metric);
  }
  return family;
}

MetricFamily Gauge(std::string name, std::string help, double value) {
  return Family(MetricType::Gauge, std::move(name), std::move(help), "", {{"", value}});
}

MetricFamily Counter(std::string name, std::string help, int64_t value) {
  return Family(MetricType::Counter, std::move(name), std::move(help), "",
                {{"", static_cast<double>(value)}});
}

}  // namespace

std::vector<MetricFamily> ClusterCollector::Collect() const {
  const EtcdDirectory::Counts counts = directory_.Count();
  std::vector<MetricFamily> families = {
      Gauge("lectern_cluster_store_up", "1 while what is known here keeps up with etcd.",
            directory_.Reachable() ? 1 : 0),
      Counter("lectern_cluster_resyncs_total", "How often all records were read from etcd.",
              counts.resyncs),
      Gauge("lectern_cluster_groups", "Groups that are alive.", static_cast<double>(counts.groups)),
      Family(MetricType::Gauge, "lectern_cluster_placements",
             "Names of corpora that are placed, and deleted ones that are remembered.", "state",
             {{"placed", static_cast<double>(counts.corpora)},
              {"deleted", static_cast<double>(counts.deleted)}}),
      Gauge("lectern_cluster_pending_purges", "Deletions that a group has not confirmed.",
            static_cast<double>(counts.purges)),
      Gauge("lectern_cluster_moves_running", "Corpora on their way to another group.",
            static_cast<double>(counts.moves)),
      Gauge("lectern_cluster_draining_groups", "Groups that are being emptied.",
            static_cast<double>(counts.draining)),
  };
  if (member_ == nullptr) return families;
  const Member::Counts own = member_->Count();
  families.push_back(Gauge("lectern_cluster_answering", "1 while this worker answers requests.",
                           member_->answering() ? 1 : 0));
  families.push_back(Gauge("lectern_cluster_lease_remaining_seconds",
                           "Time until this worker stops answering if etcd is not heard of.",
                           std::chrono::duration<double>(member_->lease_remaining()).count()));
  families.push_back(Counter("lectern_cluster_joins_total",
                             "Leases under which this group was registered.", own.joins));
  families.push_back(Counter("lectern_cluster_keepalive_failures_total",
                             "Renewals of the lease that etcd did not answer.",
                             own.keepalive_failures));
  families.push_back(Family(MetricType::Counter, "lectern_cluster_refused_total",
                            "Requests and answers refused because another may own the corpus.",
                            "reason",
                            {{"CORPUS_MOVING", static_cast<double>(own.refused_moving)},
                             {"LEASE_EXPIRED", static_cast<double>(own.refused_lease)},
                             {"NOT_OWNER", static_cast<double>(own.refused_owner)}}));
  families.push_back(Counter("lectern_cluster_purged_corpora_total",
                             "Corpora deleted because the cluster says so.", own.purged));
  families.push_back(Gauge("lectern_cluster_held_corpora",
                           "Corpora whose changes are refused for the end of a move.",
                           static_cast<double>(own.held)));
  const Mover::Counts moves = mover_->Count();
  families.push_back(Family(MetricType::Counter, "lectern_cluster_moves_total",
                            "Moves of corpora to this group that ended.", "result",
                            {{"done", static_cast<double>(moves.done)},
                             {"failed", static_cast<double>(moves.failed)},
                             {"cancelled", static_cast<double>(moves.cancelled)}}));
  families.push_back(Counter("lectern_cluster_move_failures_total",
                             "Attempts at moves that failed; most are made again.",
                             moves.failed_attempts));
  families.push_back(Counter("lectern_cluster_moved_bytes_total",
                             "Bytes of records that came with moves and were verified.",
                             moves.bytes));
  AddReplicas(families);
  return families;
}

void ClusterCollector::AddReplicas(std::vector<MetricFamily>& families) const {
  const ReplicaSync::Counts owned = replicas_->sync().Count();
  families.push_back(Family(MetricType::Gauge, "lectern_cluster_replicas",
                            "Corpora of this group by the state of their second copies.", "state",
                            {{"ready", static_cast<double>(owned.ready)},
                             {"behind", static_cast<double>(owned.behind)},
                             {"missing", static_cast<double>(owned.missing)}}));
  families.push_back(Gauge("lectern_cluster_replica_unsynced_seconds",
                           "Age of the oldest change that is not on the second copy.",
                           owned.oldest_seconds));
  families.push_back(Gauge("lectern_cluster_replica_waiting_calls",
                           "Changes that are made and wait for the second copy.",
                           static_cast<double>(owned.waiting)));
  families.push_back(Counter("lectern_cluster_replica_sync_failures_total",
                             "Requests to the second copy to take changes that failed.",
                             owned.failures));
  const ReplicaFollower::Counts followed = replicas_->follower().Count();
  families.push_back(Gauge("lectern_cluster_replicas_followed",
                           "Second copies of other groups' corpora that this group has.",
                           static_cast<double>(followed.followed)));
  families.push_back(Gauge("lectern_cluster_replica_caches_behind",
                           "Second copies whose caches have not come whole.",
                           static_cast<double>(followed.behind)));
  families.push_back(Gauge("lectern_cluster_replica_bytes_behind",
                           "Bytes of caches of second copies that are still to come.",
                           static_cast<double>(followed.bytes_left)));
  families.push_back(Counter("lectern_cluster_replicated_bytes_total",
                             "Bytes of records that came to second copies and were verified.",
                             followed.bytes));
  families.push_back(Counter("lectern_cluster_replica_pull_failures_total",
                             "Rounds of second copies that failed; they are made again.",
                             followed.failures));
  families.push_back(Counter("lectern_cluster_failovers_total",
                             "Corpora that this group took over from a group that was lost.",
                             followed.failovers));
}

}  // namespace lectern::services
