#include "services/cli/ingest_progress.h"

#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/output.h"

namespace lectern::services {
namespace {

constexpr int kPollMs = 500;

std::string Describe(const v1::IngestMetadata& metadata) {
  switch (metadata.phase()) {
    case v1::IngestMetadata::QUEUED:
      return "waiting for another ingest";
    case v1::IngestMetadata::PREPARING:
      return fmt::format("reading {} documents", metadata.documents());
    case v1::IngestMetadata::COMMITTING:
      return "committing";
    default:
      return fmt::format("{} {} of {} tokens, {} of them cached",
                         Bar(metadata.tokens_done(), metadata.tokens_total()),
                         Thousands(metadata.tokens_done()), Thousands(metadata.tokens_total()),
                         Thousands(metadata.tokens_cached()));
  }
}

int End(const Client& client, const v1::Operation& operation, std::string_view done,
        Progress& progress) {
  if (operation.has_error()) return client.Explain(operation.error());
  const v1::IngestMetadata& metadata = operation.metadata();
  if (metadata.tokens_total() == 0) {  // of a rebuild: an ingest has documents
    progress.Finish(fmt::format("nothing to rebuild: the cache of generation {} is complete",
                                IdOf(operation.generation())));
    return kExitOk;
  }
  const std::string contexts =
      metadata.contexts() > 1 ? fmt::format(" in {} contexts", metadata.contexts()) : "";
  progress.Finish(fmt::format(
      "{}: {} tokens of {} documents{}, {} prefilled, {} cached, {:.1f} s; generation {}", done,
      Thousands(metadata.tokens_total()), metadata.documents(), contexts,
      Thousands(metadata.tokens_done() - metadata.tokens_cached()),
      Thousands(metadata.tokens_cached()),
      static_cast<double>(operation.end_time().seconds() - operation.create_time().seconds()) +
          static_cast<double>(operation.end_time().nanos() - operation.create_time().nanos()) *
              1e-9,
      IdOf(operation.generation())));
  return kExitOk;
}

}  // namespace

int FollowOperation(Client& client, const std::string& name, std::string_view done) {
  Progress progress;
  while (true) {
    v1::WaitOperationRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_nanos(kPollMs * 1'000'000);
    v1::Operation operation;
    Call call;
    const grpc::Status status =
        client.operations().WaitOperation(&call.context(), request, &operation);
    if (!status.ok()) return client.Explain(status, call);
    if (operation.done()) return End(client, operation, done, progress);
    progress.Show(Describe(operation.metadata()));
  }
}

int IngestAndWait(Client& client, const std::string& corpus) {
  v1::IngestCorpusRequest request;
  request.set_name(corpus);
  v1::Operation operation;
  Call call;
  const grpc::Status status = client.corpora().IngestCorpus(&call.context(), request, &operation);
  if (!status.ok()) return client.Explain(status, call);
  return FollowOperation(client, operation.name());
}

}  // namespace lectern::services
