#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/ask_call.h"
#include "services/worker/convert.h"
#include "services/worker/retrieve_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Unary = grpc::ServerUnaryReactor;

grpc::ServerWriteReactor<v1::AskResponse>* WorkerService::Ask(Context* context,
                                                              const v1::AskRequest* request) {
  return AskCall::Start(*this, *context, *request);
}

Unary* WorkerService::Retrieve(Context* context, const v1::RetrieveRequest* request,
                               v1::RetrieveResponse* response) {
  return RetrieveCall::Start(*this, *context, *request, *response);
}

Unary* WorkerService::CountTokens(Context* context, const v1::CountTokensRequest* request,
                                  v1::CountTokensResponse* response) {
  return Run(context, "Worker/CountTokens", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_RETURN_IF_ERROR(ParseTenantName(request->parent(), caller.tenant, "parent"));
    if (request->content_case() == v1::CountTokensRequest::CONTENT_NOT_SET) {
      return engine::InvalidArgument(reason::kFieldMissing, "give a text or a question to count",
                                     {{"field", "content"}});
    }
    LECTERN_ASSIGN_OR_RETURN(const engine::TokenCount count,
                             request->has_text()
                                 ? engine_.CountTextTokens(request->text())
                                 : engine_.CountQuestionTokens(request->question()));
    response->set_tokens(count.tokens);
    response->set_limit_tokens(count.limit_tokens);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetModel(Context* context, const v1::GetModelRequest* request,
                               v1::Model* response) {
  return Run(context, "Worker/GetModel", [=, this](const Caller&) -> absl::Status {
    if (!request->name().empty() && request->name() != kModelName) {
      return engine::Error(absl::StatusCode::kNotFound, reason::kModelNotFound,
                           fmt::format("there is one model, {}", kModelName), {{"field", "name"}});
    }
    *response = ToProto(engine_.GetModel());
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetStats(Context* context, const v1::GetStatsRequest*, v1::Stats* response) {
  return Run(context, "Worker/GetStats", [=, this](const Caller&) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const engine::Stats stats, engine_.GetStats());
    *response = ToProto(stats);
    return absl::OkStatus();
  });
}

}  // namespace lectern::services
