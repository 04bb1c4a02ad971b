// The stable reasons that services add to the engine's (engine/error/reason.h). A reason, once
// released, keeps its spelling and its meaning.
#pragma once

#include <string_view>

namespace lectern::services::reason {

// The request as it was sent. Metadata: `field`, and what was expected of it.
inline constexpr std::string_view kNameInvalid = "NAME_INVALID";
inline constexpr std::string_view kIdInvalid = "ID_INVALID";
inline constexpr std::string_view kFieldInvalid = "FIELD_INVALID";
inline constexpr std::string_view kFieldMissing = "FIELD_MISSING";
inline constexpr std::string_view kFieldMaskInvalid = "FIELD_MASK_INVALID";
inline constexpr std::string_view kTargetMissing = "TARGET_MISSING";
inline constexpr std::string_view kRequestIdInvalid = "REQUEST_ID_INVALID";
inline constexpr std::string_view kUploadHeaderMissing = "UPLOAD_HEADER_MISSING";
inline constexpr std::string_view kUploadHeaderRepeated = "UPLOAD_HEADER_REPEATED";
inline constexpr std::string_view kMessageTooLarge = "MESSAGE_TOO_LARGE";

// What the request names.
inline constexpr std::string_view kTenantNotFound = "TENANT_NOT_FOUND";
inline constexpr std::string_view kModelNotFound = "MODEL_NOT_FOUND";

// The state of the service.
inline constexpr std::string_view kQueueFull = "QUEUE_FULL";
inline constexpr std::string_view kServerDraining = "SERVER_DRAINING";
inline constexpr std::string_view kWorkerUnreachable = "WORKER_UNREACHABLE";

// The caller's doing.
inline constexpr std::string_view kCancelled = "CANCELLED";
inline constexpr std::string_view kDeadlineExceeded = "DEADLINE_EXCEEDED";

// Environment at start.
inline constexpr std::string_view kListenFailed = "LISTEN_FAILED";
inline constexpr std::string_view kFlagInvalid = "FLAG_INVALID";

}  // namespace lectern::services::reason
