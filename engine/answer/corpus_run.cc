#include "engine/answer/corpus_run.h"

#include <algorithm>
#include <utility>

#include "engine/answer/layout_reader.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"

namespace lectern::engine {
namespace {

// What was read and computed; times are told by whoever ends last.
void Add(const Usage& part, Usage* usage) {
  usage->cached_tokens += part.cached_tokens;
  usage->prompt_tokens += part.prompt_tokens;
  usage->disk_bytes += part.disk_bytes;
  usage->memory_bytes += part.memory_bytes;
  usage->device_bytes += part.device_bytes;
  usage->selections += part.selections;
  usage->selected_blocks += part.selected_blocks;
  usage->widened_selections += part.widened_selections;
}

}  // namespace

CorpusRun::CorpusRun(const QuestionRun::Surroundings& surroundings, Question question,
                     int32_t answers, AnswerSink sink,
                     std::function<void(absl::StatusOr<Retrieval>)> retrieved,
                     std::shared_ptr<CancelFlag> cancel)
    : Run(TermsOf(question), std::move(cancel)),
      around_(surroundings),
      question_(std::move(question)),
      answers_(std::min(static_cast<size_t>(answers), question_.generation->contexts.size())),
      sink_(std::move(sink)),
      retrieved_(std::move(retrieved)) {
  Weigh(0);
}

CorpusRun::~CorpusRun() = default;

void CorpusRun::Weigh(uint32_t context) {
  Question question = question_;
  question.AskOf(context);
  question.purpose = Question::Purpose::kCompare;
  QuestionRun::Surroundings around = around_;
  around.ended = [] {};
  part_ = std::make_unique<QuestionRun>(
      around, std::move(question),
      AnswerSink{
          .done = [this](absl::StatusOr<Answer> answer) { part_answer_ = *std::move(answer); }},
      cancel_flag());
}

void CorpusRun::AnswerFrom(size_t rank) {
  answering_ = rank;
  Question question = question_;
  question.AskOf(result_.ranking[rank].context);
  QuestionRun::Surroundings around = around_;
  around.ended = [] {};
  part_ = std::make_unique<QuestionRun>(
      around, std::move(question),
      AnswerSink{
          .started = sink_.started,
          .text = sink_.text,
          .done = [this](absl::StatusOr<Answer> answer) { part_answer_ = *std::move(answer); }},
      cancel_flag());
}

absl::Status CorpusRun::Start() {
  between_ = false;
  return part_->Start();
}

absl::Status CorpusRun::AfterStep(SegmentResult result) {
  LECTERN_RETURN_IF_ERROR(part_->AfterStep(std::move(result)));
  return part_->done() ? PartEnded() : absl::OkStatus();
}

absl::Status CorpusRun::PartEnded() {
  if (comparison_.size() < question_.generation->contexts.size()) return Weighed();
  Answered();
  return absl::OkStatus();
}

absl::Status CorpusRun::Weighed() {
  if (comparison_.size() == 0) {
    weighing_.queue_time_us = part_answer_.usage.queue_time_us;
  }
  Add(part_answer_.usage, &weighing_);
  comparison_.Add(part_->TakeObserved(), part_answer_.coverage);
  part_answer_ = {};
  if (comparison_.size() < question_.generation->contexts.size()) {
    Weigh(static_cast<uint32_t>(comparison_.size()));
    between_ = true;
    return absl::OkStatus();
  }
  part_.reset();
  const bool retrieves = question_.purpose == Question::Purpose::kRetrieve;
  LECTERN_ASSIGN_OR_RETURN(result_, comparison_.Compare(*around_.catalog, *question_.generation,
                                                        retrieves ? question_.evidence_limit : 1));
  if (retrieves) return Retrieved();
  AnswerFrom(0);
  between_ = true;
  return absl::OkStatus();
}

absl::Status CorpusRun::Retrieved() {
  Retrieval retrieval = {.generation = question_.generation_name,
                         .coverage = result_.ranking[0].coverage,
                         .usage = weighing_};
  LECTERN_ASSIGN_OR_RETURN(retrieval.spans,
                           Quote(result_.found, *around_.catalog, *question_.generation));
  for (const ContextComparison::Rank& rank : result_.ranking) {
    LECTERN_ASSIGN_OR_RETURN(
        ContextInfo info, DescribeContext(*around_.catalog, *question_.generation, rank.context));
    retrieval.contexts.push_back(
        {.context = std::move(info), .mass = rank.mass, .coverage = rank.coverage});
  }
  retrieval.usage.total_time_us = around_.clock_us() - question_.accepted_us;
  done_ = true;
  around_.ended();
  retrieved_(std::move(retrieval));
  return absl::OkStatus();
}

void CorpusRun::Answered() {
  part_.reset();
  Answer answer = std::exchange(part_answer_, {});
  answer.usage.queue_time_us = weighing_.queue_time_us;
  if (answering_ == 0) Add(weighing_, &answer.usage);
  if (answering_ + 1 < answers_) {
    if (sink_.answered) sink_.answered(answer);
    AnswerFrom(answering_ + 1);
    between_ = true;
    return;
  }
  done_ = true;
  around_.ended();
  sink_.done(std::move(answer));
}

void CorpusRun::Fail(const absl::Status& status, bool draining) {
  part_.reset();
  done_ = true;
  around_.ended();
  if (question_.purpose == Question::Purpose::kRetrieve) {
    retrieved_(WithReason(status));
  } else {
    sink_.done(WithReason(status));
  }
}

}  // namespace lectern::engine
