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
