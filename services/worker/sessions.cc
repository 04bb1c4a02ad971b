#include <fmt/format.h>

#include <optional>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {
namespace {

// The id of the generation a session is asked to be on; "" for the newest.
absl::StatusOr<std::string> GenerationId(const v1::CreateSessionRequest& request,
                                         const engine::CorpusName& corpus,
                                         std::string_view tenant) {
  if (request.generation().empty()) return "";
  LECTERN_ASSIGN_OR_RETURN(
      const auto name,
      ParseResourceName(request.generation(), Collection::kGenerations, tenant, "generation"));
  if (name.corpus.corpus != corpus.corpus) {
    return engine::InvalidArgument(
        reason::kFieldInvalid,
        fmt::format("generation: is of the corpus \"{}\", the session's parent is \"{}\"",
                    name.corpus.corpus, corpus.corpus),
        {{"field", "generation"}});
  }
  return name.id;
}

}  // namespace

using Unary = grpc::ServerUnaryReactor;

Unary* WorkerService::CreateSession(Context* context, const v1::CreateSessionRequest* request,
                                    v1::Session* response) {
  return Run(context, "Worker/CreateSession", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto corpus,
                             ParseCorpusName(request->parent(), caller.tenant, "parent"));
    LECTERN_RETURN_IF_ERROR(CheckNewId(request->session_id(), "session_id"));
    LECTERN_ASSIGN_OR_RETURN(const std::string generation,
                             GenerationId(*request, corpus, caller.tenant));
    LECTERN_ASSIGN_OR_RETURN(const int64_t expire_time_us,
                             ExpireTime(request->session(), NowMicros()));
    LECTERN_ASSIGN_OR_RETURN(
        const engine::Session session,
        engine_.CreateSession(
            {corpus, request->session_id()}, generation, expire_time_us,
            request->has_context() ? std::optional<int>(request->context()) : std::nullopt));
    *response = ToProto(session);
    return absl::OkStatus();
  });
}

Unary* WorkerService::GetSession(Context* context, const v1::GetSessionRequest* request,
                                 v1::Session* response) {
  return Run(context, "Worker/GetSession", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kSessions, caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Session session, engine_.GetSession(name));
    *response = ToProto(session);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListSessions(Context* context, const v1::ListSessionsRequest* request,
                                   v1::ListSessionsResponse* response) {
  return Run(context, "Worker/ListSessions", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->parent(), caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto sessions, engine_.ListSessions(name, page));
    for (const engine::Session& session : sessions.items) {
      *response->add_sessions() = ToProto(session);
    }
    response->set_next_page_token(sessions.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ForkSession(Context* context, const v1::ForkSessionRequest* request,
                                  v1::Session* response) {
  return Run(context, "Worker/ForkSession", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kSessions, caller.tenant, "name"));
    LECTERN_RETURN_IF_ERROR(CheckNewId(request->session_id(), "session_id"));
    std::optional<int> turn;
    if (request->has_turn()) turn = request->turn();
    LECTERN_ASSIGN_OR_RETURN(const engine::Session session,
                             engine_.ForkSession(name, turn, request->session_id()));
    *response = ToProto(session);
    return absl::OkStatus();
  });
}

Unary* WorkerService::DeleteSession(Context* context, const v1::DeleteSessionRequest* request,
                                    google::protobuf::Empty*) {
  return Run(context, "Worker/DeleteSession", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kSessions, caller.tenant, "name"));
    return engine_.DeleteSession(name);
  });
}

Unary* WorkerService::ListTurns(Context* context, const v1::ListTurnsRequest* request,
                                v1::ListTurnsResponse* response) {
  return Run(context, "Worker/ListTurns", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->parent(), Collection::kSessions, caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto turns, engine_.ListTurns(name, page));
    for (const engine::Turn& turn : turns.items) {
      *response->add_turns() = ToProto(turn, name.corpus);
    }
    response->set_next_page_token(turns.next_page_token);
    return absl::OkStatus();
  });
}

}  // namespace lectern::services
