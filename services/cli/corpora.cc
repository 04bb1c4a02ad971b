#include <absl/flags/flag.h>
#include <fmt/format.h>

#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cli/expiry_flags.h"
#include "services/cli/listing.h"
#include "services/cli/output.h"

ABSL_FLAG(std::string, display_name, "", "of the corpus or tenant");
ABSL_FLAG(bool, keep, false, "update: remove the time at which the corpus is deleted");
ABSL_FLAG(bool, pin, false, "create, update: never evict the cache of the corpus");
ABSL_FLAG(bool, unpin, false, "update: the cache may be evicted");

namespace lectern::services {
namespace {

std::string State(const v1::Corpus& corpus) {
  if (corpus.current_generation().empty()) return "not ingested";
  switch (corpus.cache_residency()) {
    case v1::Generation::EVICTED:
      return "evicted";
    case v1::Generation::PARTIAL:
      return "rebuilding";
    case v1::Generation::QUARANTINED:
      return "quarantined";
    default:
      return corpus.stale() ? "stale" : "ready";
  }
}

int List(Client& client) {
  v1::ListCorporaRequest request;
  request.set_parent(TenantName(Tenant()));
  std::vector<v1::Corpus> corpora;
  const int code = ListAll<v1::ListCorporaResponse>(
      client, request, [&](auto... args) { return client.corpora().ListCorpora(args...); },
      [](auto& response) { return response.mutable_corpora(); }, corpora);
  if (code != kExitOk) return code;
  if (absl::GetFlag(FLAGS_json)) {
    PrintJsonArray(corpora);
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows;
  for (const v1::Corpus& corpus : corpora) {
    rows.push_back({IdOf(corpus.name()), std::to_string(corpus.document_count()),
                    Bytes(corpus.document_bytes()), State(corpus),
                    std::to_string(corpus.context_count()), Bytes(corpus.cache_bytes()),
                    corpus.pinned()               ? "pinned"
                    : corpus.eviction_rank() == 0 ? "-"
                                                  : std::to_string(corpus.eviction_rank()),
                    Time(corpus.last_used_time()), Time(corpus.expire_time()),
                    Printable(corpus.display_name())});
  }
  PrintTable({"CORPUS", "DOCUMENTS", "SIZE", "STATE", "CONTEXTS", "CACHE", "EVICTION", "USED",
              "EXPIRES", "NAME"},
             rows);
  return kExitOk;
}

int Get(Client& client, const std::string& name) {
  v1::GetCorpusRequest request;
  request.set_name(name);
  v1::Corpus corpus;
  Call call;
  const grpc::Status status = client.corpora().GetCorpus(&call.context(), request, &corpus);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(corpus);
  return kExitOk;
}

int Create(Client& client, const std::string& id) {
  v1::CreateCorpusRequest request;
  request.set_parent(TenantName(Tenant()));
  request.set_corpus_id(id);
  request.mutable_corpus()->set_display_name(absl::GetFlag(FLAGS_display_name));
  google::protobuf::Duration ttl;
  if (TtlFromFlag(ttl)) *request.mutable_corpus()->mutable_ttl() = ttl;
  request.mutable_corpus()->set_pinned(absl::GetFlag(FLAGS_pin));
  v1::Corpus corpus;
  Call call;
  const grpc::Status status = client.corpora().CreateCorpus(&call.context(), request, &corpus);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(corpus);
  return kExitOk;
}

int Update(Client& client, const std::string& name) {
  v1::UpdateCorpusRequest request;
  request.mutable_corpus()->set_name(name);
  if (const std::string display_name = absl::GetFlag(FLAGS_display_name); !display_name.empty()) {
    request.mutable_corpus()->set_display_name(display_name);
    request.mutable_update_mask()->add_paths("display_name");
  }
  google::protobuf::Duration ttl;
  if (TtlFromFlag(ttl)) {
    *request.mutable_corpus()->mutable_ttl() = ttl;
    request.mutable_update_mask()->add_paths("ttl");
  } else if (absl::GetFlag(FLAGS_keep)) {
    request.mutable_update_mask()->add_paths("expire_time");
  }
  if (absl::GetFlag(FLAGS_pin) || absl::GetFlag(FLAGS_unpin)) {
    if (absl::GetFlag(FLAGS_pin) && absl::GetFlag(FLAGS_unpin)) {
      return UsageMistake(kCorporaCommand, "either --pin or --unpin");
    }
    request.mutable_corpus()->set_pinned(absl::GetFlag(FLAGS_pin));
    request.mutable_update_mask()->add_paths("pinned");
  }
  if (request.update_mask().paths().empty()) {
    return UsageMistake(kCorporaCommand,
                        "update needs --display_name, --ttl, --keep, --pin or --unpin");
  }
  v1::Corpus corpus;
  Call call;
  const grpc::Status status = client.corpora().UpdateCorpus(&call.context(), request, &corpus);
  if (!status.ok()) return client.Explain(status, call);
  PrintMessage(corpus);
  return kExitOk;
}

int Delete(Client& client, const std::string& name) {
  v1::DeleteCorpusRequest request;
  request.set_name(name);
  google::protobuf::Empty empty;
  Call call;
  const grpc::Status status = client.corpora().DeleteCorpus(&call.context(), request, &empty);
  return status.ok() ? kExitOk : client.Explain(status, call);
}

int Run(const std::vector<std::string>& arguments) {
  const std::string verb = arguments.empty() ? "list" : arguments[0];
  Client client(kCorporaCommand.name);
  if (verb == "list" && arguments.size() <= 1) return List(client);
  if (arguments.size() != 2) return UsageMistake(kCorporaCommand, "name one corpus");
  if (verb == "create") return Create(client, arguments[1]);
  const std::string name = CorpusArgument(arguments[1]);
  if (verb == "get") return Get(client, name);
  if (verb == "update") return Update(client, name);
  if (verb == "delete") return Delete(client, name);
  return UsageMistake(kCorporaCommand, fmt::format("there is no \"{}\" here", verb));
}

}  // namespace

const Command kCorporaCommand = {
    .name = "corpora",
    .arguments = "list | get CORPUS | create CORPUS | update CORPUS | delete CORPUS",
    .summary = "Lists, shows, makes, changes and deletes corpora.",
    .details =
        "EVICTION is the place in the order in which caches go when the server's disk cap needs "
        "room: "
        "1 goes first.\nAn evicted cache is brought back by `lectern rebuild`.",
    .flags = {"display_name", "ttl", "keep", "pin", "unpin", "json", "address", "timeout"},
    .run = Run,
};

}  // namespace lectern::services
