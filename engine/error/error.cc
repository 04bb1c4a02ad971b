#include "engine/error/error.h"

#include <absl/strings/cord.h>
#include <absl/strings/string_view.h>
#include <absl/types/optional.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "engine/error/check.h"

namespace lectern::engine {
namespace {

absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

// The payload is a JSON object {"reason": ..., "metadata": {...}}: readable in a log, and never
// parsed outside this file.
std::optional<nlohmann::json> PayloadOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(ToAbsl(kReasonTypeUrl));
  if (!payload.has_value()) return std::nullopt;
  nlohmann::json parsed =
      nlohmann::json::parse(std::string(*payload), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return std::nullopt;
  return parsed;
}

}  // namespace

absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view message,
                   const ErrorMetadata& metadata) {
  LECTERN_CHECK(code != absl::StatusCode::kOk);
  absl::Status status(code, ToAbsl(message));
  nlohmann::json payload = {{"reason", std::string(reason)}};
  if (!metadata.empty()) payload["metadata"] = metadata;
  status.SetPayload(
      ToAbsl(kReasonTypeUrl),
      absl::Cord(payload.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  return status;
}

absl::Status InvalidArgument(std::string_view reason, std::string_view message,
                             const ErrorMetadata& metadata) {
  return Error(absl::StatusCode::kInvalidArgument, reason, message, metadata);
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  const absl::string_view message = status.message();
  absl::Status annotated(
      status.code(),
      fmt::format("{}: {}", context, std::string_view(message.data(), message.size())));
  status.ForEachPayload([&](absl::string_view type_url, const absl::Cord& payload) {
    annotated.SetPayload(type_url, payload);
  });
  return annotated;
}

std::string ReasonOf(const absl::Status& status) {
  const std::optional<nlohmann::json> payload = PayloadOf(status);
  if (!payload || !payload->contains("reason") || !(*payload)["reason"].is_string()) return "";
  return (*payload)["reason"].get<std::string>();
}

ErrorMetadata MetadataOf(const absl::Status& status) {
  ErrorMetadata metadata;
  const std::optional<nlohmann::json> payload = PayloadOf(status);
  if (!payload || !payload->contains("metadata") || !(*payload)["metadata"].is_object())
    return metadata;
  for (const auto& [key, value] : (*payload)["metadata"].items()) {
    if (value.is_string()) metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace lectern::engine
