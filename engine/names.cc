#include "engine/names.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <array>
#include <charconv>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/text/utf8.h"

namespace lectern::engine {
namespace {

bool IsIdCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

}  // namespace

std::string UidName(std::string_view prefix, uint64_t uid) {
  return fmt::format("{}{}", prefix, uid);
}

uint64_t ParseUidName(std::string_view prefix, std::string_view name) {
  if (!name.starts_with(prefix)) return 0;
  name.remove_prefix(prefix.size());
  uint64_t uid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), uid);
  return error == std::errc() && end == name.data() + name.size() ? uid : 0;
}

absl::Status CheckId(std::string_view what, std::string_view id) {
  bool ok = !id.empty() && id.size() <= kMaxIdBytes && id[0] != '.' && id[0] != '_' && id[0] != '-';
  for (const char c : id) ok = ok && IsIdCharacter(c);
  if (ok) return absl::OkStatus();
  return InvalidArgument(
      "ID_INVALID",
      fmt::format(
          "{} id \"{}\": 1 to {} characters of a-z, 0-9, '.', '_' and '-', the first a letter or "
          "digit, are allowed",
          what, id.substr(0, 2 * kMaxIdBytes), kMaxIdBytes),
      {{"field", std::string(what)}});
}

absl::Status CheckDisplayName(std::string_view name) {
  bool ok = name.size() <= kMaxDisplayNameBytes && FirstInvalidUtf8(name) == std::string_view::npos;
  for (const char c : name) ok = ok && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  if (ok) return absl::OkStatus();
  return InvalidArgument(
      "DISPLAY_NAME_INVALID",
      fmt::format("a display name may be at most {} bytes of UTF-8 without control characters",
                  kMaxDisplayNameBytes),
      {{"field", "display_name"}});
}

std::string NewId() {
  static constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz234567";
  std::array<unsigned char, 16> random;
  LECTERN_CHECK(RAND_bytes(random.data(), static_cast<int>(random.size())) == 1);
  std::string id;
  for (const unsigned char byte : random) id.push_back(kAlphabet[byte % kAlphabet.size()]);
  return id;
}

absl::Status WithReason(const absl::Status& status, std::string_view not_found,
                        std::string_view exists) {
  if (status.ok() || !ReasonOf(status).empty()) return status;
  const auto reason = [&]() -> std::string_view {
    switch (status.code()) {
      case absl::StatusCode::kNotFound:
        return not_found;
      case absl::StatusCode::kAlreadyExists:
        return exists;
      case absl::StatusCode::kResourceExhausted:
        return "DISK_FULL";
      case absl::StatusCode::kDataLoss:
        return "STORED_BYTES_CORRUPT";
      case absl::StatusCode::kUnavailable:
        return "STORAGE_UNAVAILABLE";
      case absl::StatusCode::kInvalidArgument:
        return "ARGUMENT_INVALID";
      case absl::StatusCode::kFailedPrecondition:
        return "STATE_FORBIDS";
      case absl::StatusCode::kPermissionDenied:
        return "STORAGE_PERMISSION_DENIED";
      case absl::StatusCode::kCancelled:
        return "CANCELLED";
      case absl::StatusCode::kDeadlineExceeded:
        return "STORAGE_TIMED_OUT";
      default:
        return "INTERNAL";
    }
  }();
  return Error(status.code(), reason,
               std::string_view(status.message().data(), status.message().size()));
}

}  // namespace lectern::engine
