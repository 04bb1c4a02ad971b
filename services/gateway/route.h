// Which corpus a request is about. That decides who answers it; a request whose name is malformed
// or of a tenant that the caller may not touch ends here (services/rpc/names.h says with which
// error).
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <type_traits>

#include "engine/types.h"
#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/cluster.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"

namespace lectern::services {

// The corpus is empty for requests that are about the tenant as a whole or about the server.
using Route = absl::StatusOr<engine::CorpusName>;

Route RouteOf(const v1::CreateCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListCorporaRequest& request, std::string_view tenant);
Route RouteOf(const v1::UpdateCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::DeleteCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::IngestCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::RebuildCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetGenerationRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListGenerationsRequest& request, std::string_view tenant);

Route RouteOf(const v1::UploadDocumentRequest::Header& header, std::string_view tenant);
Route RouteOf(const v1::GetDocumentRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListDocumentsRequest& request, std::string_view tenant);
Route RouteOf(const v1::DeleteDocumentRequest& request, std::string_view tenant);

Route RouteOf(const v1::GetOperationRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListOperationsRequest& request, std::string_view tenant);
Route RouteOf(const v1::WaitOperationRequest& request, std::string_view tenant);
Route RouteOf(const v1::CancelOperationRequest& request, std::string_view tenant);

Route RouteOf(const v1::CreateSessionRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetSessionRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListSessionsRequest& request, std::string_view tenant);
Route RouteOf(const v1::ForkSessionRequest& request, std::string_view tenant);
Route RouteOf(const v1::DeleteSessionRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListTurnsRequest& request, std::string_view tenant);

Route RouteOf(const v1::AskRequest& request, std::string_view tenant);
Route RouteOf(const v1::RetrieveRequest& request, std::string_view tenant);
Route RouteOf(const v1::CountTokensRequest& request, std::string_view tenant);

// These are about tenants. `tenant` empty: any.
Route RouteOf(const v1::CreateTenantRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetTenantRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListTenantsRequest& request, std::string_view tenant);
Route RouteOf(const v1::UpdateTenantRequest& request, std::string_view tenant);
Route RouteOf(const v1::DeleteTenantRequest& request, std::string_view tenant);

// These are about the server.
Route RouteOf(const v1::CreateBackupRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetBackupRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListBackupsRequest& request, std::string_view tenant);
Route RouteOf(const v1::CancelBackupRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListGroupsRequest& request, std::string_view tenant);
Route RouteOf(const v1::DrainGroupRequest& request, std::string_view tenant);
Route RouteOf(const v1::ResumeGroupRequest& request, std::string_view tenant);
Route RouteOf(const v1::MoveCorpusRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetMoveRequest& request, std::string_view tenant);
Route RouteOf(const v1::ListMovesRequest& request, std::string_view tenant);
Route RouteOf(const v1::CancelMoveRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetModelRequest& request, std::string_view tenant);
Route RouteOf(const v1::GetStatsRequest& request, std::string_view tenant);

// The name that a request is about, for the audit log: its `name`, or what it will be.
template <typename Request>
std::string ResourceOf(const Request& request) {
  if constexpr (requires { request.backup_id(); }) {
    return "backups/" + request.backup_id();
  } else if constexpr (requires { request.tenant().name(); }) {
    if constexpr (requires { request.tenant_id(); }) {
      return "tenants/" + std::string(request.tenant_id());
    } else {
      return request.tenant().name();
    }
  } else if constexpr (requires { request.name(); }) {
    return request.name();
  } else if constexpr (std::is_same_v<Request, v1::MoveCorpusRequest>) {
    return request.corpus() + (request.to().empty() ? "" : " to " + request.to());
  } else if constexpr (std::is_same_v<Request, v1::CancelMoveRequest>) {
    return request.corpus();
  } else {
    return "";
  }
}

}  // namespace lectern::services
