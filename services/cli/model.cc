#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kModelCommand, "takes no arguments");
  Client client(kModelCommand.name);
  v1::Model model;
  Call call;
  const grpc::Status status = client.models().GetModel(&call.context(), {}, &model);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(model);
  return kExitOk;
}

}  // namespace

const Command kModelCommand = {
    .name = "model",
    .arguments = "[--json]",
    .summary = "Shows what the server runs, and its limits.",
    .details = "",
    .flags = {"json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
