// The command line of a subcommand: Abseil flags and arguments in any order. Unlike
// absl::ParseCommandLine it knows which flags a subcommand has, takes dashes for underscores
// (--new-session, --no-ingest), and reports a mistake instead of ending the process with code 1.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace lectern::services {

struct ParsedArguments {
  std::vector<std::string> positional;
  bool help = false;
};

// Sets the flags it finds. INVALID_ARGUMENT says what is wrong with the command line.
absl::StatusOr<ParsedArguments> ParseArguments(const std::vector<std::string>& arguments,
                                               const std::vector<std::string_view>& allowed_flags);

// "  --json (show JSON); default: false" lines for --help.
std::string DescribeFlags(const std::vector<std::string_view>& flags);

}  // namespace lectern::services
