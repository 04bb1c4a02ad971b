// What all public calls share: where the worker is, how many calls may run, what is counted.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <string_view>

#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/rpc/admission.h"
#include "services/rpc/call.h"
#include "services/telemetry/call_record.h"
#include "services/telemetry/metrics.h"

namespace lectern::services {

using WorkerApi = worker::v1::Worker::StubInterface::async_interface;

class Gateway {
 public:
  // `metrics` outlives the gateway.
  Gateway(const std::shared_ptr<grpc::Channel>& worker, CallMetrics& metrics, int call_limit)
      : stub_(worker::v1::Worker::NewStub(worker)), metrics_(metrics), admission_(call_limit) {}

  WorkerApi& worker() { return *stub_->async(); }
  CallMetrics& metrics() { return metrics_; }
  Admission& admission() { return admission_; }

 private:
  const std::unique_ptr<worker::v1::Worker::Stub> stub_;
  CallMetrics& metrics_;
  Admission admission_;
};

// One public call and its continuation at the worker.
class RelayedCall {
 public:
  // Establishes who calls, returns the request id in the initial metadata, and forwards both and
  // the deadline. `method`: "Answers/Ask".
  RelayedCall(Gateway& gateway, grpc::CallbackServerContext& context, std::string_view method);

  // Why the call may not go on: QUEUE_FULL, SERVER_DRAINING, REQUEST_ID_INVALID.
  const absl::Status& accepted() const { return accepted_; }
  const std::string& tenant() const { return record_.caller().tenant; }
  CallRecord& record() { return record_; }
  grpc::ClientContext& upstream() { return upstream_; }

  // The call's end, once: what the worker or the gateway says, with ErrorInfo in every case (a
  // worker that cannot be reached says nothing itself: UNAVAILABLE WORKER_UNREACHABLE).
  grpc::Status Close(const grpc::Status& status);
  grpc::Status Close(const absl::Status& status);

 private:
  absl::Status Accept(grpc::CallbackServerContext& context);

  CallRecord record_;
  grpc::ClientContext upstream_;
  absl::Status accepted_;
};

}  // namespace lectern::services
