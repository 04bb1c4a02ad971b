#include "services/gateway/public_services.h"

#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/cluster.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "services/gateway/ask_relay.h"
#include "services/gateway/upload_relay.h"

namespace lectern::services {
namespace {

using google::protobuf::Empty;

constexpr std::string_view kPackage = "/lectern.v1.";

std::unique_ptr<PublicService> Make(Gateway& gateway, void (*add)(PublicService*)) {
  auto service = std::make_unique<PublicService>(gateway);
  add(service.get());
  return service;
}

void AddCorpora(PublicService* service) {
  service->AddUnary<v1::CreateCorpusRequest, v1::Corpus>("/lectern.v1.Corpora/CreateCorpus",
                                                         &WorkerApi::CreateCorpus);
  service->AddUnary<v1::GetCorpusRequest, v1::Corpus>("/lectern.v1.Corpora/GetCorpus",
                                                      &WorkerApi::GetCorpus);
  service->AddUnary<v1::ListCorporaRequest, v1::ListCorporaResponse>(
      "/lectern.v1.Corpora/ListCorpora", &WorkerApi::ListCorpora, &ListCorporaInCluster);
  service->AddUnary<v1::UpdateCorpusRequest, v1::Corpus>("/lectern.v1.Corpora/UpdateCorpus",
                                                         &WorkerApi::UpdateCorpus);
  service->AddUnary<v1::DeleteCorpusRequest, Empty>(
      "/lectern.v1.Corpora/DeleteCorpus", &WorkerApi::DeleteCorpus, &DeleteCorpusInCluster);
  service->AddUnary<v1::IngestCorpusRequest, v1::Operation>("/lectern.v1.Corpora/IngestCorpus",
                                                            &WorkerApi::IngestCorpus);
  service->AddUnary<v1::RebuildCorpusRequest, v1::Operation>("/lectern.v1.Corpora/RebuildCorpus",
                                                             &WorkerApi::RebuildCorpus);
  service->AddUnary<v1::GetGenerationRequest, v1::Generation>("/lectern.v1.Corpora/GetGeneration",
                                                              &WorkerApi::GetGeneration);
  service->AddUnary<v1::ListGenerationsRequest, v1::ListGenerationsResponse>(
      "/lectern.v1.Corpora/ListGenerations", &WorkerApi::ListGenerations);
}

void AddDocuments(PublicService* service) {
  service->AddUpload("/lectern.v1.Documents/UploadDocument");
  service->AddUnary<v1::GetDocumentRequest, v1::Document>("/lectern.v1.Documents/GetDocument",
                                                          &WorkerApi::GetDocument);
  service->AddUnary<v1::ListDocumentsRequest, v1::ListDocumentsResponse>(
      "/lectern.v1.Documents/ListDocuments", &WorkerApi::ListDocuments);
  service->AddUnary<v1::DeleteDocumentRequest, Empty>("/lectern.v1.Documents/DeleteDocument",
                                                      &WorkerApi::DeleteDocument);
}

void AddOperations(PublicService* service) {
  service->AddUnary<v1::GetOperationRequest, v1::Operation>("/lectern.v1.Operations/GetOperation",
                                                            &WorkerApi::GetOperation);
  service->AddUnary<v1::ListOperationsRequest, v1::ListOperationsResponse>(
      "/lectern.v1.Operations/ListOperations", &WorkerApi::ListOperations);
  service->AddUnary<v1::WaitOperationRequest, v1::Operation>("/lectern.v1.Operations/WaitOperation",
                                                             &WorkerApi::WaitOperation);
  service->AddUnary<v1::CancelOperationRequest, v1::Operation>(
      "/lectern.v1.Operations/CancelOperation", &WorkerApi::CancelOperation);
}

void AddSessions(PublicService* service) {
  service->AddUnary<v1::CreateSessionRequest, v1::Session>("/lectern.v1.Sessions/CreateSession",
                                                           &WorkerApi::CreateSession);
  service->AddUnary<v1::GetSessionRequest, v1::Session>("/lectern.v1.Sessions/GetSession",
                                                        &WorkerApi::GetSession);
  service->AddUnary<v1::ListSessionsRequest, v1::ListSessionsResponse>(
      "/lectern.v1.Sessions/ListSessions", &WorkerApi::ListSessions);
  service->AddUnary<v1::ForkSessionRequest, v1::Session>("/lectern.v1.Sessions/ForkSession",
                                                         &WorkerApi::ForkSession);
  service->AddUnary<v1::DeleteSessionRequest, Empty>("/lectern.v1.Sessions/DeleteSession",
                                                     &WorkerApi::DeleteSession);
  service->AddUnary<v1::ListTurnsRequest, v1::ListTurnsResponse>("/lectern.v1.Sessions/ListTurns",
                                                                 &WorkerApi::ListTurns);
}

void AddAnswers(PublicService* service) {
  service->AddAsk("/lectern.v1.Answers/Ask");
  service->AddUnary<v1::RetrieveRequest, v1::RetrieveResponse>("/lectern.v1.Answers/Retrieve",
                                                               &WorkerApi::Retrieve);
  service->AddUnary<v1::CountTokensRequest, v1::CountTokensResponse>(
      "/lectern.v1.Answers/CountTokens", &WorkerApi::CountTokens);
}

void AddModels(PublicService* service) {
  service->AddUnary<v1::GetModelRequest, v1::Model>("/lectern.v1.Models/GetModel",
                                                    &WorkerApi::GetModel);
  service->AddUnary<v1::GetStatsRequest, v1::Stats>("/lectern.v1.Models/GetStats",
                                                    &WorkerApi::GetStats, &GetStatsInCluster);
}

void AddTenants(PublicService* service) {
  service->AddUnary<v1::CreateTenantRequest, v1::Tenant>(
      "/lectern.v1.Tenants/CreateTenant", &WorkerApi::CreateTenant, &CreateTenantInCluster);
  service->AddUnary<v1::GetTenantRequest, v1::Tenant>("/lectern.v1.Tenants/GetTenant",
                                                      &WorkerApi::GetTenant, &GetTenantInCluster);
  service->AddUnary<v1::ListTenantsRequest, v1::ListTenantsResponse>(
      "/lectern.v1.Tenants/ListTenants", &WorkerApi::ListTenants, &ListTenantsInCluster);
  service->AddUnary<v1::UpdateTenantRequest, v1::Tenant>(
      "/lectern.v1.Tenants/UpdateTenant", &WorkerApi::UpdateTenant, &UpdateTenantInCluster);
  service->AddUnary<v1::DeleteTenantRequest, Empty>(
      "/lectern.v1.Tenants/DeleteTenant", &WorkerApi::DeleteTenant, &DeleteTenantInCluster);
}

void AddBackups(PublicService* service) {
  service->AddUnary<v1::CreateBackupRequest, v1::Backup>(
      "/lectern.v1.Backups/CreateBackup", &WorkerApi::CreateBackup, &CreateBackupInCluster);
  service->AddUnary<v1::GetBackupRequest, v1::Backup>("/lectern.v1.Backups/GetBackup",
                                                      &WorkerApi::GetBackup, &GetBackupInCluster);
  service->AddUnary<v1::ListBackupsRequest, v1::ListBackupsResponse>(
      "/lectern.v1.Backups/ListBackups", &WorkerApi::ListBackups, &ListBackupsInCluster);
  service->AddUnary<v1::CancelBackupRequest, v1::Backup>(
      "/lectern.v1.Backups/CancelBackup", &WorkerApi::CancelBackup, &CancelBackupInCluster);
}

void AddCluster(PublicService* service) {
  service->AddUnary<v1::ListGroupsRequest, v1::ListGroupsResponse>("/lectern.v1.Cluster/ListGroups",
                                                                   nullptr, &ListGroupsInCluster);
  service->AddUnary<v1::DrainGroupRequest, v1::Group>("/lectern.v1.Cluster/DrainGroup", nullptr,
                                                      &DrainGroupInCluster);
  service->AddUnary<v1::ResumeGroupRequest, v1::Group>("/lectern.v1.Cluster/ResumeGroup", nullptr,
                                                       &ResumeGroupInCluster);
  service->AddUnary<v1::MoveCorpusRequest, v1::Move>("/lectern.v1.Cluster/MoveCorpus", nullptr,
                                                     &MoveCorpusInCluster);
  service->AddUnary<v1::GetMoveRequest, v1::Move>("/lectern.v1.Cluster/GetMove", nullptr,
                                                  &GetMoveInCluster);
  service->AddUnary<v1::ListMovesRequest, v1::ListMovesResponse>("/lectern.v1.Cluster/ListMoves",
                                                                 nullptr, &ListMovesInCluster);
  service->AddUnary<v1::CancelMoveRequest, v1::Move>("/lectern.v1.Cluster/CancelMove", nullptr,
                                                     &CancelMoveInCluster);
}

}  // namespace

std::string_view PublicService::NameOf(std::string_view path) {
  return path.substr(kPackage.size());
}

void PublicService::AddStream(const char* path, grpc::internal::MethodHandler* handler) {
  AddMethod(new grpc::internal::RpcServiceMethod(path, grpc::internal::RpcMethod::BIDI_STREAMING,
                                                 nullptr));
  MarkMethodCallback(methods_++, handler);
}

void PublicService::AddAsk(const char* path) {
  AddStream(path, new grpc::internal::CallbackBidiHandler<v1::AskRequest, v1::AskResponse>(
                      [this, name = NameOf(path)](grpc::CallbackServerContext* context) {
                        return new AskRelay(gateway_, name, *context);
                      }));
}

void PublicService::AddUpload(const char* path) {
  AddMethod(new grpc::internal::RpcServiceMethod(path, grpc::internal::RpcMethod::CLIENT_STREAMING,
                                                 nullptr));
  MarkMethodCallback(
      methods_++,
      new grpc::internal::CallbackClientStreamingHandler<v1::UploadDocumentRequest, v1::Document>(
          [this, name = NameOf(path)](grpc::CallbackServerContext* context,
                                      v1::Document* response) {
            return new UploadRelay(gateway_, name, *context, *response);
          }));
}

std::vector<std::unique_ptr<PublicService>> MakePublicServices(Gateway& gateway) {
  std::vector<std::unique_ptr<PublicService>> services;
  for (const auto add : {AddCorpora, AddDocuments, AddOperations, AddSessions, AddAnswers,
                         AddModels, AddTenants, AddBackups, AddCluster}) {
    services.push_back(Make(gateway, add));
  }
  return services;
}

}  // namespace lectern::services
