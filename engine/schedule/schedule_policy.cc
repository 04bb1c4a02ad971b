#include "engine/schedule/schedule_policy.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <tuple>

namespace lectern::engine {
namespace {

constexpr int kInteractiveRank = 0, kBatchRank = 1, kIngestRank = 2;

int RankOf(const RunTerms& terms) {
  if (terms.kind == RunKind::kIngest) return kIngestRank;
  return terms.priority == Priority::kBatch ? kBatchRank : kInteractiveRank;
}

bool IsQuestion(int rank) { return rank != kIngestRank; }

int64_t Deadline(const RunTerms& terms) {
  return terms.deadline_us == 0 ? std::numeric_limits<int64_t>::max() : terms.deadline_us;
}

// a / wa < b / wb for what two tenants have, by weight.
bool LessForItsWeight(int64_t a, int32_t weight_a, int64_t b, int32_t weight_b) {
  return a * weight_b < b * weight_a;
}

}  // namespace

SchedulePolicy::SchedulePolicy(const ScheduleLimits& limits)
    : limits_(limits), memory_(limits.memory) {}

SchedulePolicy::Arrival SchedulePolicy::Arrive(RunId id, const RunTerms& terms,
                                               const RunNeeds& needs) {
  assert(runs_.empty() || id > runs_.rbegin()->first);
  const int rank = RankOf(terms);
  Arrival arrival;
  if (IsQuestion(rank) && questions_ >= limits_.questions) {
    arrival.displaced = Displaced(terms);
    if (arrival.displaced == kNoRun) return {.accepted = false};
    End(arrival.displaced);
  }
  runs_.emplace_hint(runs_.end(), id, Entry{.terms = terms, .needs = needs, .rank = rank});
  shares_[rank].Enter(terms.tenant_uid);
  questions_ += IsQuestion(rank);
  ++waiting_;
  return arrival;
}

RunId SchedulePolicy::Displaced(const RunTerms& newcomer) const {
  struct Holding {
    int64_t questions = 0;
    int32_t weight = 1;   // as its last question said
    RunId last = kNoRun;  // that waits, a batch's before others
    int last_rank = -1;
  };
  std::map<uint64_t, Holding> holdings;
  for (const auto& [id, entry] : runs_) {
    if (!IsQuestion(entry.rank)) continue;
    Holding& holding = holdings[entry.terms.tenant_uid];
    ++holding.questions;
    holding.weight = entry.terms.weight;
    if (!entry.active && !entry.begun && entry.rank >= holding.last_rank) {
      holding.last = id;
      holding.last_rank = entry.rank;
    }
  }
  const Holding own = holdings[newcomer.tenant_uid];
  // A tenant's own batch makes room for a question that somebody waits for.
  if (own.last_rank > RankOf(newcomer)) return own.last;
  const Holding* most = nullptr;
  for (const auto& [tenant, holding] : holdings) {
    if (holding.last == kNoRun || tenant == newcomer.tenant_uid) continue;
    if (most == nullptr ||
        LessForItsWeight(most->questions, most->weight, holding.questions, holding.weight)) {
      most = &holding;
    }
  }
  // Only if the newcomer's tenant has less even with it: two tenants never displace each other in
  // turn.
  if (most == nullptr ||
      !LessForItsWeight(own.questions + 1, newcomer.weight, most->questions, most->weight)) {
    return kNoRun;
  }
  return most->last;
}

int64_t SchedulePolicy::ActiveQuestions(int rank) const {
  return std::count_if(runs_.begin(), runs_.end(), [&](const auto& one) {
    return one.second.active && IsQuestion(one.second.rank) && one.second.rank <= rank;
  });
}

std::vector<RunId> SchedulePolicy::InOrder(int rank, std::vector<RunId> runs, bool waiting) const {
  // Tenants first, as wholes: comparing run by run, what decides within a tenant and what decides
  // between two could go round in a circle.
  struct TenantPlace {
    int64_t started = 0;  // runs: those hold places in the steps for as long as they run
    int32_t weight = 1;
    int64_t time = 0;
    RunId first = kNoRun;
  };
  std::map<uint64_t, TenantPlace> tenants;
  for (const RunId id : runs) {
    const RunTerms& terms = runs_.at(id).terms;
    TenantPlace& place = tenants[terms.tenant_uid];
    place.weight = terms.weight;
    place.time = shares_[rank].Time(terms.tenant_uid);
    place.first = place.first == kNoRun ? id : std::min(place.first, id);
  }
  if (waiting) {
    for (const auto& [id, entry] : runs_) {
      const auto place = tenants.find(entry.terms.tenant_uid);
      if (entry.active && entry.rank == rank && place != tenants.end()) ++place->second.started;
    }
  }
  const auto less = [&](RunId a, RunId b) {
    const Entry& x = runs_.at(a);
    const Entry& y = runs_.at(b);
    if (x.terms.tenant_uid != y.terms.tenant_uid) {
      const TenantPlace& of_x = tenants.at(x.terms.tenant_uid);
      const TenantPlace& of_y = tenants.at(y.terms.tenant_uid);
      if (LessForItsWeight(of_x.started, of_x.weight, of_y.started, of_y.weight)) return true;
      if (LessForItsWeight(of_y.started, of_y.weight, of_x.started, of_x.weight)) return false;
      return std::tie(of_x.time, of_x.first) < std::tie(of_y.time, of_y.first);
    }
    const auto within = [&](const Entry& entry, RunId id) {
      return std::tuple(IsQuestion(rank) ? 0 : entry.granted, Deadline(entry.terms), id);
    };
    return within(x, a) < within(y, b);
  };
  std::sort(runs.begin(), runs.end(), less);
  return runs;
}

RunId SchedulePolicy::Admit() {
  if (waiting_ == 0) return kNoRun;
  std::vector<RunId> waiting[kClasses];
  for (const auto& [id, entry] : runs_) {
    if (!entry.active) waiting[entry.rank].push_back(id);
  }
  std::vector<int> ranks;
  for (int rank = kClasses - 1; rank > 0; --rank) {
    if (passed_over_[rank] >= kClassTurns) ranks.push_back(rank);
  }
  for (int rank = 0; rank < kClasses; ++rank) {
    if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) ranks.push_back(rank);
  }
  std::vector<Entry*> without_room;
  for (const int rank : ranks) {
    if (IsQuestion(rank) && ActiveQuestions(rank) >= limits_.active_questions) continue;
    for (const RunId id : InOrder(rank, waiting[rank], /*waiting=*/true)) {
      Entry& entry = runs_.at(id);
      if (!memory_.Fits(entry.needs)) {
        if (entry.overtaken >= kMostOvertaken) return kNoRun;
        without_room.push_back(&entry);
        continue;
      }
      for (Entry* passed : without_room) ++passed->overtaken;
      for (int lower = rank + 1; lower < kClasses; ++lower) {
        passed_over_[lower] += !waiting[lower].empty();
      }
      passed_over_[rank] = 0;
      entry.active = true;
      entry.begun = true;
      --waiting_;
      memory_.Hold(entry.needs);
      return id;
    }
  }
  return kNoRun;
}

void SchedulePolicy::WaitAgain(RunId id, const RunNeeds& needs) {
  Entry& entry = runs_.at(id);
  assert(entry.active);
  memory_.Release(entry.needs);
  entry.needs = needs;
  entry.active = false;
  ++waiting_;
}

void SchedulePolicy::End(RunId id) {
  const auto it = runs_.find(id);
  assert(it != runs_.end());
  const Entry& entry = it->second;
  if (entry.active) {
    memory_.Release(entry.needs);
  } else {
    --waiting_;
  }
  questions_ -= IsQuestion(entry.rank);
  shares_[entry.rank].Leave(entry.terms.tenant_uid);
  runs_.erase(it);
}

void SchedulePolicy::Give(RunId run, int64_t tokens, std::vector<Grant>* step) {
  Entry& entry = runs_.at(run);
  entry.granted += tokens;
  shares_[entry.rank].Charge(entry.terms.tenant_uid, entry.terms.weight, tokens);
  step->push_back({.run = run, .tokens = tokens});
}

void SchedulePolicy::GiveSpare(const std::map<RunId, Run::Wish>& wanted, int64_t rows,
                               std::vector<Grant>* step) {
  int64_t left = limits_.spare_rows - 2 * (rows - 1);
  for (bool given = true; given && left > 0;) {
    given = false;
    for (Grant& grant : *step) {
      const Run::Wish& wish = wanted.at(grant.run);
      if (wish.tiled || left == 0 || grant.tokens >= wish.tokens + wish.spare) continue;
      Entry& entry = runs_.at(grant.run);
      ++entry.granted;
      shares_[entry.rank].Charge(entry.terms.tenant_uid, entry.terms.weight, 1);
      ++grant.tokens;
      --left;
      given = true;
    }
  }
}

std::vector<SchedulePolicy::Grant> SchedulePolicy::PlanStep(std::span<const Wish> wishes) {
  std::map<RunId, Run::Wish> wanted;
  std::vector<RunId> order[kClasses];
  for (const Wish& wish : wishes) {
    wanted.emplace(wish.run, wish.wish);
    order[runs_.at(wish.run).rank].push_back(wish.run);
  }
  for (int rank = 0; rank < kClasses; ++rank) {
    order[rank] = InOrder(rank, std::move(order[rank]), /*waiting=*/false);
  }
  const bool questions = !order[kInteractiveRank].empty() || !order[kBatchRank].empty();
  int64_t budget = questions ? limits_.shared_chunk_tokens : limits_.chunk_tokens;

  std::vector<Grant> step;
  int64_t ingested = 0;
  const auto ingest = [&] {
    for (const RunId run : order[kIngestRank]) {
      const int64_t tokens = std::min(wanted.at(run).tokens, budget);
      if (tokens <= 0) return;
      Give(run, tokens, &step);
      budget -= tokens;
      ingested += tokens;
    }
  };
  // Paid out in whole chunks: a step's overhead is the same for few tokens as for many.
  const bool ingests_waited = questions && !order[kIngestRank].empty() && ingest_credit_ >= budget;
  if (ingests_waited) ingest();

  int64_t rows = 0;
  int32_t places = limits_.active_questions;
  int64_t granted[kClasses] = {};
  std::vector<int> ranks = {kInteractiveRank, kBatchRank};
  if (steps_without_[kBatchRank] >= kClassTurns) std::swap(ranks[0], ranks[1]);
  for (const int rank : ranks) {
    for (const RunId run : order[rank]) {
      if (places == 0) break;
      const Run::Wish& wish = wanted.at(run);
      if (wish.tiled) {
        const int64_t tokens = std::min(wish.tokens, budget);
        if (tokens <= 0) continue;
        Give(run, tokens, &step);
        budget -= tokens;
      } else {
        if (rows > 0 && rows + wish.tokens > limits_.decode_rows) continue;
        Give(run, wish.tokens, &step);
        rows += wish.tokens;
      }
      --places;
      ++granted[rank];
    }
  }
  steps_without_[kBatchRank] =
      order[kBatchRank].empty() || granted[kBatchRank] > 0 ? 0 : steps_without_[kBatchRank] + 1;
  GiveSpare(wanted, rows, &step);
  if (!ingests_waited) ingest();

  if (!questions || order[kIngestRank].empty()) {
    ingest_credit_ = 0;
  } else {
    ingest_credit_ += limits_.shared_chunk_tokens / kIngestPart - ingested;
    ingest_credit_ = std::clamp<int64_t>(ingest_credit_, 0, limits_.shared_chunk_tokens);
  }
  return step;
}

}  // namespace lectern::engine
