#include "services/gateway/route.h"

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

Route Tenant(const std::string& name, std::string_view tenant, std::string_view field) {
  LECTERN_RETURN_IF_ERROR(ParseTenantName(name, tenant, field));
  return engine::CorpusName{std::string(tenant), ""};
}

Route AnyTenant(const std::string& name, std::string_view tenant, std::string_view field) {
  LECTERN_ASSIGN_OR_RETURN(std::string id, ParseTenantId(name, tenant, field));
  return engine::CorpusName{std::move(id), ""};
}

Route Below(const std::string& name, Collection collection, std::string_view tenant,
            std::string_view field) {
  LECTERN_ASSIGN_OR_RETURN(engine::ResourceName resource,
                           ParseResourceName(name, collection, tenant, field));
  return std::move(resource.corpus);
}

template <typename Request>
Route OfTarget(const Request& request, std::string_view tenant) {
  switch (request.target_case()) {
    case Request::kCorpus:
      return ParseCorpusName(request.corpus(), tenant, "corpus");
    case Request::kGeneration:
      return Below(request.generation(), Collection::kGenerations, tenant, "generation");
    case Request::kSession:
      return Below(request.session(), Collection::kSessions, tenant, "session");
    case Request::TARGET_NOT_SET:
      break;
  }
  return engine::InvalidArgument(reason::kTargetMissing,
                                 "name a corpus, a generation or a session to ask",
                                 {{"field", "target"}});
}

}  // namespace

Route RouteOf(const v1::CreateCorpusRequest& request, std::string_view tenant) {
  LECTERN_RETURN_IF_ERROR(CheckNewId(request.corpus_id(), "corpus_id"));
  LECTERN_ASSIGN_OR_RETURN(engine::CorpusName name, Tenant(request.parent(), tenant, "parent"));
  name.corpus = request.corpus_id();
  return name;
}

Route RouteOf(const v1::GetCorpusRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.name(), tenant, "name");
}

Route RouteOf(const v1::ListCorporaRequest& request, std::string_view tenant) {
  return Tenant(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::UpdateCorpusRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.corpus().name(), tenant, "corpus.name");
}

Route RouteOf(const v1::DeleteCorpusRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.name(), tenant, "name");
}

Route RouteOf(const v1::IngestCorpusRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.name(), tenant, "name");
}

Route RouteOf(const v1::RebuildCorpusRequest& request, std::string_view tenant) {
  Route generation = Below(request.name(), Collection::kGenerations, tenant, "name");
  return generation.ok() ? generation : ParseCorpusName(request.name(), tenant, "name");
}

Route RouteOf(const v1::GetGenerationRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kGenerations, tenant, "name");
}

Route RouteOf(const v1::ListGenerationsRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::UploadDocumentRequest::Header& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "header.parent");
}

Route RouteOf(const v1::GetDocumentRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kDocuments, tenant, "name");
}

Route RouteOf(const v1::ListDocumentsRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::DeleteDocumentRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kDocuments, tenant, "name");
}

Route RouteOf(const v1::GetOperationRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kOperations, tenant, "name");
}

Route RouteOf(const v1::ListOperationsRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::WaitOperationRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kOperations, tenant, "name");
}

Route RouteOf(const v1::CancelOperationRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kOperations, tenant, "name");
}

Route RouteOf(const v1::CreateSessionRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::GetSessionRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kSessions, tenant, "name");
}

Route RouteOf(const v1::ListSessionsRequest& request, std::string_view tenant) {
  return ParseCorpusName(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::ForkSessionRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kSessions, tenant, "name");
}

Route RouteOf(const v1::DeleteSessionRequest& request, std::string_view tenant) {
  return Below(request.name(), Collection::kSessions, tenant, "name");
}

Route RouteOf(const v1::ListTurnsRequest& request, std::string_view tenant) {
  return Below(request.parent(), Collection::kSessions, tenant, "parent");
}

Route RouteOf(const v1::AskRequest& request, std::string_view tenant) {
  return OfTarget(request, tenant);
}

Route RouteOf(const v1::RetrieveRequest& request, std::string_view tenant) {
  return OfTarget(request, tenant);
}

Route RouteOf(const v1::CountTokensRequest& request, std::string_view tenant) {
  return Tenant(request.parent(), tenant, "parent");
}

Route RouteOf(const v1::CreateTenantRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(CheckNewId(request.tenant_id(), "tenant_id"));
  return engine::CorpusName{request.tenant_id(), ""};
}

Route RouteOf(const v1::GetTenantRequest& request, std::string_view tenant) {
  return AnyTenant(request.name(), tenant, "name");
}

Route RouteOf(const v1::ListTenantsRequest&, std::string_view) { return engine::CorpusName{}; }

Route RouteOf(const v1::UpdateTenantRequest& request, std::string_view tenant) {
  return AnyTenant(request.tenant().name(), tenant, "tenant.name");
}

Route RouteOf(const v1::DeleteTenantRequest& request, std::string_view tenant) {
  return AnyTenant(request.name(), tenant, "name");
}

Route RouteOf(const v1::CreateBackupRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(CheckNewId(request.backup_id(), "backup_id"));
  return engine::CorpusName{};
}

Route RouteOf(const v1::GetBackupRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseBackupName(request.name(), "name").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::ListBackupsRequest&, std::string_view) { return engine::CorpusName{}; }

Route RouteOf(const v1::CancelBackupRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseBackupName(request.name(), "name").status());
  return engine::CorpusName{};
}

// What is done about groups and moves is done in the directory, whatever they are about.
Route RouteOf(const v1::ListGroupsRequest&, std::string_view) { return engine::CorpusName{}; }

Route RouteOf(const v1::DrainGroupRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseGroupName(request.name(), "name").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::ResumeGroupRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseGroupName(request.name(), "name").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::MoveCorpusRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseAnyCorpusName(request.corpus(), "corpus").status());
  if (!request.to().empty()) LECTERN_RETURN_IF_ERROR(ParseGroupName(request.to(), "to").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::GetMoveRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseAnyCorpusName(request.corpus(), "corpus").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::ListMovesRequest&, std::string_view) { return engine::CorpusName{}; }

Route RouteOf(const v1::CancelMoveRequest& request, std::string_view) {
  LECTERN_RETURN_IF_ERROR(ParseAnyCorpusName(request.corpus(), "corpus").status());
  return engine::CorpusName{};
}

Route RouteOf(const v1::GetModelRequest& request, std::string_view tenant) {
  return engine::CorpusName{std::string(tenant), ""};
}

Route RouteOf(const v1::GetStatsRequest& request, std::string_view tenant) {
  return engine::CorpusName{std::string(tenant), ""};
}

}  // namespace lectern::services
