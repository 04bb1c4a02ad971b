#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/ingest_progress.h"
#include "services/cli/output.h"

ABSL_FLAG(bool, validate_only, false, "only count what would be prefilled");
ABSL_FLAG(bool, wait, true, "wait until it has ended");

namespace lectern::services {
namespace {

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 1) return UsageMistake(kIngestCommand, "name one corpus");
  Client client(kIngestCommand.name);
  const std::string corpus = CorpusArgument(arguments[0]);
  const bool validate_only = absl::GetFlag(FLAGS_validate_only);
  if (!validate_only && absl::GetFlag(FLAGS_wait)) return IngestAndWait(client, corpus);

  v1::IngestCorpusRequest request;
  request.set_name(corpus);
  request.set_validate_only(validate_only);
  v1::Operation operation;
  Call call;
  const grpc::Status status = client.corpora().IngestCorpus(&call.context(), request, &operation);
  if (!status.ok()) return client.Explain(status, call);
  if (operation.has_error()) return client.Explain(operation.error());
  if (absl::GetFlag(FLAGS_json)) {
    PrintJson(ToJson(operation));
  } else if (validate_only) {
    const v1::IngestMetadata& metadata = operation.metadata();
    fmt::print("{} tokens of {} documents: {} cached, {} to prefill; {} of cache\n",
               Thousands(metadata.tokens_total()), metadata.documents(),
               Thousands(metadata.tokens_cached()),
               Thousands(metadata.tokens_total() - metadata.tokens_cached()),
               Bytes(metadata.cache_bytes_total()));
  } else {
    fmt::print("{}\n", operation.name());
  }
  return kExitOk;
}

}  // namespace

const Command kIngestCommand = {
    .name = "ingest",
    .arguments = "CORPUS [--validate_only] [--no-wait]",
    .summary = "Makes a corpus's documents ready for questions.",
    .details = "",
    .flags = {"validate_only", "wait", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
