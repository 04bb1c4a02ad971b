#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"

namespace lectern::services {
namespace {

grpc::Status Delete(Client& client, const std::string& name, Call& call) {
  google::protobuf::Empty empty;
  if (name.find("/documents/") != std::string::npos) {
    v1::DeleteDocumentRequest request;
    request.set_name(name);
    return client.documents().DeleteDocument(&call.context(), request, &empty);
  }
  if (name.find("/sessions/") != std::string::npos) {
    v1::DeleteSessionRequest request;
    request.set_name(name);
    return client.sessions().DeleteSession(&call.context(), request, &empty);
  }
  v1::DeleteCorpusRequest request;
  request.set_name(CorpusArgument(name));
  return client.corpora().DeleteCorpus(&call.context(), request, &empty);
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return UsageMistake(kDeleteCommand, "name what to delete");
  Client client(kDeleteCommand.name);
  for (const std::string& name : arguments) {
    Call call;
    const grpc::Status status = Delete(client, name, call);
    if (!status.ok()) return client.Explain(status, call);
    fmt::print("deleted {}\n", name);
  }
  return kExitOk;
}

}  // namespace

const Command kDeleteCommand = {
    .name = "delete",
    .arguments = "CORPUS... | tenants/.../documents/ID... | tenants/.../sessions/ID...",
    .summary = "Deletes corpora with all they hold, or documents or sessions by name.",
    .details = "",
    .flags = {"address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
