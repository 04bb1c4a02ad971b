#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kStatsCommand, "takes no arguments");
  Client client(kStatsCommand.name);
  v1::Stats stats;
  Call call;
  const grpc::Status status = client.models().GetStats(&call.context(), {}, &stats);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(stats);
  return kExitOk;
}

}  // namespace

const Command kStatsCommand = {
    .name = "stats",
    .arguments = "[--json]",
    .summary = "Shows the server's counters since it started, and its levels now.",
    .details = "",
    .flags = {"json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
