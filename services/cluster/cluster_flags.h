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
// --lease_seconds alone. A worker must hear from etcd, or not, well within it.
absl::StatusOr<std::chrono::seconds> LeaseFromFlags();
// `listening`: where the worker listens; what it advertises if no flag says so.
absl::StatusOr<MemberFlags> MemberFromFlags(const std::string& listening);

}  // namespace lectern::services
