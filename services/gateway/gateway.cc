#include "services/gateway/gateway.h"

#include <fmt/format.h>

#include <chrono>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// What gRPC itself says about a call to the worker, in our terms.
absl::Status FromTransport(const grpc::Status& status) {
  const auto code = static_cast<absl::StatusCode>(status.error_code());
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return engine::Error(
          code, reason::kWorkerUnreachable,
          fmt::format("the worker cannot be reached ({}); try again", status.error_message()));
    case grpc::StatusCode::CANCELLED:
      return engine::Error(code, reason::kCancelled, "the caller cancelled");
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return engine::Error(code, reason::kDeadlineExceeded, "the call's deadline has passed");
    default:
      return engine::Error(code, CodeName(status.error_code()), status.error_message());
  }
}

}  // namespace

absl::Status UnreadableRequest() {
  return engine::InvalidArgument(
      reason::kRequestUnreadable,
      "the call brought no request, or bytes that are none: send one message of the method's type");
}

RelayedCall::RelayedCall(Gateway& gateway, grpc::CallbackServerContext& context,
                         std::string_view method)
    : gateway_(gateway),
      method_(method),
      record_(&gateway.metrics(), gateway.admission(), method),
      deadline_(context.deadline()),
      accepted_(Accept(context)) {}

grpc::ClientContext& RelayedCall::NewAttempt(const Destination& destination) {
  auto context = std::make_unique<grpc::ClientContext>();
  Caller caller = record_.caller();
  if (destination.epoch != 0) {
    caller.corpus = destination.name.corpus;
    caller.epoch = destination.epoch;
  }
  SetInternalCaller(caller, *context);
  if (deadline_ != std::chrono::system_clock::time_point::max()) context->set_deadline(deadline_);
  const std::lock_guard lock(attempts_mutex_);
  attempts_.push_back(std::move(context));
  if (cancelled_) attempts_.back()->TryCancel();
  return *attempts_.back();
}

void RelayedCall::Cancel() {
  const std::lock_guard lock(attempts_mutex_);
  cancelled_ = true;
  if (!attempts_.empty()) attempts_.back()->TryCancel();
}

Errand RelayedCall::ErrandFor(engine::CorpusName name) {
  Errand errand = {.name = std::move(name)};
  if (deadline_ != std::chrono::system_clock::time_point::max()) {
    errand.deadline = std::chrono::steady_clock::now() +
                      std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                          deadline_ - std::chrono::system_clock::now());
  }
  errand.abandoned = [this] { return cancelled_.load(); };
  return errand;
}

absl::Status RelayedCall::Accept(grpc::CallbackServerContext& context) {
  const absl::StatusOr<std::string> sent = RequestIdOf(context);
  record_.set_caller({sent.ok() ? *sent : MakeRequestId(), "", ""});
  context.AddInitialMetadata(kRequestIdHeader, record_.caller().request_id);
  LECTERN_RETURN_IF_ERROR(record_.admitted());
  LECTERN_RETURN_IF_ERROR(sent.status());
  return Authorize(context);
}

absl::Status RelayedCall::Authorize(grpc::CallbackServerContext& context) {
  const Access access = AccessOf(method_);
  const bool of_any_tenant = access == Access::kOperator || access == Access::kReaderOrOperator;
  Caller caller = record_.caller();
  if (IsAudited(method_)) peer_ = context.peer();
  if (gateway_.keys() == nullptr) {
    if (!of_any_tenant) caller.tenant = kDefaultTenant;
    record_.set_caller(caller);
    return absl::OkStatus();
  }
  LECTERN_ASSIGN_OR_RETURN(const Principal principal,
                           gateway_.keys()->Authenticate(AuthorizationOf(context), NowMicros()));
  caller.tenant = principal.tenant;
  caller.key_id = principal.key_id;
  role_ = RoleName(principal.role);
  record_.set_caller(caller);
  if (Allows(principal.role, access)) return absl::OkStatus();
  if (IsAudited(method_)) {
    AuditEvent event = Event("denied");
    event.code = CodeName(absl::StatusCode::kPermissionDenied);
    LECTERN_RETURN_IF_ERROR(gateway_.audit().Record(event));
  }
  return engine::Error(
      absl::StatusCode::kPermissionDenied, reason::kRoleInsufficient,
      fmt::format("the key's role is {}; {} needs {}", role_, method_, AccessName(access)),
      {{"role", role_}, {"needed", std::string(AccessName(access))}});
}

AuditEvent RelayedCall::Event(std::string_view event) const {
  return {.event = event,
          .method = method_,
          .resource = resource_,
          .key_id = record_.caller().key_id,
          .role = role_,
          .peer = peer_,
          .request_id = record_.caller().request_id};
}

absl::Status RelayedCall::RecordAct(std::string_view resource) {
  if (!IsAudited(method_)) return absl::OkStatus();
  resource_ = resource;
  LECTERN_RETURN_IF_ERROR(gateway_.audit().Record(Event("begin")));
  act_begun_ = true;
  return absl::OkStatus();
}

void RelayedCall::RecordEnd(const grpc::Status& status) {
  if (!act_begun_) return;
  AuditEvent event = Event("end");
  event.code = CodeName(status.error_code());
  // The act is done, and its begin is on disk: an end that cannot be written reads as one cut off.
  gateway_.audit().Record(event).IgnoreError();
}

grpc::Status RelayedCall::Close(const grpc::Status& status) {
  if (!status.ok() && status.error_details().empty()) return Close(FromTransport(status));
  RecordEnd(status);
  record_.Finish(status);
  return status;
}

grpc::Status RelayedCall::Close(const absl::Status& status) {
  const grpc::Status out = ToGrpcStatus(status, record_.caller().request_id);
  RecordEnd(out);
  record_.Finish(out);
  return out;
}

}  // namespace lectern::services
