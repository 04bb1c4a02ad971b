#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/administration.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

absl::Status CheckAdministers(const Caller& caller) {
  if (caller.tenant.empty()) return absl::OkStatus();
  return engine::Error(absl::StatusCode::kPermissionDenied, reason::kRoleInsufficient,
                       fmt::format("tenant \"{}\" does not administer this server", caller.tenant),
                       {{"needed", "operator"}});
}

using Unary = grpc::ServerUnaryReactor;

Unary* WorkerService::CreateTenant(Context* context, const v1::CreateTenantRequest* request,
                                   v1::Tenant* response) {
  return Run(context, "Worker/CreateTenant", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_RETURN_IF_ERROR(CheckNewId(request->tenant_id(), "tenant_id"));
    LECTERN_RETURN_IF_ERROR(
        CheckDisplayName(request->tenant().display_name(), "tenant.display_name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::TenantQuota quota,
                             ToTenantQuota(request->tenant().quota()));
    LECTERN_ASSIGN_OR_RETURN(
        const engine::Tenant tenant,
        engine_.CreateTenant(request->tenant_id(), request->tenant().display_name(), quota));
    *response = ToProto(tenant);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetTenant(Context* context, const v1::GetTenantRequest* request,
                                v1::Tenant* response) {
  return Run(context, "Worker/GetTenant", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const std::string id,
                             ParseTenantId(request->name(), caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Tenant tenant, engine_.GetTenant(id));
    *response = ToProto(tenant);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListTenants(Context* context, const v1::ListTenantsRequest* request,
                                  v1::ListTenantsResponse* response) {
  return Run(context, "Worker/ListTenants", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const engine::PageRequest page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto tenants, engine_.ListTenants(page));
    for (const engine::Tenant& tenant : tenants.items) *response->add_tenants() = ToProto(tenant);
    response->set_next_page_token(tenants.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::UpdateTenant(Context* context, const v1::UpdateTenantRequest* request,
                                   v1::Tenant* response) {
  return Run(context, "Worker/UpdateTenant", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const std::string id,
                             ParseTenantId(request->tenant().name(), caller.tenant, "tenant.name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::TenantUpdate update, ToTenantUpdate(*request));
    LECTERN_ASSIGN_OR_RETURN(const engine::Tenant tenant, engine_.UpdateTenant(id, update));
    *response = ToProto(tenant);
    return absl::OkStatus();
  });
}

Unary* WorkerService::DeleteTenant(Context* context, const v1::DeleteTenantRequest* request,
                                   google::protobuf::Empty*) {
  return Run(context, "Worker/DeleteTenant", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(CheckAdministers(caller));
    LECTERN_ASSIGN_OR_RETURN(const std::string id,
                             ParseTenantId(request->name(), caller.tenant, "name"));
    return engine_.DeleteTenant(id, request->force());
  });
}

}  // namespace lectern::services
