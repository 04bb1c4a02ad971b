#include "engine/answer/question_run.h"

#include <algorithm>
#include <limits>

#include "engine/answer/evidence.h"
#include "engine/answer/layout_reader.h"
#include "engine/answer/turn_record.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"
#include "kernels/sampling/sampling.h"

namespace lectern::engine {
namespace {

// The tokens that close an answer: its last one, which was sampled but not yet computed, and <end>.
constexpr int64_t kClosingTokens = 2;

// Not text.
bool IsMark(const PromptLayout& layout, TokenId id) {
  return id == layout.pad() || id == layout.bos() || id == layout.doc() || id == layout.text() ||
         id == layout.question() || id == layout.answer() || id == layout.end() ||
         id == layout.none();
}

}  // namespace

void Question::AskOf(uint32_t context) {
  const storage::GenerationContext& stored = generation->contexts[context];
  context_index = context;
  session.reset();
  segments = stored.segments;
  token_count = static_cast<int64_t>(stored.token_count);
  tail_tokens = stored.tail_tokens;
}

RunTerms TermsOf(const Question& question) {
  return {.kind = RunKind::kQuestion,
          .priority = question.priority,
          .tenant_uid = question.tenant_uid,
          .weight = question.weight,
          .deadline_us = question.deadline_us};
}

QuestionRun::QuestionRun(const Surroundings& surroundings, Question question, AnswerSink sink,
                         std::shared_ptr<CancelFlag> cancel)
    : Run(TermsOf(question), std::move(cancel)),
      around_(surroundings),
      question_(std::move(question)),
      sink_(std::move(sink)),
      prompt_left_(&around_.counters->pending_tokens,
                   static_cast<int64_t>(question_.prompt.size())),
      observed_(around_.model->config(), static_cast<int64_t>(stored().token_count),
                /*by_head=*/question_.purpose == Question::Purpose::kCompare),
      passages_([model = around_.model](TokenId id) {
        return id < 0 || model->EndsAnswer(id) || IsMark(model->layout(), id);
      }),
      drafts_(around_.drafts && question_.sampling.temperature == 0 &&
              question_.purpose == Question::Purpose::kAnswer),
      decoder_(&around_.model->tokenizer()) {}

QuestionRun::~QuestionRun() = default;

RunNeeds QuestionRun::MemoryNeeds() const {
  const int64_t tokens =
      static_cast<int64_t>(question_.prompt.size()) + question_.max_tokens + kClosingTokens;
  // One block more for the copied tail, and one per layer's fetch.
  const int64_t own = BlocksOf(tokens) + 2;
  const int64_t before = BlocksOf(question_.token_count);
  const int64_t base = BlocksOf(static_cast<int64_t>(stored().token_count));
  return {.kv_slots = own * around_.memory->shape().layers(),
          .index_slots = own + std::max<int64_t>(0, before - base),  // a session's earlier turns
          .base = question_.generation->uid * kMaxContexts + question_.context_index,
          .base_index_slots = base};
}

absl::Status QuestionRun::Start() {
  answer_.usage.queue_time_us = around_.clock_us() - question_.accepted_us;
  LECTERN_ASSIGN_OR_RETURN(
      context_, Context::Open(around_.memory, question_.tenant_uid, question_.segments,
                              question_.token_count, around_.memory->NewUnstoredLineage()));
  open_.emplace(&around_.counters->open_contexts);
  around_.counters->cached_tokens.fetch_add(question_.token_count, std::memory_order_relaxed);
  answer_.usage.cached_tokens = question_.token_count;
  answer_.usage.prompt_tokens = static_cast<int64_t>(question_.prompt.size());
  LECTERN_RETURN_IF_ERROR(context_->Reserve(static_cast<int64_t>(question_.prompt.size()) +
                                            question_.max_tokens + kClosingTokens));
  if (question_.purpose != Question::Purpose::kCompare) {
    LECTERN_ASSIGN_OR_RETURN(
        answer_.context,
        DescribeContext(*around_.catalog, *question_.generation, question_.context_index));
  }
  if (sink_.started) {
    sink_.started({.generation = question_.generation_name,
                   .context_tokens = question_.token_count,
                   .context = answer_.context});
  }
  return absl::OkStatus();
}

Run::Wish QuestionRun::NextWish() const {
  // The question's first mark goes alone: its row is the baseline that evidence is measured
  // against.
  if (phase_ == Phase::kReading && read_ == 0) return {.tokens = 1, .tiled = false};
  if (phase_ == Phase::kReading)
    return {.tokens = static_cast<int64_t>(question_.prompt.size()) - read_, .tiled = true};
  const int64_t spare = phase_ == Phase::kAnswering ? static_cast<int64_t>(pending_.size()) - 1 : 0;
  return {.tokens = static_cast<int64_t>(pending_.size()) - spare, .tiled = false, .spare = spare};
}

absl::StatusOr<StepSegment> QuestionRun::Prepare(int64_t tokens) {
  StepSegment segment = {.context = context_.get(), .widen_below = question_.widen_below};
  if (phase_ == Phase::kReading) {
    const int64_t size = static_cast<int64_t>(question_.prompt.size());
    segment.tokens = std::span(question_.prompt)
                         .subspan(static_cast<size_t>(read_), static_cast<size_t>(tokens));
    segment.tiled = read_ > 0;
    const bool answers = question_.purpose == Question::Purpose::kAnswer;
    segment.logit_rows = read_ + tokens == size && answers ? 1 : 0;
    observed_.set_baseline(read_ == 0);
    // Of the rest, the answer mark: the row from which the answer is looked up.
    if (read_ == 0 || read_ + tokens == size) segment.observer = &observed_;
    segment.observed_from = static_cast<int32_t>(tokens) - 1;
  } else {
    pending_.resize(static_cast<size_t>(tokens));
    segment.tokens = pending_;
    segment.tiled = false;
    segment.logit_rows = phase_ == Phase::kAnswering ? static_cast<int32_t>(tokens) : 0;
    if (phase_ == Phase::kAnswering && sampled_ <= kObservedAnswerRows)
      segment.observer = &observed_;
  }
  return segment;
}

absl::Status QuestionRun::AfterStep(SegmentResult result) {
  if (phase_ == Phase::kAnswering) return OnAnswer(std::move(result));
  observed_.Keep(context_->token_count());
  CountSelected(result.selected);
  if (phase_ == Phase::kClosing) {
    written_.insert(written_.end(), pending_.begin(), pending_.end());
    return Finish();
  }
  const int64_t tokens = context_->token_count() - question_.token_count - read_;
  read_ += tokens;
  prompt_left_.Computed(tokens);
  around_.counters->prefill_tokens.fetch_add(tokens, std::memory_order_relaxed);
  around_.counters->tenants.Charge(question_.tenant_uid, tokens);
  if (read_ < static_cast<int64_t>(question_.prompt.size())) return absl::OkStatus();
  written_ = question_.prompt;
  if (question_.purpose != Question::Purpose::kAnswer) return Finish();
  phase_ = Phase::kAnswering;
  LECTERN_RETURN_IF_ERROR(Say(Choose(result.logits, 0)));
  Guess();
  return absl::OkStatus();
}

void QuestionRun::CountSelected(std::span<const SelectionCounts> tokens) {
  const SelectionCounts counts = Sum(tokens);
  answer_.usage.selections += counts.selections;
  answer_.usage.selected_blocks += counts.blocks;
  answer_.usage.widened_selections += counts.widened;
}

// The step held the last token that was said, and behind it guesses. What the model says behind
// each of them counts as long as it is the guess that was computed next; the rest never was.
absl::Status QuestionRun::OnAnswer(SegmentResult result) {
  const std::vector<TokenId> computed = std::move(pending_);
  const size_t vocabulary = result.logits.size() / computed.size();
  std::vector<TokenId> said;
  do {
    said.push_back(Choose(std::span(result.logits).subspan(said.size() * vocabulary, vocabulary),
                          sampled_ + static_cast<int32_t>(said.size())));
  } while (said.size() < computed.size() && said.back() == computed[said.size()]);
  const size_t kept = said.size();
  context_->TakeBack(static_cast<int64_t>(computed.size() - kept));
  observed_.Keep(context_->token_count());
  CountSelected(std::span(result.selected).first(kept));
  written_.insert(written_.end(), computed.begin(), computed.begin() + static_cast<int64_t>(kept));
  CountDrafted(static_cast<int32_t>(computed.size()) - 1, static_cast<int32_t>(kept) - 1);
  for (const TokenId id : said) LECTERN_RETURN_IF_ERROR(Say(id));
  Guess();
  return absl::OkStatus();
}

void QuestionRun::CountDrafted(int32_t drafted, int32_t accepted) {
  if (drafted == 0) return draft_length_.NotDrafted();
  draft_length_.Drafted(drafted, accepted);
  answer_.usage.drafted_tokens += drafted;
  answer_.usage.accepted_tokens += accepted;
  around_.counters->drafted_tokens.fetch_add(drafted, std::memory_order_relaxed);
  around_.counters->accepted_tokens.fetch_add(accepted, std::memory_order_relaxed);
}

TokenId QuestionRun::Choose(std::span<float> logits, int32_t index) {
  const CoverageCalibration* calibration = around_.model->calibration();
  if (calibration != nullptr && index < calibration->probability_rows()) certainty_.Add(logits);
  const PromptLayout& layout = around_.model->layout();
  // An answer is text, or <none> alone, and ends with <end>: the layout's other marks are not the
  // model's to say.
  for (const TokenId mark : {layout.pad(), layout.bos(), layout.doc(), layout.text(),
                             layout.question(), layout.answer()}) {
    logits[mark] = -std::numeric_limits<float>::infinity();
  }
  if (index > 0) logits[layout.none()] = -std::numeric_limits<float>::infinity();
  // Ids that the tokenizer does not have spell nothing.
  for (size_t id = static_cast<size_t>(around_.model->tokenizer().vocab_size()); id < logits.size();
       ++id) {
    logits[id] = -std::numeric_limits<float>::infinity();
  }
  return kernels::Sample({.logits = logits.data(),
                          .vocabulary = static_cast<int32_t>(logits.size()),
                          .temperature = static_cast<float>(question_.sampling.temperature),
                          .top_p = static_cast<float>(question_.sampling.top_p),
                          .seed = question_.sampling.seed,
                          .counter = static_cast<uint64_t>(index)})
      .id;
}

absl::Status QuestionRun::Say(TokenId id) {
  const PromptLayout& layout = around_.model->layout();
  if (sampled_++ == 0)
    answer_.usage.time_to_first_token_us = around_.clock_us() - question_.accepted_us;
  ++answer_.usage.generated_tokens;
  around_.counters->generated_tokens.fetch_add(1, std::memory_order_relaxed);
  around_.counters->tenants.Charge(question_.tenant_uid, 1);

  if (around_.model->EndsAnswer(id)) {
    answer_.finish_reason = FinishReason::kStop;
    return CloseAnswer({id});
  }
  if (id == layout.none()) {
    answer_.not_in_documents = true;
    answer_.finish_reason = FinishReason::kStop;
    Emit(kNotInDocuments);
    return CloseAnswer({id, layout.end()});
  }
  Emit(decoder_.Push(id));
  if (sampled_ >= question_.max_tokens) {
    answer_.finish_reason = FinishReason::kMaxTokens;
    return CloseAnswer({id, layout.end()});
  }
  pending_ = {id};
  return absl::OkStatus();
}

// What the next step computes besides the last token, if anything.
void QuestionRun::Guess() {
  if (phase_ != Phase::kAnswering || !drafts_) return;
  // Never a token that could not be said any more: nothing is computed behind the last one.
  int64_t most = std::min(draft_length_.tokens(), question_.max_tokens - sampled_ - 1);
  // A step's rows are observed all or none.
  if (sampled_ <= kObservedAnswerRows)
    most = std::min<int64_t>(most, kObservedAnswerRows - sampled_);
  // A step's rows may widen all or none, which depends on the blocks that there are.
  if (question_.widen_below > 0)
    most = std::min(most, kBlockTokens - 1 - context_->token_count() % kBlockTokens);
  if (most <= 0) return;
  // Whoever reads the layout for evidence will say what is wrong with it.
  drafts_ = passages_.AddRead(observed_, *around_.catalog, question_.generation->uid,
                              question_.context_index);
  std::vector<TokenId> said = written_;
  said.push_back(pending_[0]);
  const std::vector<TokenId> guess =
      passages_.Next(said, static_cast<size_t>(most),
                     [this](int64_t position) { return observed_.TokenMass(position); });
  pending_.insert(pending_.end(), guess.begin(), guess.end());
}

bool QuestionRun::AsksForLess() {
  if (phase_ != Phase::kAnswering || pending_.size() == 1) return false;
  pending_.resize(1);
  drafts_ = false;
  context_->TakeBack(0);
  observed_.Keep(context_->token_count());
  return true;
}

void QuestionRun::Emit(std::string_view text) {
  if (answer_.text.empty()) text = PromptLayout::TrimAnswer(text);
  if (text.empty()) return;
  answer_.text += text;
  if (sink_.text) sink_.text(text);
}

absl::Status QuestionRun::CloseAnswer(std::vector<TokenId> unwritten) {
  Emit(decoder_.Finish());
  if (!question_.session.has_value()) return Finish();
  // The next turn stands on these tokens: compute their keys and values before the turn is stored.
  pending_ = std::move(unwritten);
  phase_ = Phase::kClosing;
  return absl::OkStatus();
}

absl::Status QuestionRun::Finish() {
  if (question_.purpose != Question::Purpose::kCompare) {
    LECTERN_ASSIGN_OR_RETURN(const FoundSpans found,
                             FindSpans(observed_.Blocks(), *around_.catalog, *question_.generation,
                                       question_.context_index, question_.evidence_limit));
    LECTERN_ASSIGN_OR_RETURN(answer_.evidence,
                             Quote(found, *around_.catalog, *question_.generation));
  }
  answer_.coverage = CalibratedCoverage();
  answer_.usage.disk_bytes = context_->moved().disk;
  answer_.usage.memory_bytes = context_->moved().memory;
  answer_.usage.device_bytes = context_->moved().device;
  answer_.usage.total_time_us = around_.clock_us() - question_.accepted_us;
  if (question_.session.has_value() && question_.purpose == Question::Purpose::kAnswer) {
    LECTERN_RETURN_IF_ERROR(CommitTurn());
  }
  Complete();
  return absl::OkStatus();
}

Coverage QuestionRun::CalibratedCoverage() const {
  Coverage coverage = observed_.coverage();
  const CoverageCalibration* calibration = around_.model->calibration();
  if (calibration == nullptr) return coverage;
  std::optional<CoverageFeatures> features = observed_.CalibrationFeatures(calibration->rows());
  if (!features.has_value()) return coverage;
  coverage.calibrated = true;
  coverage.attention = calibration->Attention(*features);
  if (question_.purpose != Question::Purpose::kAnswer) return coverage;
  features->tokens = certainty_.Summary(answer_.not_in_documents);
  coverage.risk = calibration->Risk(*features);
  coverage.low = *coverage.risk >= calibration->threshold();
  return coverage;
}

// The turn, its blocks and the session's new length become durable together.
absl::Status QuestionRun::CommitTurn() {
  const storage::Session& session = *question_.session;
  const int64_t first = question_.token_count / kBlockTokens;
  const int64_t end = BlocksOf(context_->token_count());

  // The tokens of the blocks from `first` on: what the partial block held before, and what this
  // turn wrote.
  std::vector<int32_t> tokens = question_.tail_tokens;
  tokens.insert(tokens.end(), written_.begin(), written_.end());
  const PrefixChain chain(around_.model->fingerprint(), *around_.secret, question_.tenant_uid);
  storage::BlockHash previous = {};
  if (first > 0) {
    LECTERN_ASSIGN_OR_RETURN(previous, context_->StoredHash(first - 1));
  }
  Context::StoredBlocks blocks = context_->Export(end);
  for (int64_t block = first; block < end; ++block) {
    const size_t begin = static_cast<size_t>((block - first) * kBlockTokens);
    const size_t count = std::min<size_t>(kBlockTokens, tokens.size() - begin);
    previous = chain.Next(previous, std::span(tokens).subspan(begin, count));
    blocks.inputs()[block - first].hash = previous;
  }
  const size_t tail = static_cast<size_t>(context_->token_count() % kBlockTokens);
  TurnRecord record = {.turn = {.number = static_cast<int>(session.turn_count) + 1,
                                .question = question_.text,
                                .create_time_us = around_.clock_us()},
                       .tail_tokens = {tokens.end() - static_cast<int64_t>(tail), tokens.end()}};
  answer_.turn = record.turn.number;
  record.turn.answer = answer_;
  absl::StatusOr<storage::Session> committed =
      around_.catalog->CommitTurn(session.uid,
                                  {.number = session.turn_count,
                                   .token_count = static_cast<uint64_t>(context_->token_count()),
                                   .create_time = record.turn.create_time_us,
                                   .payload = record.Serialize()},
                                  {.first_block = static_cast<uint32_t>(first),
                                   .blocks = blocks.inputs(),
                                   .provenance = around_.model->provenance()},
                                  record.turn.create_time_us);
  if (!committed.ok()) return committed.status();
  context_->Adopt(committed->lineage, end);
  return absl::OkStatus();
}

void QuestionRun::Complete() {
  phase_ = Phase::kDone;
  context_.reset();  // before the caller can ask the next question of the session
  around_.ended();
  sink_.done(std::move(answer_));
}

void QuestionRun::Fail(const absl::Status& status, bool draining) {
  phase_ = Phase::kDone;
  context_.reset();
  around_.ended();
  sink_.done(WithReason(status));
}

}  // namespace lectern::engine
