#include "services/process/server_flags.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

ABSL_FLAG(int64_t, drain_seconds, 30,
          "after SIGTERM: how long running calls may go on before they are cancelled");
ABSL_FLAG(lectern::services::LogFormat, log_format, lectern::services::LogFormat::kText,
          "format of the log lines on stderr: text (key=value) or json");
ABSL_FLAG(lectern::services::LogLevel, log_level, lectern::services::LogLevel::kInfo,
          "least level that is logged: debug, info, warning or error");

namespace lectern::services {

absl::Status CheckAtLeast(const char* flag, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return engine::InvalidArgument(
      reason::kFlagInvalid, fmt::format("--{} is {}; it must be at least {}", flag, value, least),
      {{"flag", flag}});
}

absl::Status ApplyServerFlags() {
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("drain_seconds", absl::GetFlag(FLAGS_drain_seconds), 0));
  InitLogs(absl::GetFlag(FLAGS_log_format), absl::GetFlag(FLAGS_log_level));
  return absl::OkStatus();
}

std::chrono::milliseconds DrainTime() {
  return std::chrono::seconds(absl::GetFlag(FLAGS_drain_seconds));
}

}  // namespace lectern::services
