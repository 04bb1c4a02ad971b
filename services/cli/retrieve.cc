#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/output.h"
#include "services/cli/target_flags.h"

ABSL_FLAG(int32_t, limit, 0, "spans to show; 0: the server's default");

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) return UsageMistake(kRetrieveCommand, "name a corpus and a query");
  Client client(kRetrieveCommand.name);
  v1::RetrieveRequest request;
  SetTarget(arguments[0], request);
  request.set_query(arguments[1]);
  request.set_limit(absl::GetFlag(FLAGS_limit));
  SetAdaptiveCoverage(request);
  SetPriority(request);
  v1::RetrieveResponse response;
  Call call;
  const grpc::Status status = client.answers().Retrieve(&call.context(), request, &response);
  if (!status.ok()) return client.Explain(status, call);
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(ToJson(response));
    return kExitOk;
  }
  PrintEvidence(response.spans());
  for (const v1::RetrieveResponse::Finding& finding : response.contexts()) {
    PrintContext(finding.context());
    if (response.contexts_size() > 1) fmt::print("  mass {:.3f}, ", finding.mass());
    PrintCoverage(finding.coverage());
  }
  PrintUsage(response.usage());
  return kExitOk;
}

}  // namespace

const Command kRetrieveCommand = {
    .name = "retrieve",
    .arguments = "CORPUS \"QUERY\" [--limit=N] [--json]",
    .summary = "Shows the spans an answer would rest on, without generating one.",
    .details =
        "Of a corpus of several contexts all are read; they are shown with the mass of their "
        "best span, best\nfirst, which is the order in which `lectern ask` answers from them.",
    .flags = {"limit", "session", "generation", "adaptive", "batch", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
