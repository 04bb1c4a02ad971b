#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "engine/data_dir.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/process/lifecycle.h"
#include "services/process/paths.h"

ABSL_DECLARE_FLAG(std::string, data_dir);
ABSL_FLAG(std::string, from, "", "directory of the backup");

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kRestoreCommand, "takes no arguments");
  if (absl::GetFlag(FLAGS_from).empty()) return UsageMistake(kRestoreCommand, "needs --from");
  std::string data_dir = absl::GetFlag(FLAGS_data_dir);
  if (data_dir.empty()) data_dir = DefaultDataDir();
  const absl::Status status = engine::RestoreDataDir(absl::GetFlag(FLAGS_from), data_dir);
  if (!status.ok()) return ReportFailedStart("lectern restore", status);
  // What was copied is read once: a backup may have been damaged where it lay.
  const absl::StatusOr<engine::VerifyReport> report = engine::VerifyDataDir(data_dir, 0);
  if (!report.ok()) return ReportFailedStart("lectern restore", report.status());
  fmt::print("{} is restored from {}: {} records verified, {} damaged\n", data_dir,
             absl::GetFlag(FLAGS_from), report->records, report->damages.size());
  return report->damages.empty() ? kExitOk : kExitRefused;
}

}  // namespace

const Command kRestoreCommand = {
    .name = "restore",
    .arguments = "--from=DIR [--data_dir=DIR]",
    .summary = "Makes a data directory of a backup, and verifies it.",
    .details =
        "The data directory must not exist, or be empty. Every byte is copied; exit code 1 also "
        "when\n"
        "a record of the result fails verification (`lectern verify` says which).",
    .flags = {"from", "data_dir"},
    .run = Run,
};

}  // namespace lectern::services
