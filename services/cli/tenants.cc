#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <algorithm>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"
#include "services/process/byte_size.h"

using lectern::services::ByteSize;

ABSL_FLAG(std::optional<ByteSize>, disk_quota, std::nullopt,
          "bytes that the tenant's documents and caches may take on disk; 0: no limit");
ABSL_FLAG(std::optional<int64_t>, tokens_per_minute, std::nullopt,
          "tokens that may be computed for the tenant in a minute; 0: no limit");
ABSL_FLAG(std::optional<int64_t>, concurrent_requests, std::nullopt,
          "questions and uploads that the tenant may have in progress; 0: no limit");
ABSL_FLAG(std::optional<int64_t>, weight, std::nullopt,
          "the tenant's share of a busy server against other tenants' weights: 1 to 1000; 0: 1");
ABSL_FLAG(bool, force, false, "delete: also a tenant that has corpora, with all of them");
ABSL_DECLARE_FLAG(std::string, display_name);

namespace lectern::services {
namespace {

std::string NameOf(const std::string& argument) {
  return argument.starts_with("tenants/") ? argument : TenantName(argument);
}

std::string Limit(int64_t limit, std::string (*format)(int64_t)) {
  return limit == 0 ? "-" : format(limit);
}

// The fields that flags name, and their paths.
void TakeFlags(v1::Tenant& tenant, google::protobuf::FieldMask& mask) {
  if (const std::string name = absl::GetFlag(FLAGS_display_name); !name.empty()) {
    tenant.set_display_name(name);
    mask.add_paths("display_name");
  }
  if (const auto disk = absl::GetFlag(FLAGS_disk_quota)) {
    tenant.mutable_quota()->set_disk_bytes(disk->bytes);
    mask.add_paths("quota.disk_bytes");
  }
  if (const auto tokens = absl::GetFlag(FLAGS_tokens_per_minute)) {
    tenant.mutable_quota()->set_tokens_per_minute(*tokens);
    mask.add_paths("quota.tokens_per_minute");
  }
  if (const auto requests = absl::GetFlag(FLAGS_concurrent_requests)) {
    tenant.mutable_quota()->set_concurrent_requests(*requests);
    mask.add_paths("quota.concurrent_requests");
  }
  if (const auto weight = absl::GetFlag(FLAGS_weight)) {
    tenant.mutable_quota()->set_weight(*weight);
    mask.add_paths("quota.weight");
  }
}

int Show(const Client& client, const Call& call, const grpc::Status& status,
         const v1::Tenant& tenant) {
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(tenant);
  return kExitOk;
}

int List(Client& client) {
  std::vector<v1::Tenant> tenants;
  const int code = ListAll<v1::ListTenantsResponse>(
      client, v1::ListTenantsRequest(),
      [&](auto... args) { return client.tenants().ListTenants(args...); },
      [](auto& response) { return response.mutable_tenants(); }, tenants);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(tenants);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Tenant& tenant : tenants) {
    rows.push_back({IdOf(tenant.name()), Limit(tenant.quota().disk_bytes(), Bytes),
                    Limit(tenant.quota().tokens_per_minute(), Thousands),
                    Limit(tenant.quota().concurrent_requests(), Thousands),
                    Thousands(std::max<int64_t>(1, tenant.quota().weight())),
                    Time(tenant.create_time()), Printable(tenant.display_name())});
  }
  PrintTable({"TENANT", "DISK", "TOKENS/MIN", "REQUESTS", "WEIGHT", "CREATED", "NAME"}, rows);
  return kExitOk;
}

int Get(Client& client, const std::string& id) {
  v1::GetTenantRequest request;
  request.set_name(NameOf(id));
  v1::Tenant tenant;
  Call call;
  const grpc::Status status = client.tenants().GetTenant(&call.context(), request, &tenant);
  return Show(client, call, status, tenant);
}

int Create(Client& client, const std::string& id) {
  v1::CreateTenantRequest request;
  request.set_tenant_id(id);
  google::protobuf::FieldMask all_are_taken;
  TakeFlags(*request.mutable_tenant(), all_are_taken);
  v1::Tenant tenant;
  Call call;
  const grpc::Status status = client.tenants().CreateTenant(&call.context(), request, &tenant);
  return Show(client, call, status, tenant);
}

int Update(Client& client, const std::string& id) {
  v1::UpdateTenantRequest request;
  request.mutable_tenant()->set_name(NameOf(id));
  TakeFlags(*request.mutable_tenant(), *request.mutable_update_mask());
  if (request.update_mask().paths().empty()) {
    return UsageMistake(kTenantsCommand, "update needs --display_name or a quota");
  }
  v1::Tenant tenant;
  Call call;
  const grpc::Status status = client.tenants().UpdateTenant(&call.context(), request, &tenant);
  return Show(client, call, status, tenant);
}

int Delete(Client& client, const std::string& id) {
  v1::DeleteTenantRequest request;
  request.set_name(NameOf(id));
  request.set_force(absl::GetFlag(FLAGS_force));
  google::protobuf::Empty empty;
  Call call;
  const grpc::Status status = client.tenants().DeleteTenant(&call.context(), request, &empty);
  return status.ok() ? kExitOk : client.Explain(status, call);
}

int Run(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "list" : arguments[0];
  Client client(kTenantsCommand.name);
  if (verb == "list" && arguments.size() <= 1) return List(client);
  if (arguments.size() != 2) return UsageMistake(kTenantsCommand, "name one tenant");
  if (verb == "get") return Get(client, arguments[1]);
  if (verb == "create") return Create(client, arguments[1]);
  if (verb == "update") return Update(client, arguments[1]);
  if (verb == "delete") return Delete(client, arguments[1]);
  return UsageMistake(kTenantsCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kTenantsCommand = {
    .name = "tenants",
    .arguments = "list | get TENANT | create TENANT | update TENANT | delete TENANT",
    .summary = "Lists, shows, makes, limits and deletes tenants; needs an operator's key.",
    .details = "",
    .flags = {"display_name", "disk_quota", "tokens_per_minute", "concurrent_requests", "weight",
              "force", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
