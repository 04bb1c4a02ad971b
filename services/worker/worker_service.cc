#include "services/worker/worker_service.h"

#include "engine/error/error.h"
#include "services/rpc/reason.h"
#include "services/worker/export_call.h"
#include "services/worker/wait_call.h"

namespace lectern::services {

WorkerService::WorkerService(engine::Engine& engine, CallMetrics* metrics, const Options& options)
    : engine_(engine),
      metrics_(metrics),
      ownership_(options.ownership),
      admission_(options.call_limit),
      executor_(options.threads, options.queue_limit) {}

WorkerService::~WorkerService() = default;

void WorkerService::EndWaits() {
  std::set<std::shared_ptr<WaitCall>> waits;
  {
    const std::lock_guard lock(waits_mutex_);
    waits_ended_ = true;
    waits = waits_;
  }
  for (const std::shared_ptr<WaitCall>& call : waits) call->Drain();
}

bool WorkerService::AddWait(std::shared_ptr<WaitCall> call) {
  const std::lock_guard lock(waits_mutex_);
  if (waits_ended_) return false;
  waits_.insert(std::move(call));
  return true;
}

void WorkerService::RemoveWait(const std::shared_ptr<WaitCall>& call) {
  const std::lock_guard lock(waits_mutex_);
  waits_.erase(call);
}

grpc::ServerWriteReactor<worker::v1::ExportCorpusResponse>* WorkerService::ExportCorpus(
    Context* context, const worker::v1::ExportCorpusRequest* request) {
  return ExportCall::Start(*this, *context, *request);
}

grpc::ServerUnaryReactor* WorkerService::Run(Context* context, std::string_view method,
                                             std::function<absl::Status(const Caller&)> body) {
  return Begin(context, method,
               [body = std::move(body)](UnaryCall& call) { call.End(body(call.caller())); });
}

grpc::ServerUnaryReactor* WorkerService::SyncReplica(Context* context,
                                                     const worker::v1::SyncReplicaRequest* request,
                                                     google::protobuf::Empty*) {
  return Begin(context, "Worker/SyncReplica", [=, this](UnaryCall& call) {
    Replication* replication = ownership_ == nullptr ? nullptr : ownership_->replication();
    if (replication == nullptr) {
      call.End(engine::Error(absl::StatusCode::kFailedPrecondition, reason::kClusterMissing,
                             "this worker is of no cluster: no corpus has two copies"));
      return;
    }
    replication->Sync(call.caller(), request->revision(),
                      [&call](const absl::Status& status) { call.End(status); });
  });
}

grpc::ServerUnaryReactor* WorkerService::Begin(Context* context, std::string_view method,
                                               std::function<void(UnaryCall&)> body) {
  auto* call = new UnaryCall(metrics_, admission_, ownership_, method, *context);
  if (!call->admitted().ok()) {
    call->End(call->admitted());
    return call;
  }
  const bool submitted = executor_.Submit([call, body = std::move(body)] {
    if (call->context().IsCancelled()) {
      call->End(GivenUpError(call->context()));
    } else if (const absl::Status may = call->MayBegin(); !may.ok()) {
      call->End(may);
    } else {
      body(*call);
    }
  });
  if (!submitted) call->End(ExecutorFullError());
  return call;
}

}  // namespace lectern::services
