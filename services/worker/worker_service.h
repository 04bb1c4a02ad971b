// The worker API over an engine: names and messages become ids and values, calls go to the engine
// on a few threads of our own, and its callbacks feed the streams.
//
// Unary methods are one lambda each (corpora.cc, documents.cc, operations.cc, sessions.cc,
// tenants.cc, backups.cc, answers.cc); the calls that live longer have a class: ask_call.h,
// export_call.h, upload_call.h, wait_call.h.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "engine/engine.h"
#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/rpc/admission.h"
#include "services/rpc/call.h"
#include "services/rpc/executor.h"
#include "services/telemetry/call_record.h"
#include "services/telemetry/metrics.h"
#include "services/worker/unary_call.h"

namespace lectern::services {

class WaitCall;

class WorkerService final : public worker::v1::Worker::CallbackService {
 public:
  struct Options {
    int threads = 8;
    size_t queue_limit = 1024;       // calls waiting for a thread
    int call_limit = 4096;           // calls of every kind at once
    Ownership* ownership = nullptr;  // of a cluster's worker; outlives the service
  };

  // `engine` outlives the service; so does `metrics`, which may be null (see CallRecord).
  WorkerService(engine::Engine& engine, CallMetrics* metrics, const Options& options);
  ~WorkerService() override;

  // Ends WaitOperation calls, now and from now on, with UNAVAILABLE SERVER_DRAINING.
  void EndWaits();
  Admission& admission() { return admission_; }

  engine::Engine& engine() { return engine_; }
  Executor& executor() { return executor_; }
  CallMetrics* metrics() { return metrics_; }
  Ownership* ownership() { return ownership_; }
  // Calls that EndWaits ends. AddWait is false when it has been called already.
  [[nodiscard]] bool AddWait(std::shared_ptr<WaitCall> call);
  void RemoveWait(const std::shared_ptr<WaitCall>& call);

  // clang-format off
  using Context = grpc::CallbackServerContext;
  using Unary = grpc::ServerUnaryReactor;
  Unary* CreateCorpus(Context*, const v1::CreateCorpusRequest*, v1::Corpus*) override;
  Unary* GetCorpus(Context*, const v1::GetCorpusRequest*, v1::Corpus*) override;
  Unary* ListCorpora(Context*, const v1::ListCorporaRequest*, v1::ListCorporaResponse*) override;
  Unary* UpdateCorpus(Context*, const v1::UpdateCorpusRequest*, v1::Corpus*) override;
  Unary* DeleteCorpus(Context*, const v1::DeleteCorpusRequest*, google::protobuf::Empty*) override;
  Unary* IngestCorpus(Context*, const v1::IngestCorpusRequest*, v1::Operation*) override;
  Unary* RebuildCorpus(Context*, const v1::RebuildCorpusRequest*, v1::Operation*) override;
  Unary* GetGeneration(Context*, const v1::GetGenerationRequest*, v1::Generation*) override;
  Unary* ListGenerations(Context*, const v1::ListGenerationsRequest*, v1::ListGenerationsResponse*) override;

  grpc::ServerReadReactor<v1::UploadDocumentRequest>* UploadDocument(Context*, v1::Document*) override;
  Unary* GetDocument(Context*, const v1::GetDocumentRequest*, v1::Document*) override;
  Unary* ListDocuments(Context*, const v1::ListDocumentsRequest*, v1::ListDocumentsResponse*) override;
  Unary* DeleteDocument(Context*, const v1::DeleteDocumentRequest*, google::protobuf::Empty*) override;

  Unary* GetOperation(Context*, const v1::GetOperationRequest*, v1::Operation*) override;
  Unary* ListOperations(Context*, const v1::ListOperationsRequest*, v1::ListOperationsResponse*) override;
  Unary* WaitOperation(Context*, const v1::WaitOperationRequest*, v1::Operation*) override;
  Unary* CancelOperation(Context*, const v1::CancelOperationRequest*, v1::Operation*) override;

  Unary* CreateSession(Context*, const v1::CreateSessionRequest*, v1::Session*) override;
  Unary* GetSession(Context*, const v1::GetSessionRequest*, v1::Session*) override;
  Unary* ListSessions(Context*, const v1::ListSessionsRequest*, v1::ListSessionsResponse*) override;
  Unary* ForkSession(Context*, const v1::ForkSessionRequest*, v1::Session*) override;
  Unary* DeleteSession(Context*, const v1::DeleteSessionRequest*, google::protobuf::Empty*) override;
  Unary* ListTurns(Context*, const v1::ListTurnsRequest*, v1::ListTurnsResponse*) override;

  grpc::ServerWriteReactor<v1::AskResponse>* Ask(Context*, const v1::AskRequest*) override;
  Unary* Retrieve(Context*, const v1::RetrieveRequest*, v1::RetrieveResponse*) override;
  Unary* CountTokens(Context*, const v1::CountTokensRequest*, v1::CountTokensResponse*) override;

  Unary* CreateTenant(Context*, const v1::CreateTenantRequest*, v1::Tenant*) override;
  Unary* GetTenant(Context*, const v1::GetTenantRequest*, v1::Tenant*) override;
  Unary* ListTenants(Context*, const v1::ListTenantsRequest*, v1::ListTenantsResponse*) override;
  Unary* UpdateTenant(Context*, const v1::UpdateTenantRequest*, v1::Tenant*) override;
  Unary* DeleteTenant(Context*, const v1::DeleteTenantRequest*, google::protobuf::Empty*) override;

  Unary* CreateBackup(Context*, const v1::CreateBackupRequest*, v1::Backup*) override;
  Unary* GetBackup(Context*, const v1::GetBackupRequest*, v1::Backup*) override;
  Unary* ListBackups(Context*, const v1::ListBackupsRequest*, v1::ListBackupsResponse*) override;
  Unary* CancelBackup(Context*, const v1::CancelBackupRequest*, v1::Backup*) override;

  grpc::ServerWriteReactor<worker::v1::ExportCorpusResponse>* ExportCorpus(Context*, const worker::v1::ExportCorpusRequest*) override;

  Unary* SyncReplica(Context*, const worker::v1::SyncReplicaRequest*, google::protobuf::Empty*) override;

  Unary* GetModel(Context*, const v1::GetModelRequest*, v1::Model*) override;
  Unary* GetStats(Context*, const v1::GetStatsRequest*, v1::Stats*) override;
  // clang-format on

 private:
  // Runs `body` on the executor, if the call may be worked on; it sees to the call's end.
  Unary* Begin(Context* context, std::string_view method, std::function<void(UnaryCall&)> body);
  // Runs `body`, a function of the caller that fills the response, on the executor.
  Unary* Run(Context* context, std::string_view method,
             std::function<absl::Status(const Caller&)> body);

  engine::Engine& engine_;
  CallMetrics* const metrics_;
  Ownership* const ownership_;
  Admission admission_;
  std::mutex waits_mutex_;
  std::set<std::shared_ptr<WaitCall>> waits_;
  bool waits_ended_ = false;
  // Last, so that its threads end before what their tasks use.
  Executor executor_;
};

}  // namespace lectern::services
