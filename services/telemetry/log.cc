#include "services/telemetry/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <grpc/support/log.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

namespace lectern::services {
namespace {

LogFormat log_format = LogFormat::kText;

struct LevelName {
  LogLevel level;
  std::string_view name;
};
constexpr LevelName kLevelNames[] = {{LogLevel::kDebug, "debug"},
                                     {LogLevel::kInfo, "info"},
                                     {LogLevel::kWarning, "warning"},
                                     {LogLevel::kError, "error"}};

std::string_view NameOf(LogLevel level) {
  for (const LevelName& known : kLevelNames) {
    if (known.level == level) return known.name;
  }
  return "";
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string Now() {
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", fmt::gmtime(ms / 1000), ms % 1000);
}

std::string ToJsonText(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Quoted only where it must be, so that a line can be read and still be split by program.
std::string TextValue(const LogField& field) {
  if (const auto* text = std::get_if<std::string>(&field.value)) {
    const bool plain = !text->empty() && std::all_of(text->begin(), text->end(), [](char c) {
      return c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\';
    });
    return plain ? *text : ToJsonText(*text);
  }
  if (const auto* number = std::get_if<int64_t>(&field.value)) return fmt::format("{}", *number);
  if (const auto* number = std::get_if<double>(&field.value)) return fmt::format("{:.6g}", *number);
  return std::get<bool>(field.value) ? "true" : "false";
}

void LogGrpc(gpr_log_func_args* args) {
  Log(LogLevel::kDebug, "grpc", {{"message", args->message}, {"line", int64_t{args->line}}});
}

}  // namespace

bool AbslParseFlag(absl::string_view text, LogFormat* format, std::string* error) {
  if (text == "text") {
    *format = LogFormat::kText;
  } else if (text == "json") {
    *format = LogFormat::kJson;
  } else {
    *error = "must be text or json";
    return false;
  }
  return true;
}

std::string AbslUnparseFlag(LogFormat format) {
  return format == LogFormat::kText ? "text" : "json";
}

bool AbslParseFlag(absl::string_view text, LogLevel* level, std::string* error) {
  for (const LevelName& known : kLevelNames) {
    if (text == absl::string_view(known.name.data(), known.name.size())) {
      *level = known.level;
      return true;
    }
  }
  *error = "must be debug, info, warning or error";
  return false;
}

std::string AbslUnparseFlag(LogLevel level) { return std::string(NameOf(level)); }

void InitLogs(LogFormat format, LogLevel level) {
  log_format = format;
  auto logger = std::make_shared<spdlog::logger>("lectern",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%v");
  logger->set_level(ToSpdlog(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(LogGrpc);
}

std::string FormatFields(const std::vector<LogField>& fields) {
  std::string text;
  for (const LogField& field : fields) {
    text += fmt::format(" {}={}", field.key, TextValue(field));
  }
  return text;
}

std::string FormatLog(LogFormat format, std::string_view time, LogLevel level,
                      std::string_view event, const std::vector<LogField>& fields) {
  if (format == LogFormat::kJson) {
    nlohmann::ordered_json line = {{"time", time}, {"level", NameOf(level)}, {"event", event}};
    for (const LogField& field : fields) {
      std::visit([&](const auto& value) { line[std::string(field.key)] = value; }, field.value);
    }
    return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  return fmt::format("{} {} {}{}", time, NameOf(level), event, FormatFields(fields));
}

void Log(LogLevel level, std::string_view event, const std::vector<LogField>& fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(ToSpdlog(level))) return;
  logger->log(ToSpdlog(level), "{}", FormatLog(log_format, Now(), level, event, fields));
}

}  // namespace lectern::services
