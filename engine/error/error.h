// A typed error: an absl::Status that carries a stable reason and, where useful, the numbers of its
// message as metadata. Services turn it into google.rpc.ErrorInfo; nothing else has to parse a
// message.
//
// Messages are written for the person who meets them: what was found, what was expected, what to
// do. They never contain a document's text beyond a few bytes.
#pragma once

#include <absl/status/status.h>

#include <map>
#include <string>
#include <string_view>

namespace lectern::engine {

// Keys are lower_snake_case, values are what the message says ("tokens" -> "1048577"). Values
// should be UTF-8; other bytes are replaced by U+FFFD.
using ErrorMetadata = std::map<std::string, std::string>;

// Where the reason lives in the status: absl::Status::GetPayload(kReasonTypeUrl).
inline constexpr std::string_view kReasonTypeUrl = "lectern.dev/reason";

// A status with `code` (not kOk), `message`, and a payload holding `reason` (one of
// engine/error/reason.h or of the caller's room) and `metadata`.
absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view message,
                   const ErrorMetadata& metadata = {});

// The same for the commonest code: the caller gave something that no retry can make right.
absl::Status InvalidArgument(std::string_view reason, std::string_view message,
                             const ErrorMetadata& metadata = {});

// `status` with `context` and ": " before its message; code, reason and metadata stay. An OK status
// stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// The reason, or "" if the status is OK or carries none.
std::string ReasonOf(const absl::Status& status);

// The metadata; empty if there is none.
ErrorMetadata MetadataOf(const absl::Status& status);

}  // namespace lectern::engine
