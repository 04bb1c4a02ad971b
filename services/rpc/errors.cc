#include "services/rpc/errors.h"

#include <absl/strings/numbers.h>
#include <absl/strings/string_view.h>

#include <array>
#include <utility>

#include "engine/error/error.h"
#include "google/rpc/error_details.pb.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

constexpr int64_t kRetryDelayMs = 1000;
// The metadata of an error that knows better.
constexpr char kRetryAfter[] = "retry_after_ms";
// gRPC clients refuse trailers over 8 KiB, and the message travels twice in them.
constexpr size_t kMessageLimit = 1500;

// The request field that an engine's reason is about, where the engine cannot know it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kFieldOfReason = {{
    {"BAD_PAGE_TOKEN", "page_token"},
    {"CHECKSUM_MISMATCH", "header.sha256"},
    {"DOCUMENT_BINARY", "data"},
    {"DOCUMENT_EMPTY", "data"},
    {"DOCUMENT_NOT_UTF8", "data"},
    {"DOCUMENT_TOO_LARGE", "data"},
    {"QUESTION_EMPTY", "question"},
    {"QUESTION_TOO_LONG", "question"},
}};

std::string FieldOf(const std::string& reason, const engine::ErrorMetadata& metadata) {
  if (const auto field = metadata.find("field"); field != metadata.end()) return field->second;
  for (const auto& [known, field] : kFieldOfReason) {
    if (known == reason) return std::string(field);
  }
  return "";
}

// At most kMessageLimit bytes, cut between characters.
std::string Clip(absl::string_view message) {
  if (message.size() <= kMessageLimit) return std::string(message);
  size_t size = kMessageLimit;
  while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xC0) == 0x80) --size;
  return std::string(message.substr(0, size)) + "...";
}

void AddRetry(const engine::ErrorMetadata& metadata, google::rpc::Status& out) {
  int64_t delay_ms = kRetryDelayMs;
  if (const auto known = metadata.find(kRetryAfter); known != metadata.end()) {
    if (!absl::SimpleAtoi(known->second, &delay_ms)) delay_ms = kRetryDelayMs;
  }
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(delay_ms / 1000);
  retry.mutable_retry_delay()->set_nanos(static_cast<int>(delay_ms % 1000) * 1'000'000);
  out.add_details()->PackFrom(retry);
}

void AddDetailsOfCode(absl::StatusCode code, const std::string& reason,
                      const engine::ErrorMetadata& metadata, google::rpc::Status& out) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument: {
      const std::string field = FieldOf(reason, metadata);
      if (field.empty()) return;
      google::rpc::BadRequest bad_request;
      auto* violation = bad_request.add_field_violations();
      violation->set_field(field);
      violation->set_description(out.message());
      out.add_details()->PackFrom(bad_request);
      return;
    }
    case absl::StatusCode::kFailedPrecondition: {
      google::rpc::PreconditionFailure failure;
      auto* violation = failure.add_violations();
      violation->set_type(reason);
      violation->set_description(out.message());
      out.add_details()->PackFrom(failure);
      return;
    }
    case absl::StatusCode::kResourceExhausted: {
      google::rpc::QuotaFailure failure;
      auto* violation = failure.add_violations();
      violation->set_subject(reason);
      violation->set_description(out.message());
      out.add_details()->PackFrom(failure);
      if (reason == reason::kQueueFull || metadata.contains(kRetryAfter)) AddRetry(metadata, out);
      return;
    }
    case absl::StatusCode::kUnavailable:
      AddRetry(metadata, out);
      return;
    default:
      return;
  }
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status, std::string_view request_id) {
  google::rpc::Status out;
  out.set_code(static_cast<int>(status.code()));
  if (status.ok()) return out;
  out.set_message(Clip(status.message()));

  std::string reason = engine::ReasonOf(status);
  if (reason.empty()) reason = CodeName(status.code());
  const engine::ErrorMetadata metadata = engine::MetadataOf(status);
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain(std::string(kErrorDomain));
  for (const auto& [key, value] : metadata) (*info.mutable_metadata())[key] = value;
  if (!request_id.empty()) (*info.mutable_metadata())["request_id"] = std::string(request_id);
  out.add_details()->PackFrom(info);
  AddDetailsOfCode(status.code(), reason, metadata, out);
  return out;
}

grpc::Status ToGrpcStatus(const absl::Status& status, std::string_view request_id) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status rpc = ToRpcStatus(status, request_id);
  return grpc::Status(static_cast<grpc::StatusCode>(rpc.code()), rpc.message(),
                      rpc.SerializeAsString());
}

RemoteError ToRemoteError(const google::rpc::Status& status) {
  RemoteError error;
  error.code = static_cast<absl::StatusCode>(status.code());
  error.message = status.message();
  for (const google::protobuf::Any& detail : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      error.reason = info.reason();
      error.metadata = {info.metadata().begin(), info.metadata().end()};
      if (const auto id = error.metadata.extract("request_id")) error.request_id = id.mapped();
    } else if (detail.UnpackTo(&retry)) {
      error.retry_seconds = static_cast<double>(retry.retry_delay().seconds()) +
                            static_cast<double>(retry.retry_delay().nanos()) * 1e-9;
    }
  }
  return error;
}

RemoteError ToRemoteError(const grpc::Status& status) {
  google::rpc::Status rpc;
  if (status.error_details().empty() || !rpc.ParseFromString(status.error_details())) {
    rpc.Clear();
    rpc.set_message(status.error_message());
  }
  rpc.set_code(static_cast<int>(status.error_code()));
  return ToRemoteError(rpc);
}

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

}  // namespace lectern::services
