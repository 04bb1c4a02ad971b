#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "engine/data_dir.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/process/lifecycle.h"
#include "services/process/paths.h"

ABSL_DECLARE_FLAG(std::string, data_dir);
ABSL_FLAG(std::string, to, "", "directory of the backup: must not exist, or be empty");

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kBackupCommand, "takes no arguments");
  if (absl::GetFlag(FLAGS_to).empty()) return UsageMistake(kBackupCommand, "needs --to");
  std::string data_dir = absl::GetFlag(FLAGS_data_dir);
  if (data_dir.empty()) data_dir = DefaultDataDir();
  const absl::Status status = engine::BackupDataDir(data_dir, absl::GetFlag(FLAGS_to));
  if (!status.ok()) return ReportFailedStart("lectern backup", status);
  fmt::print("{} is backed up in {}\n", data_dir, absl::GetFlag(FLAGS_to));
  return kExitOk;
}

}  // namespace

const Command kBackupCommand = {
    .name = "backup",
    .arguments = "[--data_dir=DIR] --to=DIR",
    .summary = "Copies a data directory that no server has open.",
    .details =
        "Table files are linked where both directories are on one file system: that takes no time\n"
        "and no space, and guards against deletion; for a broken disk copy it to another one.\n"
        "`lectern backups create` makes one of a server that runs.\n"
        "A backup is a data directory: `lectern verify --data_dir=BACKUP` checks it.",
    .flags = {"data_dir", "to"},
    .run = Run,
};

}  // namespace lectern::services
