#include "engine/schedule/schedule_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace lectern::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Grant = SchedulePolicy::Grant;

ScheduleLimits Limits() {
  return {.questions = 4,
          .active_questions = 2,
          .decode_rows = 8,
          .chunk_tokens = 1024,
          .shared_chunk_tokens = 256,
          .memory = {.kv_slots = 100, .index_slots = 100}};
}

RunTerms Question(uint64_t tenant = 1, int64_t deadline_us = 0) {
  return {.tenant_uid = tenant, .deadline_us = deadline_us};
}
RunTerms Batch(uint64_t tenant = 1) { return {.priority = Priority::kBatch, .tenant_uid = tenant}; }
RunTerms Ingest(uint64_t tenant = 1) { return {.kind = RunKind::kIngest, .tenant_uid = tenant}; }

SchedulePolicy::Wish Prefill(RunId run, int64_t tokens) {
  return {.run = run, .wish = {.tokens = tokens, .tiled = true}};
}
SchedulePolicy::Wish Decode(RunId run, int64_t rows = 1) {
  return {.run = run, .wish = {.tokens = rows, .tiled = false}};
}

std::vector<RunId> AdmitAll(SchedulePolicy* policy) {
  std::vector<RunId> ids;
  while (const RunId id = policy->Admit()) ids.push_back(id);
  return ids;
}

TEST(SchedulePolicyTest, QuestionsStartInOrderAsFarAsThereArePlaces) {
  SchedulePolicy policy(Limits());
  for (RunId id = 1; id <= 4; ++id) ASSERT_TRUE(policy.Arrive(id, Question(), {}).accepted);
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1, 2));
  policy.End(1);
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(3));
  EXPECT_EQ(policy.waiting(), 1);
  EXPECT_EQ(policy.active(), 2);
}

TEST(SchedulePolicyTest, TheEarlierDeadlineGoesFirstWithinATenant) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Question(), {});
  policy.Arrive(2, Question(1, 900), {});
  policy.Arrive(3, Question(1, 500), {});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(3, 2)) << "none is the latest of all";
}

TEST(SchedulePolicyTest, PlacesAreSharedAmongTenants) {
  SchedulePolicy policy(Limits());
  for (RunId id = 1; id <= 3; ++id) policy.Arrive(id, Question(1), {});
  policy.Arrive(4, Question(2), {});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1, 4)) << "not 1 and 2, though they came first";
}

TEST(SchedulePolicyTest, AFullQueueRefusesTheTenantThatFillsIt) {
  SchedulePolicy policy(Limits());
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, Question(1), {});
  EXPECT_FALSE(policy.Arrive(5, Question(1), {}).accepted);
  EXPECT_EQ(policy.questions(), 4);
}

TEST(SchedulePolicyTest, AFullQueueMakesRoomForTheTenantThatHasLess) {
  SchedulePolicy policy(Limits());
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, Question(1), {});
  AdmitAll(&policy);  // 1 and 2 have started and are safe
  SchedulePolicy::Arrival arrival = policy.Arrive(5, Question(2), {});
  EXPECT_TRUE(arrival.accepted);
  EXPECT_EQ(arrival.displaced, 4u) << "the last that has not started";
  arrival = policy.Arrive(6, Question(2), {});
  EXPECT_EQ(arrival.displaced, 3u) << "three to one becomes even";
  EXPECT_FALSE(policy.Arrive(7, Question(2), {}).accepted) << "even stays even";
  EXPECT_EQ(policy.questions(), 4);
}

// Between two contexts a run gives back what it held, lets others have it and keeps its place.
TEST(SchedulePolicyTest, ARunThatWaitsAgainGivesBackItsMemoryAndIsNotDisplaced) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Question(1), {.kv_slots = 60, .base = 7, .base_index_slots = 50});
  policy.Arrive(2, Question(1), {.kv_slots = 60});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1));
  policy.WaitAgain(1, {.kv_slots = 30, .base = 8, .base_index_slots = 20});
  EXPECT_EQ(policy.memory().kv_slots(), 0);
  EXPECT_EQ(policy.memory().index_slots(), 0);
  EXPECT_EQ(policy.waiting(), 2);
  EXPECT_EQ(policy.active(), 0);
  EXPECT_EQ(policy.questions(), 2);
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1, 2)) << "it came first";
  EXPECT_EQ(policy.memory().kv_slots(), 90);
  EXPECT_EQ(policy.memory().index_slots(), 20);

  for (RunId id = 3; id <= 4; ++id) policy.Arrive(id, Question(1), {.kv_slots = 100});
  for (RunId id = 1; id <= 2; ++id) policy.WaitAgain(id, {.kv_slots = 100});
  const SchedulePolicy::Arrival arrival = policy.Arrive(5, Question(2), {});
  EXPECT_TRUE(arrival.accepted);
  EXPECT_EQ(arrival.displaced, 4u) << "1 and 2 wait, but they have started";
  EXPECT_EQ(policy.Arrive(6, Question(2), {}).displaced, 3u);
  for (const RunId id : {1, 2, 5, 6}) policy.End(id);
  EXPECT_EQ(policy.waiting(), 0);
  EXPECT_EQ(policy.memory().kv_slots(), 0);
}

TEST(SchedulePolicyTest, WeightsCountWhenRoomIsMade) {
  SchedulePolicy policy(Limits());
  RunTerms heavy = Question(1);
  heavy.weight = 9;
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, heavy, {});
  EXPECT_FALSE(policy.Arrive(5, Question(2), {}).accepted) << "1 of weight 1 is more than 4 of 9";
}

TEST(SchedulePolicyTest, ATenantsOwnBatchMakesRoomForItsQuestion) {
  SchedulePolicy policy(Limits());
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, Batch(), {});
  const SchedulePolicy::Arrival arrival = policy.Arrive(5, Question(), {});
  EXPECT_TRUE(arrival.accepted);
  EXPECT_EQ(arrival.displaced, 4u);
  EXPECT_FALSE(policy.Arrive(6, Batch(), {}).accepted);
}

TEST(SchedulePolicyTest, BatchesPauseForQuestionsAndGoOn) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Batch(), {});
  policy.Arrive(2, Batch(), {});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1, 2));
  policy.Arrive(3, Question(), {});
  policy.Arrive(4, Question(), {});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(3, 4)) << "batches hold no place against questions";
  const std::vector<SchedulePolicy::Wish> wishes = {Decode(1), Decode(2), Decode(3), Decode(4)};
  for (int step = 0; step < kClassTurns; ++step) {
    EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{3, 1}, Grant{4, 1}));
  }
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{1, 1}, Grant{2, 1})) << "their turn";
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{3, 1}, Grant{4, 1}));
  policy.End(3);
  policy.End(4);
  EXPECT_THAT(policy.PlanStep(std::vector{Decode(1), Decode(2)}),
              ElementsAre(Grant{1, 1}, Grant{2, 1}));
}

TEST(SchedulePolicyTest, ALowerClassStartsAfterSoManyOfAHigherOne) {
  ScheduleLimits limits = Limits();
  limits.questions = 100;
  limits.active_questions = 1;
  SchedulePolicy policy(limits);
  RunId id = 0;
  policy.Arrive(++id, Batch(), {});
  const RunId batch = id;
  std::vector<RunId> started;
  for (int i = 0; i < kClassTurns + 1; ++i) {
    policy.Arrive(++id, Question(), {});
    started.push_back(policy.Admit());
    policy.End(started.back());
  }
  EXPECT_EQ(started.back(), batch);
  started.pop_back();
  EXPECT_THAT(started, ::testing::Not(::testing::Contains(batch)));
}

TEST(SchedulePolicyTest, WhatWaitsForMemoryIsPassedOnlySoOften) {
  ScheduleLimits limits = Limits();
  limits.questions = 1000;
  limits.active_questions = 1000;
  SchedulePolicy policy(limits);
  policy.Arrive(1, Question(1), {.kv_slots = 60});
  policy.Arrive(2, Question(1), {.kv_slots = 80});  // waits for the first
  EXPECT_EQ(policy.Admit(), 1u);
  RunId id = 2;
  int passed = 0;
  for (; passed < 10 * kMostOvertaken; ++passed) {
    policy.Arrive(++id, Question(1), {.kv_slots = 1});
    const RunId started = policy.Admit();
    if (started == kNoRun) break;
    policy.End(started);
  }
  EXPECT_EQ(passed, kMostOvertaken);
  policy.End(1);
  EXPECT_EQ(policy.Admit(), 2u);
}

TEST(SchedulePolicyTest, DecodeRowsStayWithinTheLimitAndTakeTurns) {
  ScheduleLimits limits = Limits();
  limits.active_questions = 4;
  limits.decode_rows = 2;
  SchedulePolicy policy(limits);
  for (RunId id = 1; id <= 3; ++id) policy.Arrive(id, Question(id), {});
  AdmitAll(&policy);
  const std::vector<SchedulePolicy::Wish> wishes = {Decode(1), Decode(2), Decode(3)};
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{1, 1}, Grant{2, 1}));
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{3, 1}, Grant{1, 1}));
  EXPECT_THAT(policy.PlanStep(std::vector{Decode(2, 3)}), ElementsAre(Grant{2, 3}))
      << "what is larger than the limit goes alone rather than never";
}

SchedulePolicy::Wish DecodeAndMore(RunId run, int64_t spare) {
  return {.run = run, .wish = {.tokens = 1, .tiled = false, .spare = spare}};
}

TEST(SchedulePolicyTest, SpareRowsAreWhatIsLeftOverInTurn) {
  ScheduleLimits limits = Limits();
  limits.active_questions = 4;
  limits.spare_rows = 10;
  SchedulePolicy policy(limits);
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, Question(), {});
  AdmitAll(&policy);
  EXPECT_THAT(policy.PlanStep(std::vector{DecodeAndMore(1, 15)}), ElementsAre(Grant{1, 11}));
  EXPECT_THAT(policy.PlanStep(std::vector{DecodeAndMore(1, 3)}), ElementsAre(Grant{1, 4}));
  EXPECT_THAT(policy.PlanStep(std::vector{DecodeAndMore(1, 15), Decode(2), DecodeAndMore(3, 1),
                                          DecodeAndMore(4, 15)}),
              ElementsAre(Grant{1, 3}, Grant{2, 1}, Grant{3, 2}, Grant{4, 2}));
  EXPECT_THAT(policy.PlanStep(std::vector{Prefill(1, 100), DecodeAndMore(2, 2)}),
              ElementsAre(Grant{1, 100}, Grant{2, 3}));
}

TEST(SchedulePolicyTest, SpareRowsTakeNobodysRow) {
  ScheduleLimits limits = Limits();
  limits.active_questions = 4;
  limits.decode_rows = 3;
  limits.spare_rows = 3;
  SchedulePolicy policy(limits);
  for (RunId id = 1; id <= 4; ++id) policy.Arrive(id, Question(id), {});
  AdmitAll(&policy);
  EXPECT_THAT(policy.PlanStep(std::vector{DecodeAndMore(1, 15), DecodeAndMore(2, 15), Decode(3)}),
              ElementsAre(Grant{1, 1}, Grant{2, 1}, Grant{3, 1}));
  EXPECT_THAT(policy.PlanStep(std::vector{DecodeAndMore(1, 15), DecodeAndMore(4, 15)}),
              ElementsAre(Grant{4, 2}, Grant{1, 1}));
  // None without the limit.
  limits.spare_rows = 0;
  SchedulePolicy without(limits);
  without.Arrive(1, Question(), {});
  AdmitAll(&without);
  EXPECT_THAT(without.PlanStep(std::vector{DecodeAndMore(1, 15)}), ElementsAre(Grant{1, 1}));
}

TEST(SchedulePolicyTest, AnIngestHasTheWholeChunkWhileNobodyWaits) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Ingest(), {});
  policy.Arrive(2, Ingest(), {});
  EXPECT_THAT(AdmitAll(&policy), ElementsAre(1, 2));
  const std::vector<SchedulePolicy::Wish> wishes = {Prefill(1, 100'000), Prefill(2, 100'000)};
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{1, 1024}));
  EXPECT_THAT(policy.PlanStep(wishes), ElementsAre(Grant{2, 1024})) << "they take turns";
  EXPECT_THAT(policy.PlanStep(std::vector{Prefill(1, 24), Prefill(2, 100'000)}),
              ElementsAre(Grant{1, 24}, Grant{2, 1000}))
      << "nothing is left unused";
}

TEST(SchedulePolicyTest, QuestionsAreReadBeforeAnIngestAndDecodeBesideIt) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Ingest(), {});
  policy.Arrive(2, Question(), {});
  policy.Arrive(3, Question(), {});
  AdmitAll(&policy);
  EXPECT_THAT(policy.PlanStep(std::vector{Prefill(1, 5000), Prefill(2, 100), Decode(3)}),
              ElementsAre(Grant{2, 100}, Grant{3, 1}, Grant{1, 156}));
}

TEST(SchedulePolicyTest, AnIngestIsNeverLeftWithoutItsPart) {
  SchedulePolicy policy(Limits());
  policy.Arrive(1, Ingest(), {});
  policy.Arrive(2, Question(), {});
  AdmitAll(&policy);
  const std::vector<SchedulePolicy::Wish> wishes = {Prefill(1, 1 << 30), Prefill(2, 1 << 30)};
  int64_t ingested = 0, read = 0;
  for (int step = 0; step < 900; ++step) {
    for (const Grant& grant : policy.PlanStep(wishes)) {
      (grant.run == 1 ? ingested : read) += grant.tokens;
    }
  }
  EXPECT_EQ(ingested + read, 900 * 256);
  EXPECT_NEAR(static_cast<double>(ingested) / (900 * 256), 1.0 / kIngestPart, 0.005);
}

TEST(SchedulePolicyTest, NothingWishedNothingGranted) {
  SchedulePolicy policy(Limits());
  EXPECT_THAT(policy.PlanStep({}), IsEmpty());
  EXPECT_EQ(policy.Admit(), kNoRun);
}

}  // namespace
}  // namespace lectern::engine
