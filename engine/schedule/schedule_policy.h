// Who starts and who is in the next step: decisions without threads, clocks or models, so that they
// can be tested by simulation. The same calls give the same decisions.
//
// Three classes: questions somebody waits for, questions of a batch, ingests; each before the next.
// Within a class the tenant goes first that has had least of it for its weight (fair_shares.h), of
// a tenant's questions the one with the earliest deadline, of its ingests the one that has had
// least; then the order of arrival.
//
// Nobody starves: a lower class goes first once higher ones have gone before it kClassTurns times,
// what waits for memory is passed at most kMostOvertaken times by what needs less, and an ingest
// that questions leave too little gets one part in kIngestPart of the tokens all the same.
//
// Spare rows (guesses at an answer's next tokens) get what is left when everybody who decodes has a
// row, and never take a row from anybody.
//
// Preemption is between steps: what has started keeps its context and its tokens and goes on when
// its turn comes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "engine/schedule/fair_shares.h"
#include "engine/schedule/memory_ledger.h"
#include "engine/schedule/run.h"

namespace lectern::engine {

// In order of arrival; 0 is none.
using RunId = uint64_t;
inline constexpr RunId kNoRun = 0;

inline constexpr int32_t kClassTurns = 8;
inline constexpr int32_t kMostOvertaken = 64;
inline constexpr int64_t kIngestPart = 8;

struct ScheduleLimits {
  int32_t questions = 256;        // waiting or started
  int32_t active_questions = 32;  // in one step
  int32_t decode_rows = kMaxDecodeRows;
  // Spare rows of one step while a single row is decoded; every further one leaves two fewer, for a
  // row that may be for nothing is worth less the more rows share what a step reads once. Less than
  // kMaxDecodeRows.
  int32_t spare_rows = 0;
  // Prefilled in one step: while nobody waits, and while somebody does (an ingest's chunk delays
  // each token of an answer by no more than that many tokens' time).
  int64_t chunk_tokens = 1024;
  int64_t shared_chunk_tokens = 256;
  MemoryLedger::Limits memory;
};

class SchedulePolicy {
 public:
  explicit SchedulePolicy(const ScheduleLimits& limits);

  // A run has come. Where the queue is full, a question of the tenant that has most of it for its
  // weight makes room if the newcomer's tenant has less: its last one that has never started,
  // batches first. REQUIRES: id is larger than any before.
  struct Arrival {
    bool accepted = true;
    RunId displaced = kNoRun;  // has been removed; its caller is told to come again
  };
  Arrival Arrive(RunId id, const RunTerms& terms, const RunNeeds& needs);

  // The run that starts now: it holds its memory until End. kNoRun: nothing can.
  RunId Admit();

  // It has started, gives back what it holds and waits anew, for `needs`.
  void WaitAgain(RunId id, const RunNeeds& needs);

  // It is over, or left before it started. REQUIRES: known.
  void End(RunId id);

  // The next step. `wishes`: of every run that has started, in any order.
  struct Wish {
    RunId run = kNoRun;
    Run::Wish wish;
  };
  struct Grant {
    RunId run = kNoRun;
    int64_t tokens = 0;
    friend bool operator==(const Grant&, const Grant&) = default;
  };
  std::vector<Grant> PlanStep(std::span<const Wish> wishes);

  int64_t questions() const { return questions_; }
  int64_t waiting() const { return waiting_; }
  int64_t active() const { return static_cast<int64_t>(runs_.size()) - waiting_; }
  const MemoryLedger& memory() const { return memory_; }

 private:
  static constexpr int kClasses = 3;
  struct Entry {
    RunTerms terms;
    RunNeeds needs;
    int rank = 0;  // of its class, 0 is first
    bool active = false;
    bool begun = false;  // has started before
    int32_t overtaken = 0;
    int64_t granted = 0;  // tokens
  };
  using Runs = std::map<RunId, Entry>;

  RunId Displaced(const RunTerms& newcomer) const;
  // Runs of one class; `waiting`: to start, else in a step.
  std::vector<RunId> InOrder(int rank, std::vector<RunId> runs, bool waiting) const;
  int64_t ActiveQuestions(int rank) const;
  void Give(RunId run, int64_t tokens, std::vector<Grant>* step);
  // Spare rows to those that decode in `step`, in its order, one each until nothing is left to
  // give.
  void GiveSpare(const std::map<RunId, Run::Wish>& wanted, int64_t rows, std::vector<Grant>* step);

  const ScheduleLimits limits_;
  MemoryLedger memory_;
  Runs runs_;
  int64_t questions_ = 0;
  int64_t waiting_ = 0;
  FairShares shares_[kClasses];
  int32_t passed_over_[kClasses] = {};  // while it waited to start
  int32_t steps_without_[kClasses] = {};
  int64_t ingest_credit_ = 0;  // tokens owed to ingests, see kIngestPart
};

}  // namespace lectern::engine
