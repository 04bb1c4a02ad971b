#include <absl/flags/declare.h>
#include <absl/flags/flag.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/ingest_progress.h"
#include "services/cli/output.h"

ABSL_DECLARE_FLAG(bool, wait);

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1) return UsageMistake(kRebuildCommand, "name one corpus or generation");
  Client client(kRebuildCommand.name);
  const std::string name = arguments[0].find('/') == std::string::npos
                               ? CorpusArgument(arguments[0])
                               : ResourceArgument(arguments[0], Collection::kGenerations);
  v1::RebuildCorpusRequest request;
  request.set_name(name);
  v1::Operation operation;
  Call call;
  const grpc::Status status = client.corpora().RebuildCorpus(&call.context(), request, &operation);
  if (!status.ok()) return client.Explain(status, call);
  if (absl::GetFlag(FLAGS_wait)) return FollowOperation(client, operation.name(), "rebuilt");
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(ToJson(operation));
  } else {
    fmt::print("{}\n", operation.name());
  }
  return kExitOk;
}

}  // namespace

const Command kRebuildCommand = {
    .name = "rebuild",
    .arguments = "CORPUS | CORPUS/GENERATION [--no-wait]",
    .summary = "Brings back a cache that was evicted, from the stored documents.",
    .details =
        "The generation keeps its name, and its sessions go on. After the server was started with "
        "another model,\nit makes a new generation of the same documents for that model.",
    .flags = {"wait", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
