// ExportCorpus in progress: fill a message on the executor, write it, fill the next. A slow
// receiver slows the reading.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>

#include "engine/engine.h"
#include "lectern/worker/v1/worker.pb.h"
#include "services/telemetry/call_record.h"

namespace lectern::services {

class WorkerService;

class ExportCall final : public grpc::ServerWriteReactor<worker::v1::ExportCorpusResponse> {
 public:
  static ExportCall* Start(WorkerService& worker, grpc::CallbackServerContext& context,
                           const worker::v1::ExportCorpusRequest& request);

  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

 private:
  ExportCall(WorkerService& worker, grpc::CallbackServerContext& context,
             const worker::v1::ExportCorpusRequest& request);

  absl::Status Begin();
  absl::Status Fill();
  // Writes what `status` allows: the message, or the end.
  void Continue(const absl::Status& status);
  void End(const absl::Status& status);

  WorkerService& worker_;
  grpc::CallbackServerContext& context_;
  const worker::v1::ExportCorpusRequest& request_;
  CallRecord record_;
  std::unique_ptr<engine::CorpusExport> records_;
  worker::v1::ExportCorpusResponse message_;
};

}  // namespace lectern::services
