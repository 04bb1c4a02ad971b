#include "services/cli/flag_parser.h"

#include <absl/flags/commandlineflag.h>
#include <absl/flags/reflection.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

absl::Status UsageError(const std::string& message) {
  return engine::InvalidArgument(reason::kFlagInvalid, message);
}

class Parser {
 public:
  explicit Parser(const std::vector<std::string_view>& allowed) : allowed_(allowed) {}

  absl::Status Parse(const std::vector<std::string>& arguments) {
    for (size_t i = 0; i < arguments.size(); ++i) {
      const std::string& argument = arguments[i];
      if (argument == "--") {
        out_.positional.insert(out_.positional.end(), arguments.begin() + i + 1, arguments.end());
        return absl::OkStatus();
      }
      if (!argument.starts_with("-") || argument == "-") {
        out_.positional.push_back(argument);
      } else if (argument == "--help" || argument == "-h") {
        out_.help = true;
      } else {
        LECTERN_RETURN_IF_ERROR(
            TakeFlag(argument, i + 1 < arguments.size() ? &arguments[i + 1] : nullptr, i));
      }
    }
    return absl::OkStatus();
  }

  ParsedArguments Take() { return std::move(out_); }

 private:
  absl::CommandLineFlag* Find(std::string_view name) const {
    if (std::find(allowed_.begin(), allowed_.end(), name) == allowed_.end()) return nullptr;
    return absl::FindCommandLineFlag({name.data(), name.size()});
  }

  // Sets the flag in `argument`; advances `i` if its value is `next`.
  absl::Status TakeFlag(const std::string& argument, const std::string* next, size_t& i) {
    const size_t dashes = argument.starts_with("--") ? 2 : 1;
    const size_t equals = argument.find('=');
    std::string name = argument.substr(dashes, equals - dashes);
    std::replace(name.begin(), name.end(), '-', '_');
    std::optional<std::string> value;
    if (equals != std::string::npos) value = argument.substr(equals + 1);

    if (name == "flagfile" && MayUseFlagfile()) return TakeFlagfile(value, next, i);
    absl::CommandLineFlag* flag = Find(name);
    if (flag == nullptr && !value && name.starts_with("no")) {
      const size_t prefix = name.starts_with("no_") ? 3 : 2;
      flag = Find(std::string_view(name).substr(prefix));
      if (flag != nullptr && !flag->IsOfType<bool>()) flag = nullptr;
      if (flag != nullptr) value = "false";
    }
    if (flag == nullptr) return UsageError(fmt::format("unknown flag {}", argument));
    if (!value && flag->IsOfType<bool>()) value = "true";
    if (!value) {
      if (next == nullptr) return UsageError(fmt::format("{} needs a value", argument));
      value = *next;
      ++i;
    }
    std::string error;
    if (!flag->ParseFrom(*value, &error)) {
      return UsageError(fmt::format("--{}={}: {}", name, *value, error));
    }
    return absl::OkStatus();
  }

  bool MayUseFlagfile() const {
    return std::find(allowed_.begin(), allowed_.end(), "flagfile") != allowed_.end();
  }

  // One flag per line; empty lines and lines that start with # mean nothing.
  absl::Status TakeFlagfile(const std::optional<std::string>& value, const std::string* next,
                            size_t& i) {
    if (!value && next == nullptr) return UsageError("--flagfile needs a file");
    const std::string path = value ? *value : *next;
    if (!value) ++i;
    std::ifstream file(path);
    if (!file) return UsageError(fmt::format("--flagfile: {} cannot be read", path));
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
      const size_t begin = line.find_first_not_of(" \t\r");
      if (begin == std::string::npos || line[begin] == '#') continue;
      line = line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
      if (!line.starts_with("--")) {
        return UsageError(fmt::format("{}: \"{}\" is not a flag", path, line));
      }
      lines.push_back(line);
    }
    return engine::Annotate(Parse(lines), path);
  }

  const std::vector<std::string_view>& allowed_;
  ParsedArguments out_;
};

}  // namespace

absl::StatusOr<ParsedArguments> ParseArguments(const std::vector<std::string>& arguments,
                                               const std::vector<std::string_view>& allowed_flags) {
  Parser parser(allowed_flags);
  LECTERN_RETURN_IF_ERROR(parser.Parse(arguments));
  return parser.Take();
}

std::string DescribeFlags(const std::vector<std::string_view>& flags) {
  std::string text;
  for (const std::string_view name : flags) {
    if (name == "flagfile") {
      text += "  --flagfile\n      read more flags from a file, one per line\n";
      continue;
    }
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag({name.data(), name.size()});
    if (flag == nullptr) continue;
    text += fmt::format("  --{}\n      {}", name, flag->Help());
    const std::string value = flag->DefaultValue();
    if (!value.empty()) text += fmt::format("; default: {}", value);
    text += "\n";
  }
  return text;
}

}  // namespace lectern::services
