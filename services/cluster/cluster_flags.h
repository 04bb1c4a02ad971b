// The flags that gateways and workers of a cluster share.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "services/cluster/etcd_client.h"

namespace lectern::services {

// Whether --etcd_endpoints names any.
bool InCluster();

// From the --etcd_* flags. INVALID_ARGUMENT FLAG_INVALID.
absl::StatusOr<EtcdClient::Options> EtcdOptionsFromFlags();
std::string EtcdPrefixFromFlags();

// Of a worker: --group and --advertise, with %h for this machine's name, and --lease_seconds.
struct MemberFlags {
  std::string group;
  std::string address;
  std::chrono::seconds lease{0};
};

// Of a worker: --replicas, --replica_patience_seconds, --replace_replica_seconds and
// --failover_seconds. INVALID_ARGUMENT FLAG_INVALID.
struct ReplicaFlags {
  int copies = 1;
  std::chrono::seconds patience{0};
  std::chrono::seconds replace_after{0};
  std::chrono::seconds failover_after{0};
};
absl::StatusOr<ReplicaFlags> ReplicasFromFlags();
// --lease_seconds alone. A worker must hear from etcd, or not, well within it.
absl::StatusOr<std::chrono::seconds> LeaseFromFlags();
// `listening`: where the worker listens; what it advertises if no flag says so.
absl::StatusOr<MemberFlags> MemberFromFlags(const std::string& listening);

}  // namespace lectern::services
