// A question on its way through a generation of several contexts: it is read in each of them, what
// it points at is compared (context_comparison.h), and the best contexts answer it, one after the
// other; or the best spans of all are the result.
//
// Each of these is a question of one context (question_run.h) for which this run waits anew
// (Run::between_contexts), so that it holds the memory of one context at a time, shares it with
// others that ask the same one, and lets those go first who have had less.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/answer/context_comparison.h"
#include "engine/answer/question_run.h"

namespace lectern::engine {

class CorpusRun final : public Run {
 public:
  // `question` is resolved to context 0. If it retrieves, `retrieved` is called, once, and `sink`
  // has nothing; else `sink` gets an answer from each of the best `answers` contexts, best first,
  // the first of them with the usage of all that was read to find them.
  CorpusRun(const QuestionRun::Surroundings& surroundings, Question question, int32_t answers,
            AnswerSink sink, std::function<void(absl::StatusOr<Retrieval>)> retrieved,
            std::shared_ptr<CancelFlag> cancel);
  ~CorpusRun() override;

  RunNeeds MemoryNeeds() const override { return part_->MemoryNeeds(); }
  absl::Status Start() override;
  bool between_contexts() const override { return between_; }
  Wish NextWish() const override { return part_->NextWish(); }
  absl::StatusOr<StepSegment> Prepare(int64_t tokens) override { return part_->Prepare(tokens); }
  absl::Status AfterStep(SegmentResult result) override;
  bool done() const override { return done_; }
  bool AsksForLess() override { return part_->AsksForLess(); }
  void Fail(const absl::Status& status, bool draining) override;

 private:
  // Makes the part that comes next.
  void Weigh(uint32_t context);
  void AnswerFrom(size_t rank);
  // The part at hand has ended with `part_answer_`.
  absl::Status PartEnded();
  absl::Status Weighed();
  absl::Status Retrieved();
  void Answered();

  const QuestionRun::Surroundings around_;
  const Question question_;
  const size_t answers_;
  const AnswerSink sink_;
  const std::function<void(absl::StatusOr<Retrieval>)> retrieved_;

  std::unique_ptr<QuestionRun> part_;
  Answer part_answer_;
  ContextComparison comparison_;
  ContextComparison::Result result_;  // once all are weighed
  size_t answering_ = 0;              // rank of the context that answers
  Usage weighing_;                    // of all that was read to compare
  bool between_ = false;
  bool done_ = false;
};

}  // namespace lectern::engine
