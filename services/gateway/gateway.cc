#include "services/gateway/gateway.h"

#include <fmt/format.h>

#include <chrono>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

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

RelayedCall::RelayedCall(Gateway& gateway, grpc::CallbackServerContext& context,
                         std::string_view method)
    : record_(&gateway.metrics(), gateway.admission(), method), accepted_(Accept(context)) {
  SetInternalCaller(record_.caller(), upstream_);
  if (context.deadline() != std::chrono::system_clock::time_point::max()) {
    upstream_.set_deadline(context.deadline());
  }
}

absl::Status RelayedCall::Accept(grpc::CallbackServerContext& context) {
  const absl::StatusOr<std::string> sent = RequestIdOf(context);
  // The only tenant there is; who the caller is decides it once there are more.
  record_.set_caller({sent.ok() ? *sent : MakeRequestId(), std::string(kDefaultTenant)});
  context.AddInitialMetadata(kRequestIdHeader, record_.caller().request_id);
  return record_.admitted().ok() ? sent.status() : record_.admitted();
}

grpc::Status RelayedCall::Close(const grpc::Status& status) {
  if (!status.ok() && status.error_details().empty()) return Close(FromTransport(status));
  record_.Finish(status);
  return status;
}

grpc::Status RelayedCall::Close(const absl::Status& status) {
  const grpc::Status out = ToGrpcStatus(status, record_.caller().request_id);
  record_.Finish(out);
  return out;
}

}  // namespace lectern::services
