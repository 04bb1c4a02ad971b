// Tenants of a cluster. Their records are in the directory; every group has a copy, which it makes
// when it joins and when a record changes. A call returns when the groups that are alive have it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/gateway/whole_groups.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

int64_t MicrosOf(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1'000'000 + time.nanos() / 1'000;
}

engine::Tenant FromProto(const v1::Tenant& tenant, const std::string& id) {
  return {.id = id,
          .display_name = tenant.display_name(),
          .create_time_us = MicrosOf(tenant.create_time()),
          .quota = {tenant.quota().disk_bytes(), tenant.quota().tokens_per_minute(),
                    tenant.quota().concurrent_requests(), tenant.quota().weight()}};
}

v1::Tenant ToProto(const engine::Tenant& tenant) {
  v1::Tenant out;
  out.set_name(TenantName(tenant.id));
  out.set_display_name(tenant.display_name);
  out.mutable_create_time()->set_seconds(tenant.create_time_us / 1'000'000);
  out.mutable_create_time()->set_nanos(static_cast<int>(tenant.create_time_us % 1'000'000) * 1'000);
  out.mutable_quota()->set_disk_bytes(tenant.quota.disk_bytes);
  out.mutable_quota()->set_tokens_per_minute(tenant.quota.tokens_per_minute);
  out.mutable_quota()->set_concurrent_requests(tenant.quota.concurrent_requests);
  out.mutable_quota()->set_weight(tenant.quota.weight);
  return out;
}

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

absl::Status TenantNotFound(const std::string& id) {
  return engine::Error(absl::StatusCode::kNotFound, reason::kTenantNotFound,
                       fmt::format("there is no tenant \"{}\"", id), {{"tenant", id}});
}

// Asks every group that is alive; `fine` says which refusals mean that it is as it should be.
// Groups that went away meanwhile do it when they are back.
template <typename Request, typename Response, typename Fine>
absl::Status Everywhere(WholeCluster& cluster, WholeCluster::Method<Request, Response> method,
                        const Request& request, const Fine& fine) {
  for (const std::string& group : AliveGroups(cluster)) {
    Response response;
    const absl::Status status = cluster.Ask(group, method, request, response);
    if (!status.ok() && !fine(status) && !IsUnreachable(status)) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CreateTenantInCluster(WholeCluster& cluster, const v1::CreateTenantRequest& request,
                                   v1::Tenant& response) {
  v1::CreateTenantRequest named = request;
  if (named.tenant_id().empty()) named.set_tenant_id(MakeCorpusId());
  engine::Tenant tenant = FromProto(named.tenant(), named.tenant_id());
  tenant.create_time_us = NowMicros();
  LECTERN_RETURN_IF_ERROR(cluster.records().CreateTenant(tenant));
  const absl::Status made =
      Everywhere(cluster, &WorkerStub::CreateTenant, named, [](const absl::Status& status) {
        return status.code() == absl::StatusCode::kAlreadyExists;  // a group read the record first
      });
  if (!made.ok()) {
    // The groups do not want it: a name too long, a quota below zero.
    cluster.records().DeleteTenant(tenant.id).IgnoreError();
    return made;
  }
  response = ToProto(tenant);
  return absl::OkStatus();
}

absl::Status GetTenantInCluster(WholeCluster& cluster, const v1::GetTenantRequest& request,
                                v1::Tenant& response) {
  LECTERN_ASSIGN_OR_RETURN(const std::string id,
                           ParseTenantId(request.name(), cluster.tenant(), "name"));
  const std::optional<TenantRecord> record = cluster.records().KnownTenant(id);
  if (!record || record->deleted) return TenantNotFound(id);
  response = ToProto(record->tenant);
  v1::TenantUsage& usage = *response.mutable_usage();
  std::vector<std::string> groups = cluster.directory().GroupsOf(id);
  const std::vector<std::string> alive = AliveGroups(cluster);
  groups.insert(groups.end(), alive.begin(), alive.end());
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  for (const std::string& group : groups) {
    v1::Tenant part;
    const absl::Status status = cluster.Ask(group, &WorkerStub::GetTenant, request, part);
    if (IsUnreachable(status)) {
      usage.add_unreachable(GroupName(group));
    } else if (status.ok()) {
      AddUp(part.usage(), usage);
    }
  }
  return absl::OkStatus();
}

absl::Status ListTenantsInCluster(WholeCluster& cluster, const v1::ListTenantsRequest& request,
                                  v1::ListTenantsResponse& response) {
  // By id; the token is the last one listed.
  int room = PageSize(request.page_size());
  for (const TenantRecord& record : cluster.records().Tenants()) {
    if (record.tenant.id <= request.page_token()) continue;
    if (room-- == 0) {
      response.set_next_page_token(
          ParseTenantId(response.tenants().rbegin()->name(), "", "name").value_or(""));
      break;
    }
    *response.add_tenants() = ToProto(record.tenant);
  }
  return absl::OkStatus();
}

absl::Status UpdateTenantInCluster(WholeCluster& cluster, const v1::UpdateTenantRequest& request,
                                   v1::Tenant& response) {
  LECTERN_ASSIGN_OR_RETURN(const std::string id,
                           ParseTenantId(request.tenant().name(), cluster.tenant(), "tenant.name"));
  // The first group says what the tenant is after the change; the others make it so.
  bool asked = false;
  for (const std::string& group : AliveGroups(cluster)) {
    v1::Tenant changed;
    const absl::Status status = cluster.Ask(group, &WorkerStub::UpdateTenant, request, changed);
    if (IsUnreachable(status)) continue;
    LECTERN_RETURN_IF_ERROR(status);
    if (asked) continue;
    asked = true;
    const engine::Tenant tenant = FromProto(changed, id);
    LECTERN_ASSIGN_OR_RETURN(
        const engine::Tenant recorded,
        cluster.records().UpdateTenant(id, {.display_name = tenant.display_name,
                                            .disk_bytes = tenant.quota.disk_bytes,
                                            .tokens_per_minute = tenant.quota.tokens_per_minute,
                                            .concurrent_requests = tenant.quota.concurrent_requests,
                                            .weight = tenant.quota.weight}));
    response = ToProto(recorded);
  }
  if (asked) return absl::OkStatus();
  return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                       "no worker of the cluster can be reached; try again");
}

absl::Status DeleteTenantInCluster(WholeCluster& cluster, const v1::DeleteTenantRequest& request,
                                   google::protobuf::Empty&) {
  LECTERN_ASSIGN_OR_RETURN(const std::string id,
                           ParseTenantId(request.name(), cluster.tenant(), "name"));
  if (id == kDefaultTenant) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, "TENANT_PROTECTED",
                         "the tenant \"default\" cannot be deleted");
  }
  const std::vector<engine::CorpusName> corpora = cluster.records().CorporaOf(id);
  if (!corpora.empty() && !request.force()) {
    return engine::Error(
        absl::StatusCode::kFailedPrecondition, "TENANT_NOT_EMPTY",
        fmt::format("tenant \"{}\" has {} corpora; delete them first, or set force", id,
                    corpora.size()),
        {{"corpora", std::to_string(corpora.size())}});
  }
  for (const engine::CorpusName& corpus : corpora) {
    const absl::Status removed = cluster.records().Remove(corpus, cluster.Deadline());
    if (!removed.ok() && removed.code() != absl::StatusCode::kNotFound) return removed;
  }
  LECTERN_RETURN_IF_ERROR(cluster.records().DeleteTenant(id));
  v1::DeleteTenantRequest everything = request;
  everything.set_force(true);
  return Everywhere(cluster, &WorkerStub::DeleteTenant, everything, [](const absl::Status& status) {
    return status.code() == absl::StatusCode::kNotFound;
  });
}

}  // namespace lectern::services
