#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/ingest_progress.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

namespace lectern::services {
namespace {

std::string State(const v1::Operation& operation) {
  if (operation.has_error()) return fmt::format("failed: {}", operation.error().message());
  return operation.done() ? "done" : v1::IngestMetadata::Phase_Name(operation.metadata().phase());
}

int List(Client& client, const std::string& corpus) {
  v1::ListOperationsRequest request;
  request.set_parent(corpus);
  std::vector<v1::Operation> operations;
  const int code = ListAll<v1::ListOperationsResponse>(
      client, request, [&](auto... args) { return client.operations().ListOperations(args...); },
      [](auto& response) { return response.mutable_operations(); }, operations);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(operations);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Operation& operation : operations) {
    const v1::IngestMetadata& metadata = operation.metadata();
    rows.push_back({IdOf(operation.name()), Time(operation.create_time()),
                    fmt::format("{} of {}", Thousands(metadata.tokens_done()),
                                Thousands(metadata.tokens_total())),
                    Printable(State(operation))});
  }
  PrintTable({"OPERATION", "STARTED", "TOKENS", "STATE"}, rows);
  return kExitOk;
}

int Get(Client& client, const std::string& name) {
  v1::GetOperationRequest request;
  request.set_name(name);
  v1::Operation operation;
  Call call;
  const grpc::Status status =
      client.operations().GetOperation(&call.context(), request, &operation);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(operation);
  return kExitOk;
}

int Cancel(Client& client, const std::string& name) {
  v1::CancelOperationRequest request;
  request.set_name(name);
  v1::Operation operation;
  Call call;
  const grpc::Status status =
      client.operations().CancelOperation(&call.context(), request, &operation);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(operation);
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) {
    return UsageMistake(kOperationsCommand, "say what to do, and with which corpus or operation");
  }
  const std::string& verb = arguments[0];
  Client client(kOperationsCommand.name);
  if (verb == "list") return List(client, CorpusArgument(arguments[1]));
  const std::string name = ResourceArgument(arguments[1], Collection::kOperations);
  if (verb == "get") return Get(client, name);
  if (verb == "wait") return FollowOperation(client, name);
  if (verb == "cancel") return Cancel(client, name);
  return UsageMistake(kOperationsCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kOperationsCommand = {
    .name = "operations",
    .arguments = "list CORPUS | get|wait|cancel CORPUS/OPERATION",
    .summary = "Lists, shows, follows and cancels ingests.",
    .details = "",
    .flags = {"json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
