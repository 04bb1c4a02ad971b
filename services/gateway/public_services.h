// The public services: each method relays to the method of the same name in the worker API.
#pragma once

#include <grpcpp/grpcpp.h>

#include "lectern/v1/answers.grpc.pb.h"
#include "lectern/v1/corpora.grpc.pb.h"
#include "lectern/v1/models.grpc.pb.h"
#include "lectern/v1/operations.grpc.pb.h"
#include "lectern/v1/sessions.grpc.pb.h"
#include "lectern/v1/tenants.grpc.pb.h"
#include "services/gateway/ask_relay.h"
#include "services/gateway/gateway.h"
#include "services/gateway/unary_relay.h"
#include "services/gateway/upload_relay.h"

namespace lectern::services {

using Context = grpc::CallbackServerContext;
using Unary = grpc::ServerUnaryReactor;
using google::protobuf::Empty;

class CorporaGateway final : public v1::Corpora::CallbackService {
 public:
  explicit CorporaGateway(Gateway& gateway) : gateway_(gateway) {}

  Unary* CreateCorpus(Context* context, const v1::CreateCorpusRequest* request,
                      v1::Corpus* response) override {
    return RelayUnary(gateway_, "Corpora/CreateCorpus", *context, *request, *response,
                      &WorkerApi::CreateCorpus);
  }
  Unary* GetCorpus(Context* context, const v1::GetCorpusRequest* request,
                   v1::Corpus* response) override {
    return RelayUnary(gateway_, "Corpora/GetCorpus", *context, *request, *response,
                      &WorkerApi::GetCorpus);
  }
  Unary* ListCorpora(Context* context, const v1::ListCorporaRequest* request,
                     v1::ListCorporaResponse* response) override {
    return RelayUnary(gateway_, "Corpora/ListCorpora", *context, *request, *response,
                      &WorkerApi::ListCorpora);
  }
  Unary* UpdateCorpus(Context* context, const v1::UpdateCorpusRequest* request,
                      v1::Corpus* response) override {
    return RelayUnary(gateway_, "Corpora/UpdateCorpus", *context, *request, *response,
                      &WorkerApi::UpdateCorpus);
  }
  Unary* DeleteCorpus(Context* context, const v1::DeleteCorpusRequest* request,
                      Empty* response) override {
    return RelayUnary(gateway_, "Corpora/DeleteCorpus", *context, *request, *response,
                      &WorkerApi::DeleteCorpus);
  }
  Unary* IngestCorpus(Context* context, const v1::IngestCorpusRequest* request,
                      v1::Operation* response) override {
    return RelayUnary(gateway_, "Corpora/IngestCorpus", *context, *request, *response,
                      &WorkerApi::IngestCorpus);
  }
  Unary* RebuildCorpus(Context* context, const v1::RebuildCorpusRequest* request,
                       v1::Operation* response) override {
    return RelayUnary(gateway_, "Corpora/RebuildCorpus", *context, *request, *response,
                      &WorkerApi::RebuildCorpus);
  }
  Unary* GetGeneration(Context* context, const v1::GetGenerationRequest* request,
                       v1::Generation* response) override {
    return RelayUnary(gateway_, "Corpora/GetGeneration", *context, *request, *response,
                      &WorkerApi::GetGeneration);
  }
  Unary* ListGenerations(Context* context, const v1::ListGenerationsRequest* request,
                         v1::ListGenerationsResponse* response) override {
    return RelayUnary(gateway_, "Corpora/ListGenerations", *context, *request, *response,
                      &WorkerApi::ListGenerations);
  }

 private:
  Gateway& gateway_;
};

class DocumentsGateway final : public v1::Documents::CallbackService {
 public:
  explicit DocumentsGateway(Gateway& gateway) : gateway_(gateway) {}

  grpc::ServerReadReactor<v1::UploadDocumentRequest>* UploadDocument(
      Context* context, v1::Document* document) override {
    return new UploadRelay(gateway_, *context, *document);
  }
  Unary* GetDocument(Context* context, const v1::GetDocumentRequest* request,
                     v1::Document* response) override {
    return RelayUnary(gateway_, "Documents/GetDocument", *context, *request, *response,
                      &WorkerApi::GetDocument);
  }
  Unary* ListDocuments(Context* context, const v1::ListDocumentsRequest* request,
                       v1::ListDocumentsResponse* response) override {
    return RelayUnary(gateway_, "Documents/ListDocuments", *context, *request, *response,
                      &WorkerApi::ListDocuments);
  }
  Unary* DeleteDocument(Context* context, const v1::DeleteDocumentRequest* request,
                        Empty* response) override {
    return RelayUnary(gateway_, "Documents/DeleteDocument", *context, *request, *response,
                      &WorkerApi::DeleteDocument);
  }

 private:
  Gateway& gateway_;
};

class OperationsGateway final : public v1::Operations::CallbackService {
 public:
  explicit OperationsGateway(Gateway& gateway) : gateway_(gateway) {}

  Unary* GetOperation(Context* context, const v1::GetOperationRequest* request,
                      v1::Operation* response) override {
    return RelayUnary(gateway_, "Operations/GetOperation", *context, *request, *response,
                      &WorkerApi::GetOperation);
  }
  Unary* ListOperations(Context* context, const v1::ListOperationsRequest* request,
                        v1::ListOperationsResponse* response) override {
    return RelayUnary(gateway_, "Operations/ListOperations", *context, *request, *response,
                      &WorkerApi::ListOperations);
  }
  Unary* WaitOperation(Context* context, const v1::WaitOperationRequest* request,
                       v1::Operation* response) override {
    return RelayUnary(gateway_, "Operations/WaitOperation", *context, *request, *response,
                      &WorkerApi::WaitOperation);
  }
  Unary* CancelOperation(Context* context, const v1::CancelOperationRequest* request,
                         v1::Operation* response) override {
    return RelayUnary(gateway_, "Operations/CancelOperation", *context, *request, *response,
                      &WorkerApi::CancelOperation);
  }

 private:
  Gateway& gateway_;
};

class SessionsGateway final : public v1::Sessions::CallbackService {
 public:
  explicit SessionsGateway(Gateway& gateway) : gateway_(gateway) {}

  Unary* CreateSession(Context* context, const v1::CreateSessionRequest* request,
                       v1::Session* response) override {
    return RelayUnary(gateway_, "Sessions/CreateSession", *context, *request, *response,
                      &WorkerApi::CreateSession);
  }
  Unary* GetSession(Context* context, const v1::GetSessionRequest* request,
                    v1::Session* response) override {
    return RelayUnary(gateway_, "Sessions/GetSession", *context, *request, *response,
                      &WorkerApi::GetSession);
  }
  Unary* ListSessions(Context* context, const v1::ListSessionsRequest* request,
                      v1::ListSessionsResponse* response) override {
    return RelayUnary(gateway_, "Sessions/ListSessions", *context, *request, *response,
                      &WorkerApi::ListSessions);
  }
  Unary* ForkSession(Context* context, const v1::ForkSessionRequest* request,
                     v1::Session* response) override {
    return RelayUnary(gateway_, "Sessions/ForkSession", *context, *request, *response,
                      &WorkerApi::ForkSession);
  }
  Unary* DeleteSession(Context* context, const v1::DeleteSessionRequest* request,
                       Empty* response) override {
    return RelayUnary(gateway_, "Sessions/DeleteSession", *context, *request, *response,
                      &WorkerApi::DeleteSession);
  }
  Unary* ListTurns(Context* context, const v1::ListTurnsRequest* request,
                   v1::ListTurnsResponse* response) override {
    return RelayUnary(gateway_, "Sessions/ListTurns", *context, *request, *response,
                      &WorkerApi::ListTurns);
  }

 private:
  Gateway& gateway_;
};

class AnswersGateway final : public v1::Answers::CallbackService {
 public:
  explicit AnswersGateway(Gateway& gateway) : gateway_(gateway) {}

  grpc::ServerWriteReactor<v1::AskResponse>* Ask(Context* context,
                                                 const v1::AskRequest* request) override {
    return new AskRelay(gateway_, *context, *request);
  }
  Unary* Retrieve(Context* context, const v1::RetrieveRequest* request,
                  v1::RetrieveResponse* response) override {
    return RelayUnary(gateway_, "Answers/Retrieve", *context, *request, *response,
                      &WorkerApi::Retrieve);
  }
  Unary* CountTokens(Context* context, const v1::CountTokensRequest* request,
                     v1::CountTokensResponse* response) override {
    return RelayUnary(gateway_, "Answers/CountTokens", *context, *request, *response,
                      &WorkerApi::CountTokens);
  }

 private:
  Gateway& gateway_;
};

class TenantsGateway final : public v1::Tenants::CallbackService {
 public:
  explicit TenantsGateway(Gateway& gateway) : gateway_(gateway) {}

  Unary* CreateTenant(Context* context, const v1::CreateTenantRequest* request,
                      v1::Tenant* response) override {
    return RelayUnary(gateway_, "Tenants/CreateTenant", *context, *request, *response,
                      &WorkerApi::CreateTenant);
  }
  Unary* GetTenant(Context* context, const v1::GetTenantRequest* request,
                   v1::Tenant* response) override {
    return RelayUnary(gateway_, "Tenants/GetTenant", *context, *request, *response,
                      &WorkerApi::GetTenant);
  }
  Unary* ListTenants(Context* context, const v1::ListTenantsRequest* request,
                     v1::ListTenantsResponse* response) override {
    return RelayUnary(gateway_, "Tenants/ListTenants", *context, *request, *response,
                      &WorkerApi::ListTenants);
  }
  Unary* UpdateTenant(Context* context, const v1::UpdateTenantRequest* request,
                      v1::Tenant* response) override {
    return RelayUnary(gateway_, "Tenants/UpdateTenant", *context, *request, *response,
                      &WorkerApi::UpdateTenant);
  }
  Unary* DeleteTenant(Context* context, const v1::DeleteTenantRequest* request,
                      Empty* response) override {
    return RelayUnary(gateway_, "Tenants/DeleteTenant", *context, *request, *response,
                      &WorkerApi::DeleteTenant);
  }

 private:
  Gateway& gateway_;
};

class ModelsGateway final : public v1::Models::CallbackService {
 public:
  explicit ModelsGateway(Gateway& gateway) : gateway_(gateway) {}

  Unary* GetModel(Context* context, const v1::GetModelRequest* request,
                  v1::Model* response) override {
    return RelayUnary(gateway_, "Models/GetModel", *context, *request, *response,
                      &WorkerApi::GetModel);
  }
  Unary* GetStats(Context* context, const v1::GetStatsRequest* request,
                  v1::Stats* response) override {
    return RelayUnary(gateway_, "Models/GetStats", *context, *request, *response,
                      &WorkerApi::GetStats);
  }

 private:
  Gateway& gateway_;
};

}  // namespace lectern::services
