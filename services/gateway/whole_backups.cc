// Backups of a cluster: one of every group, all of the same name.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/gateway/whole_groups.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

// What the whole is in when a part is in it, the first of these that any part is in.
constexpr std::array kWorstFirst = {v1::Backup::FAILED, v1::Backup::CANCELLED, v1::Backup::RUNNING,
                                    v1::Backup::COMPLETE};

void Join(const std::string& group, const v1::Backup& part, v1::Backup& whole) {
  const bool first = whole.name().empty();
  const auto rank = [](v1::Backup::State state) {
    return std::find(kWorstFirst.begin(), kWorstFirst.end(), state) - kWorstFirst.begin();
  };
  whole.set_name(part.name());
  if (first || rank(part.state()) < rank(whole.state())) {
    whole.set_state(part.state());
    if (part.has_error()) *whole.mutable_error() = part.error();
  }
  whole.set_bytes_total(whole.bytes_total() + part.bytes_total());
  whole.set_bytes_done(whole.bytes_done() + part.bytes_done());
  if (first) *whole.mutable_create_time() = part.create_time();
  if (part.has_end_time() &&
      (!whole.has_end_time() || part.end_time().seconds() > whole.end_time().seconds())) {
    *whole.mutable_end_time() = part.end_time();
  }
  whole.set_directory(
      fmt::format("{}{}{}:{}", whole.directory(), first ? "" : " ", group, part.directory()));
  whole.set_group(first ? group : fmt::format("{} {}", whole.group(), group));
  if (whole.state() == v1::Backup::RUNNING) whole.clear_end_time();
}

// All groups that are alive must take part: a backup without one of them is none.
template <typename Request>
absl::Status OfAll(WholeCluster& cluster, WholeCluster::Method<Request, v1::Backup> method,
                   const Request& request, v1::Backup& response) {
  const std::vector<std::string> groups = AliveGroups(cluster);
  for (const std::string& group : groups) {
    v1::Backup part;
    const absl::Status status = cluster.Ask(group, method, request, part);
    if (!status.ok()) return engine::Annotate(status, fmt::format("group {}", group));
    Join(group, part, response);
  }
  if (!groups.empty()) return absl::OkStatus();
  return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                       "no worker of the cluster can be reached; try again");
}

}  // namespace

absl::Status CreateBackupInCluster(WholeCluster& cluster, const v1::CreateBackupRequest& request,
                                   v1::Backup& response) {
  v1::CreateBackupRequest named = request;
  if (named.backup_id().empty()) {
    const std::time_t now = std::time(nullptr);
    std::tm utc = {};
    gmtime_r(&now, &utc);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y%m%dt%H%M%Sz", &utc);
    named.set_backup_id(text.data());
  }
  return OfAll(cluster, &WorkerStub::CreateBackup, named, response);
}

absl::Status GetBackupInCluster(WholeCluster& cluster, const v1::GetBackupRequest& request,
                                v1::Backup& response) {
  return OfAll(cluster, &WorkerStub::GetBackup, request, response);
}

absl::Status CancelBackupInCluster(WholeCluster& cluster, const v1::CancelBackupRequest& request,
                                   v1::Backup& response) {
  return OfAll(cluster, &WorkerStub::CancelBackup, request, response);
}

absl::Status ListBackupsInCluster(WholeCluster& cluster, const v1::ListBackupsRequest& request,
                                  v1::ListBackupsResponse& response) {
  return ListGroups(cluster, AliveGroups(cluster), request, response, &WorkerStub::ListBackups,
                    [&](const std::string& group, v1::ListBackupsResponse& page) {
                      for (v1::Backup& backup : *page.mutable_backups()) {
                        backup.set_group(group);
                        *response.add_backups() = std::move(backup);
                      }
                      return page.backups_size();
                    });
}

}  // namespace lectern::services
