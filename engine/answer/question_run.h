// One question on its way through the model: read behind the context, answered token by token,
// closed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/answer/draft.h"
#include "engine/answer/observed_mass.h"
#include "engine/answer/token_certainty.h"
#include "engine/engine.h"
#include "engine/kv/context.h"
#include "engine/kv/prefix_chain.h"
#include "engine/model/serving_model.h"
#include "engine/schedule/counters.h"
#include "engine/schedule/run.h"
#include "storage/catalog.h"

namespace lectern::engine {

// What the answer says when the model says that the documents do not.
inline constexpr std::string_view kNotInDocuments = "The documents do not say.";

// A question that has been resolved to a context and tokenized.
struct Question {
  enum class Purpose {
    kAnswer,
    kRetrieve,  // evidence only, no answer
    kCompare,   // neither: what it looks at is set beside other contexts (context_comparison.h)
  };

  // Makes it one of that context of its generation, and of no session.
  void AskOf(uint32_t context);
  // Of a generation of several, and of no single one of them.
  bool of_several_contexts() const {
    return !session.has_value() && generation->contexts.size() > 1;
  }

  std::shared_ptr<const storage::Generation> generation;
  std::string generation_name;
  uint32_t context_index = 0;
  uint64_t tenant_uid = 0;
  std::string corpus_id;
  std::optional<storage::Session> session;
  std::vector<storage::Segment> segments;
  int64_t token_count = 0;
  std::vector<int32_t> tail_tokens;  // of the partial last block
  std::string text;
  std::vector<TokenId> prompt;  // <q> question <a>
  Purpose purpose = Purpose::kAnswer;
  int32_t max_tokens = 0;
  Sampling sampling;
  int32_t evidence_limit = 0;
  float widen_below = 0;  // adaptive selection, see StepSegment
  Priority priority = Priority::kInteractive;
  int32_t weight = 1;  // of the tenant
  int64_t deadline_us = 0;
  int64_t accepted_us = 0;
};

RunTerms TermsOf(const Question& question);

class QuestionRun final : public Run {
 public:
  struct Surroundings {
    storage::Catalog* catalog = nullptr;
    ServingModel* model = nullptr;
    KvMemory* memory = nullptr;
    Counters* counters = nullptr;
    const storage::Digest* secret = nullptr;
    bool drafts = true;
    std::function<int64_t()> clock_us;
    std::function<void()> ended;  // called once, last, on the step thread
  };
  // To answer: started, text, done. Else: only `done`, with an Answer that holds evidence, coverage
  // and usage.
  QuestionRun(const Surroundings& surroundings, Question question, AnswerSink sink,
              std::shared_ptr<CancelFlag> cancel);
  ~QuestionRun() override;

  RunNeeds MemoryNeeds() const override;
  absl::Status Start() override;
  Wish NextWish() const override;
  absl::StatusOr<StepSegment> Prepare(int64_t tokens) override;
  absl::Status AfterStep(SegmentResult result) override;
  bool done() const override { return phase_ == Phase::kDone; }
  bool AsksForLess() override;
  void Fail(const absl::Status& status, bool draining) override;

  // What the question looked at. REQUIRES: done, and made to compare.
  ObservedMass TakeObserved() { return std::move(observed_); }

 private:
  enum class Phase {
    kReading,    // prompt tokens are left
    kAnswering,  // the next token is being computed
    kClosing,    // a session's last tokens are being written to its tail
    kDone,
  };

  absl::Status OnAnswer(SegmentResult result);
  // The answer's token number `index`, from 0. Changes the logits.
  TokenId Choose(std::span<float> logits, int32_t index);
  absl::Status Say(TokenId id);
  void Guess();
  void CountSelected(std::span<const SelectionCounts> tokens);
  void CountDrafted(int32_t drafted, int32_t accepted);
  void Emit(std::string_view text);
  absl::Status CloseAnswer(std::vector<TokenId> unwritten);
  absl::Status Finish();
  const storage::GenerationContext& stored() const {
    return question_.generation->contexts[question_.context_index];
  }
  Coverage CalibratedCoverage() const;
  absl::Status CommitTurn();
  void Complete();

  const Surroundings around_;
  const Question question_;
  const AnswerSink sink_;
  std::unique_ptr<Context> context_;
  std::optional<LevelGuard> open_;
  PendingTokens prompt_left_;
  ObservedMass observed_;
  TokenCertainty certainty_;
  DraftPassages passages_;
  DraftLength draft_length_;
  bool drafts_;  // still
  StreamingDecoder decoder_;

  Phase phase_ = Phase::kReading;
  int64_t read_ = 0;  // prompt tokens computed
  // Tokens of the next step: the last sampled one and guesses at what follows it, or the closing
  // ones.
  std::vector<TokenId> pending_;
  std::vector<TokenId> written_;  // all tokens behind the context so far, for the prefix chain
  int32_t sampled_ = 0;
  Answer answer_;
};

}  // namespace lectern::engine
