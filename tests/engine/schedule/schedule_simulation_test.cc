// The schedule under thousands of random days: tenants with weights, floods and pauses, questions,
// batches and ingests with needs of memory. Whatever comes, bounds hold in every step, nobody
// starves, work is never left lying, and the same day gives the same decisions.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "engine/schedule/schedule_policy.h"

namespace lectern::engine {
namespace {

struct Job {
  RunTerms terms;
  RunNeeds needs;
  int64_t prefill = 0;  // tokens left
  int64_t decode = 0;   // likewise, one a step
  int64_t came = 0;     // step
  int64_t spare = 0;    // rows beside a decode row, guesses that are half right
  bool started = false;

  Run::Wish Wish() const {
    return prefill > 0
               ? Run::Wish{.tokens = prefill, .tiled = true}
               : Run::Wish{.tokens = 1, .tiled = false, .spare = std::min(spare, decode - 1)};
  }
  bool done() const { return prefill == 0 && decode == 0; }
};

// One decision; a day's are compared with those of its repetition.
struct Decision {
  int64_t step;
  int what;  // 0 arrival, 1 start, 2 grant
  RunId run;
  int64_t detail;
  bool operator==(const Decision&) const = default;
};

class Day {
 public:
  Day(uint64_t seed, const ScheduleLimits& limits) : limits_(limits), rng_(seed), policy_(limits) {}

  // Arrivals for `steps` steps, then until all is done. EXPECTs the invariants.
  std::vector<Decision> Run(int64_t steps) {
    const int tenants = Up(4);
    for (int tenant = 1; tenant <= tenants; ++tenant) weights_[tenant] = Up(3) == 3 ? Up(20) : 1;
    const int rush = Up(6);  // arrivals per step, in bursts
    for (; step_ < steps || !jobs_.empty(); ++step_) {
      if (step_ < steps && Up(4) == 1) {
        for (int i = Up(rush); i > 0; --i) Arrive(Up(tenants));
      }
      if (!jobs_.empty() && Up(40) == 1) Cancel();
      Start();
      Step();
      if (::testing::Test::HasFailure() || step_ > steps + 200'000) {
        ADD_FAILURE() << "step " << step_ << ", " << jobs_.size() << " jobs left";
        break;
      }
    }
    return log_;
  }

 private:
  int Up(int most) { return std::uniform_int_distribution<int>(1, most)(rng_); }

  void Arrive(int tenant) {
    Job job;
    job.came = step_;
    job.terms.tenant_uid = static_cast<uint64_t>(tenant);
    job.terms.weight = weights_[tenant];
    const int kind = Up(10);
    if (kind == 1) {
      job.terms.kind = RunKind::kIngest;
      job.prefill = Up(8000);
      job.needs = {.kv_slots = Up(40), .index_slots = Up(40)};
    } else {
      job.terms.priority = kind <= 4 ? Priority::kBatch : Priority::kInteractive;
      job.terms.deadline_us = Up(2) == 1 ? Up(1'000'000) : 0;
      job.prefill = Up(Up(5) == 1 ? 2000 : 60);
      job.decode = Up(40);
      job.spare = Up(3) == 1 ? Up(15) : 0;
      job.needs = {.kv_slots = Up(Up(8) == 1 ? 100 : 6),
                   .index_slots = Up(3),
                   .base = static_cast<uint64_t>(Up(5)),
                   .base_index_slots = Up(30)};
    }
    const RunId id = ++last_;
    const int64_t before = policy_.questions();
    const SchedulePolicy::Arrival arrival = policy_.Arrive(id, job.terms, job.needs);
    log_.push_back({step_, 0, id, arrival.accepted ? static_cast<int64_t>(arrival.displaced) : -1});
    if (arrival.displaced != kNoRun) {
      const auto displaced = jobs_.find(arrival.displaced);
      ASSERT_NE(displaced, jobs_.end());
      EXPECT_FALSE(displaced->second.started) << "what has started is never lost";
      EXPECT_EQ(displaced->second.terms.kind, RunKind::kQuestion);
      EXPECT_EQ(before, limits_.questions) << "only where the queue is full";
      jobs_.erase(displaced);
    }
    if (!arrival.accepted) {
      EXPECT_EQ(job.terms.kind, RunKind::kQuestion) << "ingests have bounds of their own";
      EXPECT_EQ(before, limits_.questions);
      return;
    }
    jobs_[id] = job;
    EXPECT_LE(policy_.questions(), limits_.questions);
  }

  void Cancel() {
    auto job = jobs_.begin();
    std::advance(job, Up(static_cast<int>(jobs_.size())) - 1);
    policy_.End(job->first);
    jobs_.erase(job);
  }

  void Start() {
    while (const RunId id = policy_.Admit()) {
      ASSERT_TRUE(jobs_.contains(id));
      EXPECT_FALSE(jobs_[id].started);
      jobs_[id].started = true;
      log_.push_back({step_, 1, id, 0});
    }
    // Memory, counted anew.
    int64_t kv = 0, index = 0;
    std::map<uint64_t, int64_t> bases;
    bool waiting = false, started = false;
    for (const auto& [id, job] : jobs_) {
      waiting |= !job.started;
      started |= job.started;
      if (!job.started) continue;
      kv += job.needs.kv_slots;
      index += job.needs.index_slots;
      if (job.needs.base != 0) {
        int64_t& slots = bases[job.needs.base];
        slots = std::max(slots, job.needs.base_index_slots);
      }
    }
    // A base's slots are given back with its last run: never less than counted here.
    for (const auto& [base, slots] : bases) index += slots;
    EXPECT_LE(kv, limits_.memory.kv_slots);
    EXPECT_EQ(kv, policy_.memory().kv_slots());
    EXPECT_LE(index, policy_.memory().index_slots());
    EXPECT_LE(policy_.memory().index_slots(), limits_.memory.index_slots);
    EXPECT_TRUE(started || !waiting) << "somebody waits and nothing runs";
  }

  void Step() {
    std::vector<SchedulePolicy::Wish> wishes;
    bool questions = false;
    for (const auto& [id, job] : jobs_) {
      if (!job.started) continue;
      wishes.push_back({.run = id, .wish = job.Wish()});
      questions |= job.terms.kind == RunKind::kQuestion;
    }
    const std::vector<SchedulePolicy::Grant> grants = policy_.PlanStep(wishes);
    EXPECT_EQ(grants.empty(), wishes.empty()) << "work is left lying";
    std::set<RunId> granted;
    int64_t rows = 0, spare = 0, prefill = 0, places = 0;
    for (const SchedulePolicy::Grant& grant : grants) {
      log_.push_back({step_, 2, grant.run, grant.tokens});
      ASSERT_TRUE(jobs_.contains(grant.run));
      Job& job = jobs_[grant.run];
      ASSERT_TRUE(job.started);
      EXPECT_TRUE(granted.insert(grant.run).second) << "twice in one step";
      ASSERT_GT(grant.tokens, 0);
      ASSERT_LE(grant.tokens, job.Wish().tokens + job.Wish().spare);
      places += job.terms.kind == RunKind::kQuestion;
      if (job.prefill > 0) {
        job.prefill -= grant.tokens;
        prefill += grant.tokens;
      } else {
        rows += grant.tokens;
        spare += grant.tokens - 1;
        job.decode -= 1 + (grant.tokens - 1) / 2;
      }
      if (job.done()) {
        policy_.End(grant.run);
        jobs_.erase(grant.run);
      }
    }
    EXPECT_LE(rows - spare, limits_.decode_rows);
    EXPECT_LE(spare, std::max<int64_t>(0, limits_.spare_rows - 2 * (rows - spare - 1)));
    EXPECT_LE(places, limits_.active_questions);
    EXPECT_LE(prefill, questions ? limits_.shared_chunk_tokens : limits_.chunk_tokens);
  }

  const ScheduleLimits limits_;
  std::mt19937_64 rng_;
  SchedulePolicy policy_;
  std::map<int, int32_t> weights_;
  std::map<RunId, Job> jobs_;
  std::vector<Decision> log_;
  RunId last_ = kNoRun;
  int64_t step_ = 0;
};

ScheduleLimits RandomLimits(uint64_t seed) {
  std::mt19937_64 rng(seed);
  const auto up = [&](int most) { return std::uniform_int_distribution<int>(1, most)(rng); };
  const int active = up(32);
  return {.questions = active + up(40),
          .active_questions = active,
          .decode_rows = up(64),
          .spare_rows = up(2) == 1 ? up(32) : 0,
          .chunk_tokens = 1024,
          .shared_chunk_tokens = 64 * up(4),
          .memory = {.kv_slots = 100 + up(200), .index_slots = 40 + up(200)}};
}

TEST(ScheduleSimulationTest, BoundsHoldAndEverythingEndsOnThousandsOfDays) {
  int64_t decisions = 0;
  for (uint64_t seed = 1; seed <= 2500; ++seed) {
    decisions += static_cast<int64_t>(Day(seed, RandomLimits(seed)).Run(120).size());
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
  EXPECT_GT(decisions, 1'000'000);
}

TEST(ScheduleSimulationTest, TheSameDayGivesTheSameDecisions) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    ASSERT_EQ(Day(seed, RandomLimits(seed)).Run(200), Day(seed, RandomLimits(seed)).Run(200))
        << "seed " << seed;
  }
}

// A tenant that asks one question at a time beside one that keeps the queue full for ever.
TEST(ScheduleSimulationTest, AFloodDelaysNobodyElseForLong) {
  const ScheduleLimits limits = {.questions = 64,
                                 .active_questions = 8,
                                 .decode_rows = 8,
                                 .memory = {.kv_slots = 1000, .index_slots = 1000}};
  SchedulePolicy policy(limits);
  std::map<RunId, Job> jobs;
  RunId last = kNoRun, quiet = kNoRun;
  int64_t waited = 0, longest = 0, answered = 0, refused = 0;
  for (int64_t step = 0; step < 20'000; ++step) {
    const auto arrive = [&](uint64_t tenant) {
      Job job = {.terms = {.tenant_uid = tenant}, .prefill = 20, .decode = 20};
      const RunId id = ++last;
      const SchedulePolicy::Arrival arrival = policy.Arrive(id, job.terms, job.needs);
      if (!arrival.accepted) return kNoRun;
      if (arrival.displaced != kNoRun) jobs.erase(arrival.displaced);
      jobs[id] = job;
      return id;
    };
    while (arrive(1) != kNoRun) continue;
    if (quiet == kNoRun) {
      quiet = arrive(2);
      refused += quiet == kNoRun;
      waited = 0;
    }
    while (const RunId id = policy.Admit()) jobs.at(id).started = true;
    std::vector<SchedulePolicy::Wish> wishes;
    for (const auto& [id, job] : jobs) {
      if (job.started) wishes.push_back({.run = id, .wish = job.Wish()});
    }
    for (const SchedulePolicy::Grant& grant : policy.PlanStep(wishes)) {
      Job& job = jobs.at(grant.run);
      if (job.prefill > 0) {
        job.prefill -= grant.tokens;
      } else {
        --job.decode;
      }
      if (!job.done()) continue;
      if (grant.run == quiet) {
        quiet = kNoRun;
        longest = std::max(longest, waited);
        ++answered;
      }
      policy.End(grant.run);
      jobs.erase(grant.run);
    }
    ++waited;
  }
  EXPECT_EQ(refused, 0) << "the flood makes room";
  EXPECT_GT(answered, 300);
  // 21 steps of its own, and at most one answer of the others before a place is free.
  EXPECT_LE(longest, 45);
}

// Two tenants that always want more: tokens in proportion to weights, in every class.
TEST(ScheduleSimulationTest, WeightsHoldInEveryClass) {
  for (const RunTerms terms : {RunTerms{.kind = RunKind::kQuestion},
                               RunTerms{.kind = RunKind::kQuestion, .priority = Priority::kBatch},
                               RunTerms{.kind = RunKind::kIngest}}) {
    SchedulePolicy policy({.memory = {.kv_slots = 10, .index_slots = 10}});
    RunTerms light = terms, heavy = terms;
    light.tenant_uid = 1;
    heavy.tenant_uid = 2;
    heavy.weight = 4;
    policy.Arrive(1, light, {});
    policy.Arrive(2, heavy, {});
    while (policy.Admit() != kNoRun) continue;
    std::map<RunId, int64_t> got;
    const std::vector<SchedulePolicy::Wish> wishes = {{.run = 1, .wish = {.tokens = 1 << 30}},
                                                      {.run = 2, .wish = {.tokens = 1 << 30}}};
    for (int step = 0; step < 1000; ++step) {
      for (const SchedulePolicy::Grant& grant : policy.PlanStep(wishes))
        got[grant.run] += grant.tokens;
    }
    EXPECT_NEAR(static_cast<double>(got[2]) / static_cast<double>(got[1]), 4, 0.05);
  }
}

}  // namespace
}  // namespace lectern::engine
