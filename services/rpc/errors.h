// The one place where an error crosses the wire: absl::Status with a reason (engine/error/error.h)
// to grpc::Status with google.rpc details, and back for clients.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "google/rpc/status.pb.h"

namespace lectern::services {

inline constexpr std::string_view kErrorDomain = "lectern.dev";

// Every error gets an ErrorInfo: the status's reason (or its code's name, if it carries none), the
// domain, the status's metadata and `request_id` (left out if empty). Then by code:
//   INVALID_ARGUMENT     BadRequest, when the metadata or the reason tells the field
//   FAILED_PRECONDITION  PreconditionFailure
//   RESOURCE_EXHAUSTED   QuotaFailure; RetryInfo when waiting helps (a full queue, or the metadata
//   says
//                        retry_after_ms)
//   UNAVAILABLE          RetryInfo
google::rpc::Status ToRpcStatus(const absl::Status& status, std::string_view request_id);
grpc::Status ToGrpcStatus(const absl::Status& status, std::string_view request_id);

// An error as a client sees it.
struct RemoteError {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  std::string message;
  std::string reason;  // "" if the error did not come from Lectern
  std::string request_id;
  std::map<std::string, std::string> metadata;
  std::optional<double> retry_seconds;
};

RemoteError ToRemoteError(const grpc::Status& status);
RemoteError ToRemoteError(const google::rpc::Status& status);

// "NOT_FOUND", ...
std::string CodeName(absl::StatusCode code);
std::string CodeName(grpc::StatusCode code);

}  // namespace lectern::services
