// What all public calls share: where the workers are, how many calls may run, what is counted.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "services/gateway/router.h"
#include "services/rpc/admission.h"
#include "services/rpc/call.h"
#include "services/security/access.h"
#include "services/security/caller_security.h"
#include "services/telemetry/call_record.h"
#include "services/telemetry/metrics.h"

namespace lectern::services {

class Gateway {
 public:
  // `router`, `metrics` and `security` outlive the gateway.
  Gateway(Router& router, const CallerSecurity& security, CallMetrics& metrics, int call_limit)
      : router_(router), security_(security), metrics_(metrics), admission_(call_limit) {}

  Router& router() { return router_; }
  const KeyRing* keys() const { return security_.keys.get(); }  // null: none are needed
  AuditLog& audit() { return *security_.audit; }
  CallMetrics& metrics() { return metrics_; }
  Admission& admission() { return admission_; }

 private:
  Router& router_;
  const CallerSecurity& security_;
  CallMetrics& metrics_;
  Admission admission_;
};

// INVALID_ARGUMENT REQUEST_UNREADABLE: no request came, or bytes that are none. (One that is larger
// than kMaxReceiveBytes gRPC refuses itself, with RESOURCE_EXHAUSTED.)
absl::Status UnreadableRequest();

// One public call and its continuation at a worker, or at one worker after the other.
class RelayedCall {
 public:
  // Establishes who calls and whether they may, and returns the request id in the initial metadata.
  // `method`: "Answers/Ask"; it outlives the call.
  RelayedCall(Gateway& gateway, grpc::CallbackServerContext& context, std::string_view method);

  // Why the call may not go on: QUEUE_FULL, SERVER_DRAINING, REQUEST_ID_INVALID, KEY_MISSING,
  // KEY_INVALID, ROLE_INSUFFICIENT.
  const absl::Status& accepted() const { return accepted_; }
  // The tenant whose names the caller may use; empty: any, to administer it.
  const std::string& tenant() const { return record_.caller().tenant; }
  // Before an act of administration on `resource`, which is not done unless this is OK
  // (AUDIT_LOG_FAILED). Close records its end. Nothing for other methods.
  absl::Status RecordAct(std::string_view resource);
  CallRecord& record() { return record_; }
  std::string_view method() const { return method_; }

  // For the next attempt: tells the worker who calls, on which placement, and by when; cancelled
  // already if the caller has given up. Lives as long as the call.
  grpc::ClientContext& NewAttempt(const Destination& destination);
  // The attempt at hand, if there is one, ends; later ones do not begin.
  void Cancel();
  bool cancelled() const { return cancelled_; }
  std::chrono::system_clock::time_point deadline() const { return deadline_; }
  // Of the call, for the router.
  Errand ErrandFor(engine::CorpusName name);

  // The call's end, once: what the worker or the gateway says, with ErrorInfo in every case (a
  // worker that cannot be reached says nothing itself: UNAVAILABLE WORKER_UNREACHABLE).
  grpc::Status Close(const grpc::Status& status);
  grpc::Status Close(const absl::Status& status);

 private:
  absl::Status Accept(grpc::CallbackServerContext& context);
  // Whom the call's key stands for, and whether that role may call the method.
  absl::Status Authorize(grpc::CallbackServerContext& context);
  void RecordEnd(const grpc::Status& status);
  AuditEvent Event(std::string_view event) const;

  Gateway& gateway_;
  const std::string_view method_;
  CallRecord record_;
  std::string role_;      // "" without keys
  std::string peer_;      // of audited calls
  std::string resource_;  // of an act that was recorded
  bool act_begun_ = false;
  const std::chrono::system_clock::time_point deadline_;
  std::mutex attempts_mutex_;
  std::vector<std::unique_ptr<grpc::ClientContext>> attempts_;
  std::atomic<bool> cancelled_ = false;
  absl::Status accepted_;
};

}  // namespace lectern::services
