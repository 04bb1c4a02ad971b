#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

namespace lectern::services {
namespace {

int List(Client& client, const std::string& corpus) {
  v1::ListDocumentsRequest request;
  request.set_parent(corpus);
  std::vector<v1::Document> documents;
  const int code = ListAll<v1::ListDocumentsResponse>(
      client, request, [&](auto... args) { return client.documents().ListDocuments(args...); },
      [](auto& response) { return response.mutable_documents(); }, documents);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(documents);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Document& document : documents) {
    rows.push_back({IdOf(document.name()), Bytes(document.size_bytes()), document.media_type(),
                    Time(document.create_time()), Printable(document.display_name())});
  }
  PrintTable({"DOCUMENT", "SIZE", "TYPE", "UPLOADED", "NAME"}, rows);
  return kExitOk;
}

int Get(Client& client, const std::string& name) {
  v1::GetDocumentRequest request;
  request.set_name(name);
  v1::Document document;
  Call call;
  const grpc::Status status = client.documents().GetDocument(&call.context(), request, &document);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(document);
  return kExitOk;
}

int Delete(Client& client, const std::string& name) {
  v1::DeleteDocumentRequest request;
  request.set_name(name);
  google::protobuf::Empty empty;
  Call call;
  const grpc::Status status = client.documents().DeleteDocument(&call.context(), request, &empty);
  return status.ok() ? kExitOk : client.Explain(status, call);
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) {
    return UsageMistake(kDocumentsCommand, "say what to do, and with which corpus or document");
  }
  const std::string& verb = arguments[0];
  Client client(kDocumentsCommand.name);
  if (verb == "list") return List(client, CorpusArgument(arguments[1]));
  const std::string name = ResourceArgument(arguments[1], Collection::kDocuments);
  if (verb == "get") return Get(client, name);
  if (verb == "delete") return Delete(client, name);
  return UsageMistake(kDocumentsCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kDocumentsCommand = {
    .name = "documents",
    .arguments = "list CORPUS | get CORPUS/DOCUMENT | delete CORPUS/DOCUMENT",
    .summary = "Lists, shows and deletes documents.",
    .details = "",
    .flags = {"json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
