// UploadDocument in progress: read a message, hand it to the engine on the executor, read the next.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <memory>

#include "engine/engine.h"
#include "lectern/v1/corpora.pb.h"
#include "services/cluster/ownership.h"
#include "services/telemetry/call_record.h"

namespace lectern::services {

class WorkerService;

class UploadCall final : public grpc::ServerReadReactor<v1::UploadDocumentRequest> {
 public:
  static UploadCall* Start(WorkerService& worker, grpc::CallbackServerContext& context,
                           v1::Document& response);

  void OnReadDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  UploadCall(WorkerService& worker, grpc::CallbackServerContext& context, v1::Document& response);

  absl::Status Take();
  absl::Status Begin();
  absl::Status Complete();
  // When the document is where it must be.
  void Settle(const absl::Status& status);
  void End(const absl::Status& status);

  WorkerService& worker_;
  grpc::CallbackServerContext& context_;
  v1::Document& response_;
  CallRecord record_;
  CorpusGate::Pass pass_;
  v1::UploadDocumentRequest message_;
  std::unique_ptr<engine::DocumentUpload> upload_;
  // The gateway's word that the caller has sent everything.
  bool complete_ = false;
};

}  // namespace lectern::services
