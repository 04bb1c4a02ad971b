#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

namespace lectern::services {
namespace {

constexpr size_t kFingerprintShown = 12;

int List(Client& client, const std::string& corpus) {
  v1::ListGenerationsRequest request;
  request.set_parent(corpus);
  std::vector<v1::Generation> generations;
  const int code = ListAll<v1::ListGenerationsResponse>(
      client, request, [&](auto... args) { return client.corpora().ListGenerations(args...); },
      [](auto& response) { return response.mutable_generations(); }, generations);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(generations);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Generation& generation : generations) {
    rows.push_back({IdOf(generation.name()), std::to_string(generation.document_count()),
                    Thousands(generation.token_count()), std::to_string(generation.context_count()),
                    v1::Generation::Residency_Name(generation.residency()),
                    generation.model_fingerprint().substr(0, kFingerprintShown),
                    Time(generation.create_time())});
  }
  PrintTable({"GENERATION", "DOCUMENTS", "TOKENS", "CONTEXTS", "CACHE", "MODEL", "MADE"}, rows);
  return kExitOk;
}

int Get(Client& client, const std::string& name) {
  v1::GetGenerationRequest request;
  request.set_name(name);
  v1::Generation generation;
  Call call;
  const grpc::Status status = client.corpora().GetGeneration(&call.context(), request, &generation);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(generation);
  return kExitOk;
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 2) {
    return UsageMistake(kGenerationsCommand, "say what to do, and with which corpus or generation");
  }
  const std::string& verb = arguments[0];
  Client client(kGenerationsCommand.name);
  if (verb == "list") return List(client, CorpusArgument(arguments[1]));
  if (verb == "get") {
    return Get(client, ResourceArgument(arguments[1], Collection::kGenerations));
  }
  return UsageMistake(kGenerationsCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kGenerationsCommand = {
    .name = "generations",
    .arguments = "list CORPUS | get CORPUS/GENERATION",
    .summary = "Lists and shows what ingests have made.",
    .details = "",
    .flags = {"json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
