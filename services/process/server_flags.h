// The flags that every server process has, and their checks.
#pragma once

#include <absl/flags/declare.h>
#include <absl/status/status.h>

#include <chrono>
#include <cstdint>

ABSL_DECLARE_FLAG(int64_t, drain_seconds);

namespace lectern::services {

// INVALID_ARGUMENT FLAG_INVALID.
absl::Status CheckAtLeast(const char* flag, int64_t value, int64_t least);

// Sets up logging from --log_format and --log_level, and checks the rest.
absl::Status ApplyServerFlags();

std::chrono::milliseconds DrainTime();

}  // namespace lectern::services
