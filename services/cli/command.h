// A subcommand of `lectern`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lectern::services {

// Exit codes, as --help states them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;      // the server answered with an error, or failed to start
inline constexpr int kExitUsage = 2;        // the command line makes no sense
inline constexpr int kExitUnreachable = 3;  // no server, or it is starting or draining
inline constexpr int kExitLocal = 4;        // a file on this side cannot be read or written

struct Command {
  std::string_view name;
  std::string_view arguments;  // as in the usage line
  std::string_view summary;    // one line
  std::string_view details;    // more lines, or empty
  // "address" stands for all flags of a connection (connection.h).
  std::vector<std::string_view> flags;
  // `arguments`: without flags and without the command's name. Returns the exit code.
  int (*run)(const std::vector<std::string>& arguments);
};

// One per file of this folder.
extern const Command kServeCommand;
extern const Command kUploadCommand;
extern const Command kIngestCommand;
extern const Command kRebuildCommand;
extern const Command kAskCommand;
extern const Command kRetrieveCommand;
extern const Command kCorporaCommand;
extern const Command kDocumentsCommand;
extern const Command kGenerationsCommand;
extern const Command kSessionsCommand;
extern const Command kOperationsCommand;
extern const Command kCountCommand;
extern const Command kModelCommand;
extern const Command kStatsCommand;
extern const Command kVerifyCommand;
extern const Command kBackupCommand;
extern const Command kBackupsCommand;
extern const Command kRestoreCommand;
extern const Command kDeleteCommand;
extern const Command kClusterCommand;
extern const Command kTenantsCommand;
extern const Command kKeysCommand;

}  // namespace lectern::services
