#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/data_dir.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/process/byte_size.h"
#include "services/process/lifecycle.h"
#include "services/process/paths.h"

using lectern::services::ByteSize;

ABSL_DECLARE_FLAG(std::string, data_dir);
ABSL_DECLARE_FLAG(bool, json);
ABSL_FLAG(ByteSize, rate, (ByteSize{0}), "bytes a second to read at most; 0: no limit");

namespace lectern::services {
namespace {

void PrintJson(const engine::VerifyReport& report) {
  nlohmann::json damages = nlohmann::json::array();
  for (const engine::FoundDamage& damage : report.damages) {
    damages.push_back({{"kind", damage.kind},
                       {"what", damage.what},
                       {"corpora", damage.corpora},
                       {"rebuildable", damage.rebuildable}});
  }
  fmt::print("{}\n", nlohmann::json{{"records", report.records},
                                    {"bytes", report.bytes},
                                    {"seconds", report.seconds},
                                    {"corpora", report.corpora},
                                    {"damages", damages}}
                         .dump(2));
}

void PrintText(const engine::VerifyReport& report) {
  for (const engine::FoundDamage& damage : report.damages) {
    fmt::print("damaged {}: {}\n", damage.kind, damage.what);
    for (const std::string& corpus : damage.corpora) fmt::print("  affects {}\n", corpus);
    fmt::print("  {}\n", damage.rebuildable
                             ? "computed again from the documents when a server runs on it"
                             : "cannot be computed again: restore a backup, or upload again");
  }
  fmt::print("{} records of {} corpora, {} bytes, verified in {:.1f} s: {}\n", report.records,
             report.corpora, report.bytes, report.seconds,
             report.damages.empty() ? "all as they were written"
                                    : fmt::format("{} damaged", report.damages.size()));
}

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kVerifyCommand, "takes no arguments");
  std::string data_dir = absl::GetFlag(FLAGS_data_dir);
  if (data_dir.empty()) data_dir = DefaultDataDir();
  const absl::StatusOr<engine::VerifyReport> report =
      engine::VerifyDataDir(data_dir, absl::GetFlag(FLAGS_rate).bytes);
  if (!report.ok()) return ReportFailedStart("lectern verify", report.status());
  absl::GetFlag(FLAGS_json) ? PrintJson(*report) : PrintText(*report);
  return report->damages.empty() ? kExitOk : kExitRefused;
}

}  // namespace

const Command kVerifyCommand = {
    .name = "verify",
    .arguments = "[--data_dir=DIR] [--rate=BYTES] [--json]",
    .summary = "Verifies every record of a data directory that no server has open.",
    .details =
        "Exit code 0: all is as it was written. 1: something is damaged (the report says what, "
        "whom\n"
        "it affects and whether it can be computed again), or the directory could not be opened.\n"
        "A running server does the same all the time: --scrub_rate, `lectern stats`.",
    .flags = {"data_dir", "rate", "json"},
    .run = Run,
};

}  // namespace lectern::services
