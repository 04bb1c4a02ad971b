// Structured logs on stderr: one line per event, as key=value text or as JSON. Never the text of a
// document, a question or an answer.
//
//   2026-11-23T02:50:00.123Z info request method=lectern.v1.Answers/Ask code=OK duration_ms=41.2
//   {"time":"2026-11-23T02:50:00.123Z","level":"info","event":"request","method":...}
//
// Any thread may log. InitLogs is called once, before the first thread that logs.
#pragma once

#include <absl/strings/string_view.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace lectern::services {

enum class LogFormat { kText, kJson };
enum class LogLevel { kDebug, kInfo, kWarning, kError };

// As flag values: "text" or "json"; "debug", "info", "warning" or "error".
bool AbslParseFlag(absl::string_view text, LogFormat* format, std::string* error);
std::string AbslUnparseFlag(LogFormat format);
bool AbslParseFlag(absl::string_view text, LogLevel* level, std::string* error);
std::string AbslUnparseFlag(LogLevel level);

// Also sends gRPC's own messages here, at debug level: what they have to say we say better.
void InitLogs(LogFormat format, LogLevel level);

struct LogField {
  LogField(std::string_view key, std::string_view value) : key(key), value(std::string(value)) {}
  LogField(std::string_view key, const char* value) : key(key), value(std::string(value)) {}
  LogField(std::string_view key, const std::string& value) : key(key), value(value) {}
  LogField(std::string_view key, int value) : key(key), value(int64_t{value}) {}
  LogField(std::string_view key, int64_t value) : key(key), value(value) {}
  LogField(std::string_view key, double value) : key(key), value(value) {}
  LogField(std::string_view key, bool value) : key(key), value(value) {}

  std::string_view key;
  std::variant<std::string, int64_t, double, bool> value;
};

void Log(LogLevel level, std::string_view event, const std::vector<LogField>& fields = {});

// " key=value key=value", values quoted where they must be.
std::string FormatFields(const std::vector<LogField>& fields);

// A line as Log writes it in `format`.
std::string FormatLog(LogFormat format, std::string_view time, LogLevel level,
                      std::string_view event, const std::vector<LogField>& fields);

}  // namespace lectern::services
