// The life of a question, from top to bottom:
//
//   Ask, Retrieve  checks what can be checked at once
//   Resolve        target -> generation or session -> stored segments; question -> tokens
//   Submit         one question per session at a time; into the scheduler's queue
//   CorpusRun      of a generation of several contexts: in which of them is it to be asked?
//                  (corpus_run.cc)
//   QuestionRun    opens the context, reads the question behind it, samples, guesses at what will
//   be
//                  copied next (question_run.cc, draft.cc);
//                  each layer of each step selects, fetches, attends (model/decoder.cc);
//                  ObservedMass watches
//   Finish         evidence from the watched attention (evidence.cc), coverage, usage; a
//                  session's turn is committed; the sink is told
#include "engine/answer/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/answer/corpus_run.h"
#include "engine/answer/turn_record.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"
#include "engine/public_name.h"
#include "engine/quota/share_weight.h"
#include "engine/room/disk_bytes.h"

namespace lectern::engine {
namespace {

class FlagTicket final : public Ticket {
 public:
  FlagTicket(std::shared_ptr<CancelFlag> flag, Scheduler* scheduler)
      : flag_(std::move(flag)), scheduler_(scheduler) {}
  void Cancel() override {
    flag_->Cancel();
    scheduler_->Wake();
  }

 private:
  const std::shared_ptr<CancelFlag> flag_;
  Scheduler* const scheduler_;
};

absl::StatusOr<int32_t> InRange(int32_t value, int32_t fallback, int32_t most,
                                std::string_view name) {
  if (value == 0) return fallback;
  if (value < 0 || value > most) {
    return InvalidArgument("ARGUMENT_OUT_OF_RANGE",
                           fmt::format("{} is {}: it may be 1 to {}", name, value, most),
                           {{"field", std::string(name)}, {"limit", fmt::to_string(most)}});
  }
  return value;
}

absl::Status CheckSampling(const Sampling& sampling) {
  if (!(sampling.temperature >= 0 && sampling.temperature <= 2)) {
    return InvalidArgument("ARGUMENT_OUT_OF_RANGE",
                           fmt::format("temperature is {}: it may be 0 to 2", sampling.temperature),
                           {{"field", "sampling.temperature"}});
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return InvalidArgument("ARGUMENT_OUT_OF_RANGE",
                           fmt::format("top_p is {}: it may be above 0 to 1", sampling.top_p),
                           {{"field", "sampling.top_p"}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ticket>> Answers::Ask(const storage::Tenant& tenant,
                                                     const storage::Corpus& corpus,
                                                     const AskRequest& request, AnswerSink sink) {
  LECTERN_RETURN_IF_ERROR(CheckSampling(request.sampling));
  LECTERN_ASSIGN_OR_RETURN(
      const int32_t max_tokens,
      InRange(request.max_tokens, kDefaultAnswerTokens, kMaxAnswerTokens, "max_tokens"));
  LECTERN_ASSIGN_OR_RETURN(
      const int32_t evidence_limit,
      InRange(request.evidence_limit, kDefaultEvidence, kMaxEvidence, "evidence_limit"));
  LECTERN_ASSIGN_OR_RETURN(const int32_t answers,
                           InRange(request.contexts, 1, kMaxAnswers, "contexts"));
  LECTERN_ASSIGN_OR_RETURN(const float widen_below, WidenBelow(request.adaptive_coverage));
  // A turn appends to its session's tail: one question at a time, and what Resolve reads must still
  // hold when it runs.
  std::shared_ptr<SessionLock> session_lock;
  if (!request.target.session.empty()) {
    LECTERN_ASSIGN_OR_RETURN(session_lock, LockSession(corpus, request.target.session));
  }
  LECTERN_ASSIGN_OR_RETURN(Question question,
                           Resolve(tenant, corpus, request.target, request.question));
  question.max_tokens = max_tokens;
  question.sampling = request.sampling;
  question.evidence_limit = evidence_limit;
  question.widen_below = widen_below;
  question.priority = request.priority;
  question.deadline_us = request.deadline_us;
  return Submit(std::move(question), answers, std::move(sink), nullptr, std::move(session_lock));
}

absl::StatusOr<std::unique_ptr<Ticket>> Answers::Retrieve(
    const storage::Tenant& tenant, const storage::Corpus& corpus, const RetrieveRequest& request,
    std::function<void(absl::StatusOr<Retrieval>)> done) {
  LECTERN_ASSIGN_OR_RETURN(const int32_t limit,
                           InRange(request.limit, kDefaultRetrieved, kMaxEvidence, "limit"));
  LECTERN_ASSIGN_OR_RETURN(const float widen_below, WidenBelow(request.adaptive_coverage));
  LECTERN_ASSIGN_OR_RETURN(Question question,
                           Resolve(tenant, corpus, request.target, request.query));
  question.purpose = Question::Purpose::kRetrieve;
  question.evidence_limit = limit;
  question.widen_below = widen_below;
  question.priority = request.priority;
  question.deadline_us = request.deadline_us;
  if (question.of_several_contexts()) {
    return Submit(std::move(question), 1, {}, std::move(done), nullptr);
  }
  AnswerSink sink = {.done = [done = std::move(done), generation = question.generation_name](
                                 absl::StatusOr<Answer> answer) {
    if (!answer.ok()) return done(answer.status());
    const double mass = answer->evidence.empty() ? 0 : answer->evidence[0].mass;
    done(Retrieval{
        .generation = generation,
        .spans = std::move(answer->evidence),
        .coverage = answer->coverage,
        .usage = answer->usage,
        .contexts = {
            {.context = std::move(answer->context), .mass = mass, .coverage = answer->coverage}}});
  }};
  return Submit(std::move(question), 1, std::move(sink), nullptr, nullptr);
}

absl::StatusOr<float> Answers::WidenBelow(std::optional<double> adaptive_coverage) const {
  const double value = adaptive_coverage.value_or(around_.adaptive_coverage);
  if (!(value >= 0 && value <= 1)) {
    return InvalidArgument("ARGUMENT_OUT_OF_RANGE",
                           fmt::format("adaptive_coverage is {}: it may be 0 to 1", value),
                           {{"field", "adaptive_coverage"}});
  }
  return static_cast<float>(value);
}

absl::StatusOr<Question> Answers::Resolve(const storage::Tenant& tenant,
                                          const storage::Corpus& corpus, const Target& target,
                                          const std::string& text) {
  storage::Catalog& catalog = around_.store->catalog();
  Question question;
  question.accepted_us = around_.clock_us();
  question.tenant_uid = tenant.uid;
  question.weight = ShareWeight(tenant);
  question.corpus_id = corpus.id;
  question.text = text;
  LECTERN_ASSIGN_OR_RETURN(question.prompt, around_.model->layout().Question(text));

  uint64_t generation_uid = corpus.current_generation;
  if (!target.session.empty()) {
    absl::StatusOr<storage::Session> session = catalog.GetSession(corpus.uid, target.session);
    if (!session.ok()) return WithReason(session.status(), "SESSION_NOT_FOUND");
    generation_uid = session->generation_uid;
    question.session = *std::move(session);
  } else if (!target.generation.empty()) {
    LECTERN_ASSIGN_OR_RETURN(generation_uid,
                             FindPublicName(catalog, "g", corpus.uid, target.generation));
    if (generation_uid == 0) {
      return Error(
          absl::StatusCode::kNotFound, "GENERATION_NOT_FOUND",
          fmt::format("there is no generation {} in corpus {}", target.generation, corpus.id));
    }
  }
  if (generation_uid == 0) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "CORPUS_NOT_INGESTED",
        fmt::format(
            "corpus {} has no generation yet: ingest it first, or wait for its ingest to finish",
            corpus.id));
  }
  absl::StatusOr<storage::Generation> generation = catalog.GetGeneration(generation_uid);
  if (!generation.ok()) return WithReason(generation.status(), "GENERATION_NOT_FOUND");
  if (generation->corpus_uid != corpus.uid) {
    return Error(
        absl::StatusCode::kNotFound, "GENERATION_NOT_FOUND",
        fmt::format("there is no generation {} in corpus {}", target.generation, corpus.id));
  }
  LECTERN_ASSIGN_OR_RETURN(question.generation_name, PublicName(catalog, "g", generation->uid));
  if (generation->model_fingerprint != around_.model->fingerprint()) {
    return Error(absl::StatusCode::kFailedPrecondition, "MODEL_MISMATCH",
                 "the cache was made by another model or attention mode than this server runs: "
                 "start the server with that "
                 "model, or ingest the corpus again",
                 {{"cached", ToHex(generation->model_fingerprint)},
                  {"serving", ToHex(around_.model->fingerprint())}});
  }
  if (generation->residency == storage::Residency::kQuarantined) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "CACHE_QUARANTINED",
        fmt::format("stored blocks of generation {} are damaged or cannot be read in time, and "
                    "out of use; they are computed again from the documents: ask again when that "
                    "has ended, or call RebuildCorpus",
                    question.generation_name),
        {{"generation", question.generation_name}});
  }
  if (generation->residency != storage::Residency::kComplete) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "CACHE_EVICTED",
        fmt::format("the cache of generation {} was evicted to make room; its documents are "
                    "all there: call RebuildCorpus (lectern rebuild), or wait until its "
                    "rebuild has ended",
                    question.generation_name),
        {{"generation", question.generation_name}});
  }
  question.generation = std::make_shared<const storage::Generation>(*std::move(generation));
  if (question.session.has_value()) {
    question.context_index = question.session->context_index;
    question.segments = question.session->segments;
    question.token_count = static_cast<int64_t>(question.session->token_count);
    if (question.session->turn_count == 0) {
      question.tail_tokens = question.generation->contexts[question.context_index].tail_tokens;
    } else {
      absl::StatusOr<storage::Turn> turn =
          catalog.GetTurn(question.session->uid, question.session->turn_count - 1);
      if (!turn.ok()) return turn.status();
      LECTERN_ASSIGN_OR_RETURN(TurnRecord record, TurnRecord::Parse(turn->payload));
      question.tail_tokens = std::move(record.tail_tokens);
    }
  } else {
    question.AskOf(0);
  }
  return question;
}

absl::StatusOr<std::unique_ptr<Ticket>> Answers::Submit(
    Question question, int32_t answers, AnswerSink sink,
    std::function<void(absl::StatusOr<Retrieval>)> retrieved,
    std::shared_ptr<SessionLock> session_lock) {
  const bool of_several = question.of_several_contexts();
  int64_t context_tokens = question.token_count;
  if (of_several) {
    for (const storage::GenerationContext& context : question.generation->contexts) {
      context_tokens = std::max(context_tokens, static_cast<int64_t>(context.token_count));
    }
  }
  const int64_t limit = around_.model->config().max_positions;
  const int64_t needed =
      context_tokens + static_cast<int64_t>(question.prompt.size()) + question.max_tokens + 2;
  if (needed > limit) {
    return InvalidArgument(
        "SESSION_FULL",
        fmt::format(
            "context, question and the longest answer asked for are {} tokens together, the model "
            "reads {}: ask for a shorter answer or start a new session",
            needed, limit),
        {{"tokens", fmt::to_string(needed)}, {"limit", fmt::to_string(limit)}});
  }
  // A turn is stored with the blocks it writes, the copied tail included.
  auto turn = std::make_shared<DiskPromise>();
  if (question.session.has_value() && question.purpose == Question::Purpose::kAnswer) {
    LECTERN_ASSIGN_OR_RETURN(
        *turn,
        around_.room->Reserve(BlockDiskBytes(around_.memory->shape().geometry(),
                                             needed - question.token_count + 2 * kBlockTokens),
                              "the turn of a session"));
  }
  auto flag = std::make_shared<CancelFlag>();
  const QuestionRun::Surroundings surroundings = {
      .catalog = &around_.store->catalog(),
      .model = around_.model,
      .memory = around_.memory,
      .counters = around_.counters,
      .secret = &around_.store->secret(),
      .drafts = around_.drafts,
      .clock_us = around_.clock_us,
      // Given back before the sink hears of the end: the next question may follow at once.
      .ended = [lock = std::move(session_lock), turn = std::move(turn)]() mutable {
        turn.reset();
        if (lock != nullptr) lock->Release();
      }};
  std::unique_ptr<Run> run;
  if (of_several) {
    run = std::make_unique<CorpusRun>(surroundings, std::move(question), answers, std::move(sink),
                                      std::move(retrieved), flag);
  } else {
    run = std::make_unique<QuestionRun>(surroundings, std::move(question), std::move(sink), flag);
  }
  LECTERN_RETURN_IF_ERROR(around_.scheduler->Submit(std::move(run)));
  return std::make_unique<FlagTicket>(std::move(flag), around_.scheduler);
}

void Answers::SessionLock::Release() {
  if (uid_ == 0) return;
  std::lock_guard lock(answers_->mutex_);
  answers_->busy_sessions_.erase(std::exchange(uid_, 0));
}

absl::StatusOr<std::shared_ptr<Answers::SessionLock>> Answers::LockSession(
    const storage::Corpus& corpus, const std::string& session_id) {
  absl::StatusOr<storage::Session> session =
      around_.store->catalog().GetSession(corpus.uid, session_id);
  if (!session.ok()) return WithReason(session.status(), "SESSION_NOT_FOUND");
  std::lock_guard lock(mutex_);
  if (!busy_sessions_.insert(session->uid).second) {
    return Error(
        absl::StatusCode::kAborted, "SESSION_BUSY",
        "another question of this session is running: wait for its answer, or fork the session");
  }
  return std::make_shared<SessionLock>(this, session->uid);
}

}  // namespace lectern::engine
