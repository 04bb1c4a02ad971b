#include <absl/flags/flag.h>
#include <absl/strings/str_replace.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/cluster/cluster_flags.h"
#include "services/process/server_flags.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

ABSL_FLAG(
    std::string, group, "%h",
    "this worker's name in the cluster; it belongs to the data directory and must stay. %h is "
    "this machine's name");
ABSL_FLAG(std::string, advertise, "",
          "HOST:PORT where gateways reach this worker; %h is this machine's name; empty: --listen");
ABSL_FLAG(int64_t, lease_seconds, 15,
          "how long this worker goes on answering when etcd is not heard of, and how long its "
          "corpora may be without an answer after it was killed");

ABSL_FLAG(int32_t, replicas, 1,
          "groups that have each corpus of this worker's group, itself included: 1, or 2: uploads, "
          "deletions and new corpora are durable on another group, too, before they are "
          "acknowledged, caches and sessions follow by themselves, and the other group takes over "
          "when this one is lost. The same on all workers; it can be changed at any time");
ABSL_FLAG(int64_t, replica_patience_seconds, 20,
          "with --replicas=2, while the other group is away: how long uploads and other changes "
          "wait for it, if their deadlines allow it, before they are refused "
          "(REPLICA_UNREACHABLE); 0: they are refused at once, before anything of them is stored");
ABSL_FLAG(int64_t, replace_replica_seconds, 600,
          "with --replicas=2: a group that has been away for so long is replaced by a third one, "
          "which gets a copy of its own");
ABSL_FLAG(int64_t, failover_seconds, 60,
          "when another group is gone for so long, beyond its lease, this worker takes over the "
          "corpora of which it has the second copy; longer than a restart takes");

namespace lectern::services {
namespace {

constexpr int64_t kLeastLeaseSeconds = 2;

std::string HostName() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string Expand(const std::string& text) {
  return absl::StrReplaceAll(text, {{"%h", HostName()}});
}

}  // namespace

absl::StatusOr<std::chrono::seconds> LeaseFromFlags() {
  const int64_t seconds = absl::GetFlag(FLAGS_lease_seconds);
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("lease_seconds", seconds, kLeastLeaseSeconds));
  return std::chrono::seconds(seconds);
}

absl::StatusOr<ReplicaFlags> ReplicasFromFlags() {
  const int copies = absl::GetFlag(FLAGS_replicas);
  if (copies != 1 && copies != 2) {
    return engine::InvalidArgument(reason::kFlagInvalid,
                                   fmt::format("--replicas: {} is neither 1 nor 2", copies),
                                   {{"flag", "replicas"}});
  }
  const auto seconds = [](const char* name, int64_t value) -> absl::StatusOr<std::chrono::seconds> {
    LECTERN_RETURN_IF_ERROR(CheckAtLeast(name, value, 0));
    return std::chrono::seconds(value);
  };
  ReplicaFlags flags = {.copies = copies};
  LECTERN_ASSIGN_OR_RETURN(flags.patience, seconds("replica_patience_seconds",
                                                   absl::GetFlag(FLAGS_replica_patience_seconds)));
  LECTERN_ASSIGN_OR_RETURN(
      flags.replace_after,
      seconds("replace_replica_seconds", absl::GetFlag(FLAGS_replace_replica_seconds)));
  LECTERN_ASSIGN_OR_RETURN(flags.failover_after,
                           seconds("failover_seconds", absl::GetFlag(FLAGS_failover_seconds)));
  return flags;
}

absl::StatusOr<MemberFlags> MemberFromFlags(const std::string& listening) {
  MemberFlags flags;
  flags.group = Expand(absl::GetFlag(FLAGS_group));
  if (!IsId(flags.group)) {
    return engine::InvalidArgument(
        reason::kFlagInvalid,
        fmt::format("--group: \"{}\" is not 1 to 63 characters of [a-z0-9._-]", flags.group),
        {{"flag", "group"}});
  }
  flags.address = Expand(absl::GetFlag(FLAGS_advertise));
  if (flags.address.empty()) flags.address = listening;
  if (flags.address.starts_with("0.0.0.0:") || flags.address.starts_with("[::]:")) {
    return engine::InvalidArgument(
        reason::kFlagInvalid,
        fmt::format("--advertise is needed: gateways cannot connect to {}", flags.address),
        {{"flag", "advertise"}});
  }
  LECTERN_ASSIGN_OR_RETURN(flags.lease, LeaseFromFlags());
  return flags;
}

}  // namespace lectern::services
