// Ids as users write them, and the uids that storage gives.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lectern::engine {

inline constexpr size_t kMaxIdBytes = 63;
inline constexpr size_t kMaxDisplayNameBytes = 256;

// Generations and operations are named by their uid in storage behind a letter: g12, op7.
std::string UidName(std::string_view prefix, uint64_t uid);
// The uid, or 0 if `name` is not such a name.
uint64_t ParseUidName(std::string_view prefix, std::string_view name);

// INVALID_ARGUMENT ID_INVALID unless `id` is 1 to 63 characters of [a-z0-9._-] that start with a
// letter or digit.
absl::Status CheckId(std::string_view what, std::string_view id);
// INVALID_ARGUMENT DISPLAY_NAME_INVALID unless at most 256 bytes of UTF-8 without control
// characters.
absl::Status CheckDisplayName(std::string_view name);
// An id that nobody has: 16 random characters.
std::string NewId();

// Gives a status of storage the reason that a client switches on. A status that has one already
// stays as it is; `not_found` and `exists` name the resource that the call was about.
absl::Status WithReason(const absl::Status& status, std::string_view not_found = "NOT_FOUND",
                        std::string_view exists = "ALREADY_EXISTS");

}  // namespace lectern::engine
