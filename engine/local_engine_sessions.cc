// Sessions and their turns.
#include <fmt/format.h>

#include "engine/answer/turn_record.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "engine/public_name.h"
#include "engine/storage_page.h"

namespace lectern::engine {

absl::StatusOr<storage::Session> LocalEngine::FindSession(const storage::Corpus& corpus,
                                                          std::string_view id) {
  absl::StatusOr<storage::Session> session = store_->catalog().GetSession(corpus.uid, id);
  if (!session.ok()) return WithReason(session.status(), "SESSION_NOT_FOUND");
  if (session->expire_time.has_value() && *session->expire_time <= NowUs()) {
    return Error(absl::StatusCode::kNotFound, "SESSION_NOT_FOUND",
                 fmt::format("session {} has expired", id));
  }
  return session;
}

absl::StatusOr<Session> LocalEngine::Present(const storage::Session& session,
                                             const CorpusName& corpus) {
  LECTERN_ASSIGN_OR_RETURN(std::string generation,
                           PublicName(store_->catalog(), "g", session.generation_uid));
  Session result = {.name = {.corpus = corpus, .id = session.id},
                    .generation = std::move(generation),
                    .context = static_cast<int>(session.context_index),
                    .turn_count = static_cast<int>(session.turn_count),
                    .token_count = static_cast<int64_t>(session.token_count),
                    .create_time_us = session.create_time,
                    .update_time_us = session.update_time,
                    .expire_time_us = session.expire_time.value_or(0)};
  if (session.parent_uid != 0) {
    absl::StatusOr<storage::Session> parent = store_->catalog().GetSessionByUid(session.parent_uid);
    if (parent.ok()) result.forked_from = parent->id;  // a parent may be deleted before its forks
    if (!parent.ok() && !absl::IsNotFound(parent.status())) return WithReason(parent.status());
  }
  return result;
}

absl::StatusOr<Session> LocalEngine::CreateSession(const ResourceName& name,
                                                   std::string_view generation,
                                                   int64_t expire_time_us,
                                                   std::optional<int> context) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  const std::string id = name.id.empty() ? NewId() : name.id;
  LECTERN_RETURN_IF_ERROR(CheckId("session", id));
  const int64_t now = NowUs();
  if (expire_time_us != 0 && expire_time_us <= now) {
    return InvalidArgument("EXPIRE_TIME_PAST", "expire_time has passed already",
                           {{"field", "expire_time"}});
  }
  uint64_t generation_uid = corpus.current_generation;
  if (!generation.empty()) {
    LECTERN_ASSIGN_OR_RETURN(const storage::Generation found, FindGeneration(corpus, generation));
    generation_uid = found.uid;
  }
  if (generation_uid == 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "CORPUS_NOT_INGESTED",
                 fmt::format("corpus {} has no generation yet: ingest it first", corpus.id));
  }
  absl::StatusOr<storage::Generation> of = store_->catalog().GetGeneration(generation_uid);
  if (!of.ok()) return WithReason(of.status(), "GENERATION_NOT_FOUND");
  const std::string contexts = fmt::to_string(of->contexts.size());
  if (!context.has_value() && of->contexts.size() > 1) {
    return InvalidArgument(
        "CONTEXT_MISSING",
        fmt::format("the generation has {} contexts, and a session talks to one of them: name it; "
                    "Ask and Retrieve tell in which contexts they find something",
                    contexts),
        {{"contexts", contexts}});
  }
  const int index = context.value_or(0);
  if (index < 0 || index >= static_cast<int>(of->contexts.size())) {
    return Error(absl::StatusCode::kNotFound, "CONTEXT_NOT_FOUND",
                 fmt::format("the generation has {} contexts, counted from 0: there is no {}",
                             contexts, index),
                 {{"contexts", contexts}});
  }
  storage::NewSession session = {.id = id};
  if (expire_time_us != 0) session.expire_time = expire_time_us;
  absl::StatusOr<storage::Session> created =
      store_->catalog().CreateSession(generation_uid, static_cast<uint32_t>(index), session, now);
  if (!created.ok()) return WithReason(created.status(), "GENERATION_NOT_FOUND", "SESSION_EXISTS");
  sessions_.fetch_add(1, std::memory_order_relaxed);
  return Present(*created, name.corpus);
}

absl::StatusOr<Session> LocalEngine::GetSession(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  LECTERN_ASSIGN_OR_RETURN(const storage::Session session, FindSession(corpus, name.id));
  return Present(session, name.corpus);
}

absl::StatusOr<Page<Session>> LocalEngine::ListSessions(const CorpusName& name,
                                                        const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Session>> sessions =
      store_->catalog().ListSessions(corpus.uid, request);
  if (!sessions.ok()) return PageError(sessions.status());
  Page<Session> result = {.next_page_token = sessions->next_token};
  const int64_t now = NowUs();
  for (const storage::Session& session : sessions->items) {
    if (session.expire_time.has_value() && *session.expire_time <= now) continue;
    LECTERN_ASSIGN_OR_RETURN(Session presented, Present(session, name));
    result.items.push_back(std::move(presented));
  }
  return result;
}

absl::StatusOr<Session> LocalEngine::ForkSession(const ResourceName& name, std::optional<int> turn,
                                                 std::string_view new_session_id) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  LECTERN_ASSIGN_OR_RETURN(const storage::Session parent, FindSession(corpus, name.id));
  const std::string id = new_session_id.empty() ? NewId() : std::string(new_session_id);
  LECTERN_RETURN_IF_ERROR(CheckId("session", id));
  const int turns = turn.value_or(static_cast<int>(parent.turn_count));
  if (turns < 0 || turns > static_cast<int>(parent.turn_count)) {
    return InvalidArgument(
        "TURN_OUT_OF_RANGE",
        fmt::format("session {} has {} turns: it can be forked after 0 to {} of them, not after {}",
                    name.id, parent.turn_count, parent.turn_count, turns),
        {{"turn", fmt::to_string(turns)}, {"limit", fmt::to_string(parent.turn_count)}});
  }
  absl::StatusOr<storage::Session> fork =
      store_->catalog().ForkSession(parent.uid, static_cast<uint32_t>(turns), {.id = id}, NowUs());
  if (!fork.ok()) return WithReason(fork.status(), "SESSION_NOT_FOUND", "SESSION_EXISTS");
  sessions_.fetch_add(1, std::memory_order_relaxed);
  return Present(*fork, name.corpus);
}

absl::Status LocalEngine::DeleteSession(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  LECTERN_ASSIGN_OR_RETURN(const storage::Session session, FindSession(corpus, name.id));
  if (absl::Status status = store_->catalog().DeleteSession(session.uid); !status.ok()) {
    return WithReason(status, "SESSION_NOT_FOUND");
  }
  sessions_.fetch_sub(1, std::memory_order_relaxed);
  WakeMaintenance();
  return absl::OkStatus();
}

absl::StatusOr<Page<Turn>> LocalEngine::ListTurns(const ResourceName& name,
                                                  const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  LECTERN_ASSIGN_OR_RETURN(const storage::Session session, FindSession(corpus, name.id));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Turn>> turns =
      store_->catalog().ListTurns(session.uid, request);
  if (!turns.ok()) return PageError(turns.status());
  Page<Turn> result = {.next_page_token = turns->next_token};
  for (const storage::Turn& turn : turns->items) {
    LECTERN_ASSIGN_OR_RETURN(TurnRecord record, TurnRecord::Parse(turn.payload));
    for (Evidence& evidence : record.turn.answer.evidence) {
      evidence.context = static_cast<int>(session.context_index);
    }
    result.items.push_back(std::move(record.turn));
  }
  return result;
}

}  // namespace lectern::engine
