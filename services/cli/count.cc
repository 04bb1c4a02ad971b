#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/file.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

ABSL_FLAG(bool, question, false, "count the argument as a question");

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1) return UsageMistake(kCountCommand, "name one file, or a question");
  v1::CountTokensRequest request;
  request.set_parent(TenantName(Tenant()));
  if (absl::GetFlag(FLAGS_question)) {
    request.set_question(arguments[0]);
  } else {
    const absl::StatusOr<std::string> text = ReadFile(arguments[0]);
    if (!text.ok()) {
      fmt::print(stderr, "lectern count: {}\n", std::string(text.status().message()));
      return kExitLocal;
    }
    request.set_text(*text);
  }
  Client client(kCountCommand.name);
  v1::CountTokensResponse response;
  Call call;
  const grpc::Status status = client.answers().CountTokens(&call.context(), request, &response);
  if (!status.ok()) return client.Explain(status, call);
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(ToJson(response));
  } else {
    fmt::print("{} tokens; the limit is {}\n", Thousands(response.tokens()),
               Thousands(response.limit_tokens()));
  }
  return kExitOk;
}

}  // namespace

const Command kCountCommand = {
    .name = "count",
    .arguments = "FILE | --question \"QUESTION\"",
    .summary = "Counts the tokens of a file or of a question.",
    .details = "",
    .flags = {"question", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
