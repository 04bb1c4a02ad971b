#include <shared_mutex>

#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Unary = grpc::ServerUnaryReactor;

Unary* WorkerService::CreateCorpus(Context* context, const v1::CreateCorpusRequest* request,
                                   v1::Corpus* response) {
  return Run(context, "Worker/CreateCorpus", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(ParseTenantName(request->parent(), caller.tenant, "parent"));
    LECTERN_RETURN_IF_ERROR(CheckNewId(request->corpus_id(), "corpus_id"));
    LECTERN_RETURN_IF_ERROR(
        CheckDisplayName(request->corpus().display_name(), "corpus.display_name"));
    LECTERN_ASSIGN_OR_RETURN(const int64_t expire_time_us,
                             ExpireTime(request->corpus(), NowMicros()));
    std::shared_lock<std::shared_mutex> names;
    if (ownership_ != nullptr) {
      names = std::shared_lock(ownership_->names());
      LECTERN_RETURN_IF_ERROR(ownership_->MayBegin(caller, /*of_corpus=*/true));
    }
    LECTERN_ASSIGN_OR_RETURN(
        const engine::Corpus corpus,
        engine_.CreateCorpus({caller.tenant, request->corpus_id()},
                             request->corpus().display_name(), expire_time_us));
    if (request->corpus().pinned()) {
      LECTERN_ASSIGN_OR_RETURN(const engine::Corpus pinned,
                               engine_.UpdateCorpus(corpus.name, {.pinned = true}));
      *response = ToProto(pinned);
      return absl::OkStatus();
    }
    *response = ToProto(corpus);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetCorpus(Context* context, const v1::GetCorpusRequest* request,
                                v1::Corpus* response) {
  return Run(context, "Worker/GetCorpus", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->name(), caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Corpus corpus, engine_.GetCorpus(name));
    *response = ToProto(corpus);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListCorpora(Context* context, const v1::ListCorporaRequest* request,
                                  v1::ListCorporaResponse* response) {
  return Run(context, "Worker/ListCorpora", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(ParseTenantName(request->parent(), caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto corpora, engine_.ListCorpora(caller.tenant, page));
    for (const engine::Corpus& corpus : corpora.items) *response->add_corpora() = ToProto(corpus);
    response->set_next_page_token(corpora.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::UpdateCorpus(Context* context, const v1::UpdateCorpusRequest* request,
                                   v1::Corpus* response) {
  return Run(context, "Worker/UpdateCorpus", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name, ParseCorpusName(request->corpus().name(), caller.tenant, "corpus.name"));
    LECTERN_ASSIGN_OR_RETURN(const auto update, ToCorpusUpdate(*request, NowMicros()));
    LECTERN_ASSIGN_OR_RETURN(const engine::Corpus corpus, engine_.UpdateCorpus(name, update));
    *response = ToProto(corpus);
    return absl::OkStatus();
  });
}

Unary* WorkerService::DeleteCorpus(Context* context, const v1::DeleteCorpusRequest* request,
                                   google::protobuf::Empty*) {
  return Run(context, "Worker/DeleteCorpus", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->name(), caller.tenant, "name"));
    return engine_.DeleteCorpus(name);
  });
}

Unary* WorkerService::IngestCorpus(Context* context, const v1::IngestCorpusRequest* request,
                                   v1::Operation* response) {
  return Run(context, "Worker/IngestCorpus", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->name(), caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Operation operation,
                             engine_.IngestCorpus(name, request->validate_only()));
    *response = ToProto(operation, caller.request_id);
    return absl::OkStatus();
  });
}

Unary* WorkerService::RebuildCorpus(Context* context, const v1::RebuildCorpusRequest* request,
                                    v1::Operation* response) {
  return Run(context, "Worker/RebuildCorpus", [=, this](const Caller& caller) -> absl::Status {
    // Either a corpus, whose current generation is meant, or a generation.
    engine::CorpusName corpus;
    std::string generation;
    auto name = ParseResourceName(request->name(), Collection::kGenerations, caller.tenant, "name");
    if (name.ok()) {
      corpus = std::move(name->corpus);
      generation = std::move(name->id);
    } else {
      LECTERN_ASSIGN_OR_RETURN(corpus, ParseCorpusName(request->name(), caller.tenant, "name"));
    }
    LECTERN_ASSIGN_OR_RETURN(const engine::Operation operation,
                             engine_.RebuildCorpus(corpus, generation));
    *response = ToProto(operation, caller.request_id);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetGeneration(Context* context, const v1::GetGenerationRequest* request,
                                    v1::Generation* response) {
  return Run(context, "Worker/GetGeneration", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kGenerations, caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Generation generation, engine_.GetGeneration(name));
    *response = ToProto(generation);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListGenerations(Context* context, const v1::ListGenerationsRequest* request,
                                      v1::ListGenerationsResponse* response) {
  return Run(context, "Worker/ListGenerations", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->parent(), caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto generations, engine_.ListGenerations(name, page));
    for (const engine::Generation& generation : generations.items) {
      *response->add_generations() = ToProto(generation);
    }
    response->set_next_page_token(generations.next_page_token);
    return absl::OkStatus();
  });
}

}  // namespace lectern::services
