// lectern: the command line. One file per subcommand.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "services/cli/command.h"
#include "services/cli/connection.h"
#include "services/cli/flag_parser.h"
#include "services/process/signals.h"
#include "services/process/version.h"

namespace lectern::services {
namespace {

const std::vector<const Command*>& Commands() {
  static const auto* const commands = new std::vector<const Command*>{
      &kServeCommand,    &kUploadCommand,     &kIngestCommand,    &kAskCommand,
      &kRetrieveCommand, &kCorporaCommand,    &kDocumentsCommand, &kGenerationsCommand,
      &kSessionsCommand, &kOperationsCommand, &kCountCommand,     &kModelCommand,
      &kStatsCommand,    &kVerifyCommand,     &kBackupCommand,    &kBackupsCommand,
      &kRestoreCommand,  &kDeleteCommand,     &kTenantsCommand,   &kKeysCommand,
      &kRebuildCommand,  &kClusterCommand};
  return *commands;
}

constexpr std::string_view kExitCodes =
    "Exit codes:\n"
    "  0  done\n"
    "  1  the server answered with an error (or, for serve, could not start)\n"
    "  2  the command line makes no sense\n"
    "  3  no server answered: not running, starting or shutting down\n"
    "  4  a file on this machine could not be read\n";

std::string Usage() {
  std::string text =
      "lectern answers questions about long documents from a cache that outlives it.\n\n"
      "usage: lectern COMMAND [arguments] [--flags]\n\nCommands:\n";
  for (const Command* command : Commands()) {
    text += fmt::format("  {:<12} {}\n", command->name, command->summary);
  }
  text += fmt::format(
      "\n`lectern COMMAND --help` says more. The server is found with --address or "
      "$LECTERN_ADDRESS.\n\n{}",
      kExitCodes);
  return text;
}

// Whether it talks to a server.
bool Connects(const Command& command) {
  return std::find(command.flags.begin(), command.flags.end(), "address") != command.flags.end();
}

std::vector<std::string_view> FlagsOf(const Command& command) {
  std::vector<std::string_view> flags = command.flags;
  if (Connects(command)) {
    std::erase(flags, "address");
    flags.insert(flags.end(), ConnectionFlags().begin(), ConnectionFlags().end());
  }
  return flags;
}

std::string Help(const Command& command) {
  std::string text =
      fmt::format("usage: lectern {} {}\n\n{}\n", command.name, command.arguments, command.summary);
  if (!command.details.empty()) text += fmt::format("\n{}\n", command.details);
  return text + fmt::format("\nFlags:\n{}\n{}", DescribeFlags(FlagsOf(command)), kExitCodes);
}

int Run(const Command& command, const std::vector<std::string>& arguments) {
  const absl::StatusOr<ParsedArguments> parsed = ParseArguments(arguments, FlagsOf(command));
  if (!parsed.ok()) {
    fmt::print(stderr, "lectern {}: {}\n`lectern {} --help` lists the flags\n", command.name,
               std::string(parsed.status().message()), command.name);
    return kExitUsage;
  }
  if (parsed->help) {
    fmt::print("{}", Help(command));
    return kExitOk;
  }
  if (Connects(command)) {
    if (const absl::Status status = OpenConnection(); !status.ok()) {
      fmt::print(stderr, "lectern {}: {}\n", command.name, std::string(status.message()));
      return kExitUsage;
    }
  }
  return command.run(parsed->positional);
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    fmt::print(stderr, "{}", Usage());
    return kExitUsage;
  }
  const std::string& name = arguments.front();
  if (name == "help" || name == "--help" || name == "-h") {
    fmt::print("{}", Usage());
    return kExitOk;
  }
  if (name == "version" || name == "--version") {
    fmt::print("lectern {}\n", Version());
    return kExitOk;
  }
  for (const Command* command : Commands()) {
    if (command->name == name) return Run(*command, {arguments.begin() + 1, arguments.end()});
  }
  fmt::print(stderr, "lectern: there is no command \"{}\"; `lectern --help` lists them\n", name);
  return kExitUsage;
}

}  // namespace
}  // namespace lectern::services

int main(int argc, char** argv) { return lectern::services::Main({argv + 1, argv + argc}); }
