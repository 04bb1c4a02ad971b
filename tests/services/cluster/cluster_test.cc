// The parts of the cluster that need no etcd: hashing, the fence, records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <map>
#include <set>
#include <thread>

#include "engine/error/error.h"
#include "services/cluster/corpus_gate.h"
#include "services/cluster/fence.h"
#include "services/cluster/ownership.h"
#include "services/cluster/records.h"
#include "services/cluster/rendezvous.h"

namespace lectern::services {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

std::vector<Candidate> Groups(int count, double weight = 1) {
  std::vector<Candidate> groups;
  for (int i = 0; i < count; ++i) groups.push_back({"g" + std::to_string(i), weight});
  return groups;
}

std::string Chosen(int key, const std::vector<Candidate>& groups) {
  return groups[ChooseByRendezvous("tenant/corpus-" + std::to_string(key), groups).value()].name;
}

TEST(Rendezvous, SpreadsByWeight) {
  std::vector<Candidate> groups = Groups(4);
  groups[3].weight = 3;
  std::map<std::string, int> counts;
  constexpr int kKeys = 6000;
  for (int i = 0; i < kKeys; ++i) ++counts[Chosen(i, groups)];
  // Expected 1000, 1000, 1000, 3000; the standard deviations are 29 and 39.
  for (const char* group : {"g0", "g1", "g2"}) EXPECT_NEAR(counts[group], kKeys / 6, 150) << group;
  EXPECT_NEAR(counts["g3"], kKeys / 2, 200);
}

TEST(Rendezvous, DoesNotDependOnTheOrderOfGroups) {
  std::vector<Candidate> groups = Groups(5);
  const std::vector<Candidate> reversed(groups.rbegin(), groups.rend());
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Chosen(i, groups), Chosen(i, reversed));
}

TEST(Rendezvous, AGroupThatGoesMovesOnlyItsOwnNames) {
  const std::vector<Candidate> all = Groups(5);
  std::vector<Candidate> fewer = all;
  fewer.erase(fewer.begin() + 2);
  int moved = 0;
  for (int i = 0; i < 500; ++i) {
    const std::string before = Chosen(i, all);
    if (before == "g2") {
      ++moved;
    } else {
      EXPECT_EQ(Chosen(i, fewer), before);
    }
  }
  EXPECT_GT(moved, 0);
}

TEST(Rendezvous, FullGroupsAreNeverChosen) {
  std::vector<Candidate> groups = Groups(3, 0);
  EXPECT_FALSE(ChooseByRendezvous("t/c", groups).has_value());
  EXPECT_FALSE(ChooseByRendezvous("t/c", {}).has_value());
  groups[1].weight = 1e-3;
  EXPECT_EQ(ChooseByRendezvous("t/c", groups), 1u);
  // What it is for one name today it is for ever: a constant of the placement.
  EXPECT_EQ(Chosen(1, Groups(8)), Chosen(1, Groups(8)));
}

class FenceTest : public ::testing::Test {
 protected:
  nanoseconds now_{seconds(100)};
  Fence fence_{[this] { return now_; }};
};

TEST_F(FenceTest, IsClosedUntilALeaseIsPromised) {
  EXPECT_FALSE(fence_.Open());
  EXPECT_EQ(fence_.Remaining(), nanoseconds(0));
}

TEST_F(FenceTest, ClosesBeforeTheLeaseEnds) {
  const nanoseconds asked = now_;
  now_ += seconds(2);  // the answer took its time
  fence_.Renew(asked, seconds(10));
  EXPECT_TRUE(fence_.Open());
  EXPECT_EQ(fence_.Remaining(), seconds(7));
  now_ = asked + seconds(9) - nanoseconds(1);
  EXPECT_TRUE(fence_.Open());
  now_ = asked + seconds(9);
  EXPECT_FALSE(fence_.Open());
  // However late the process looks again.
  now_ = asked + seconds(86400);
  EXPECT_FALSE(fence_.Open());
  EXPECT_EQ(fence_.Remaining(), nanoseconds(0));
}

TEST_F(FenceTest, AnAnswerThatComesTooLatePromisesNothing) {
  const nanoseconds asked = now_;
  now_ += seconds(20);  // stopped in between
  fence_.Renew(asked, seconds(10));
  EXPECT_FALSE(fence_.Open());
}

TEST_F(FenceTest, CanBeClosedAtOnce) {
  fence_.Renew(now_, seconds(10));
  fence_.Close();
  EXPECT_FALSE(fence_.Open());
}

TEST(Fence, TheClockGoesOn) {
  const nanoseconds first = Fence::BootTime();
  EXPECT_GT(first, nanoseconds(0));
  EXPECT_GE(Fence::BootTime(), first);
}

void Put(Records& records, const RecordKeys& keys, const std::string& key, const std::string& value,
         int64_t revision) {
  records.Apply(keys, key, &value, revision, revision, 7);
}

TEST(Records, KeepWhatIsWritten) {
  const RecordKeys keys("/x");
  EXPECT_EQ(keys.prefix(), "/x/");
  Records records;
  Put(records, keys, keys.Group("g1"),
      ToValue(Group{"g1", "host:1", "abc", "0.1.0", int64_t{1} << 40}), 5);
  Put(records, keys, keys.Corpus({"t", "c"}), ToValue(Placement{.group = "g1"}), 6);
  Put(records, keys, keys.Purge("g2", {"t", "c"}), "{}", 7);
  TenantRecord tenant;
  tenant.tenant = {
      .id = "t", .display_name = "Ä \"x\"", .create_time_us = 3, .quota = {1, 2, 3, 4}};
  Put(records, keys, keys.Tenant("t"), ToValue(tenant), 8);

  ASSERT_EQ(records.groups.count("g1"), 1u);
  const Records::GroupRecord& group = records.groups.at("g1");
  EXPECT_EQ(group.group.address, "host:1");
  EXPECT_EQ(group.group.fingerprint, "abc");
  EXPECT_EQ(group.group.free_bytes, int64_t{1} << 40);
  EXPECT_EQ(group.create_revision, 5);
  EXPECT_EQ(group.lease, 7);
  const Placement& placement = records.corpora.at("t/c");
  EXPECT_EQ(placement.group, "g1");
  EXPECT_EQ(placement.epoch, 6);
  EXPECT_FALSE(placement.deleted);
  EXPECT_EQ(records.purges.at("g2/t/c"), 7);
  EXPECT_EQ(records.tenants.at("t").tenant.display_name, "Ä \"x\"");
  EXPECT_EQ(records.tenants.at("t").tenant.quota.concurrent_requests, 3);
  EXPECT_EQ(records.tenants.at("t").tenant.quota.weight, 4);

  Put(records, keys, keys.Corpus({"t", "c"}), ToValue(Placement{.group = "g1", .deleted = true}),
      9);
  EXPECT_TRUE(records.corpora.at("t/c").deleted);
  EXPECT_EQ(records.corpora.at("t/c").epoch, 9);
  for (const std::string& key : {keys.Group("g1"), keys.Corpus({"t", "c"}),
                                 keys.Purge("g2", {"t", "c"}), keys.Tenant("t")}) {
    records.Apply(keys, key, nullptr, 0, 10, 0);
  }
  EXPECT_TRUE(records.groups.empty() && records.corpora.empty() && records.purges.empty() &&
              records.tenants.empty());
}

TEST(Records, PassOverWhatTheyDoNotKnow) {
  const RecordKeys keys("/x/");
  Records records;
  Put(records, keys, "/y/groups/g1", R"({"address": "a:1"})", 1);
  Put(records, keys, "/x/weather/today", R"({"rain": true})", 1);
  Put(records, keys, keys.Corpus({"t", "c"}), "not json", 1);
  Put(records, keys, keys.Corpus({"t", "c"}), "[1]", 1);
  EXPECT_TRUE(records.groups.empty());
  EXPECT_TRUE(records.corpora.empty());
  // A later release may say more, or something else.
  Put(records, keys, keys.Corpus({"t", "c"}), R"({"group": "g1", "replicas": ["g2"]})", 2);
  EXPECT_EQ(records.corpora.at("t/c").group, "g1");
  Put(records, keys, keys.Group("g1"), R"({"address": 5, "free_bytes": "many"})", 3);
  EXPECT_EQ(records.groups.at("g1").group.address, "");
  EXPECT_EQ(records.groups.at("g1").group.free_bytes, 0);
}

TEST(Ownership, KnowsWhichMethodsAreAboutOneCorpus) {
  for (const char* method : {"Worker/GetCorpus", "Worker/Ask", "Worker/UploadDocument",
                             "Worker/WaitOperation", "Worker/ListTurns", "Worker/ListOperations"}) {
    EXPECT_TRUE(IsOfCorpus(method)) << method;
  }
  for (const char* method : {"Worker/ListCorpora", "Worker/GetStats", "Worker/CreateTenant",
                             "Worker/ListBackups", "Worker/CountTokens", "Worker/GetModel"}) {
    EXPECT_FALSE(IsOfCorpus(method)) << method;
  }
  // A method that is new is taken to be about a corpus, and needs a placement.
  EXPECT_TRUE(IsOfCorpus("Worker/Anything"));
}

TEST(Ownership, KnowsWhichMethodsChangeACorpus) {
  for (const char* method : {"Worker/IngestCorpus", "Worker/DeleteDocument", "Worker/UpdateCorpus",
                             "Worker/ForkSession", "Worker/CreateSession"}) {
    EXPECT_TRUE(IsOfCorpus(method) && ChangesCorpus(method)) << method;
  }
  for (const char* method : {"Worker/GetCorpus", "Worker/Retrieve", "Worker/ListTurns",
                             "Worker/WaitOperation", "Worker/ExportCorpus"}) {
    EXPECT_FALSE(ChangesCorpus(method)) << method;
  }
  // What the second copy has before it is acknowledged.
  for (const char* method : {"Worker/CreateCorpus", "Worker/UploadDocument", "Worker/UpdateCorpus",
                             "Worker/DeleteDocument", "Worker/DeleteSession"}) {
    EXPECT_TRUE(IsOnReplica(method)) << method;
  }
  EXPECT_FALSE(IsOnReplica("Worker/IngestCorpus") || IsOnReplica("Worker/GetCorpus"));
}

TEST(Records, MovesHoldsAndDrainsAreReadBackAndRemoved) {
  const RecordKeys keys("/x/");
  Records records;
  MoveRecord move;
  move.from = "g1";
  move.to = "g2";
  move.state = MoveState::kFailed;
  move.cancel = true;
  move.bytes_total = int64_t{1} << 40;
  move.bytes_done = 5;
  move.records_done = 6;
  move.attempts = 7;
  move.create_time_us = 8;
  move.end_time_us = 9;
  move.error = engine::Error(absl::StatusCode::kDataLoss, "TRANSFER_DAMAGED", "a \xff byte");
  Put(records, keys, keys.Move({"t", "c"}), ToValue(move), 11);
  Put(records, keys, keys.Hold({"t", "c"}), "{}", 12);
  Put(records, keys, keys.Drain("g1"), "{}", 13);
  Put(records, keys, keys.Corpus({"t", "c"}),
      ToValue(Placement{.group = "g2", .moved_from = "g1", .moved_epoch = 4}), 14);
  const MoveRecord& read = records.moves.at("t/c");
  EXPECT_EQ(read.name.tenant + read.name.corpus, "tc");
  EXPECT_EQ(read.from + read.to, "g1g2");
  EXPECT_EQ(read.state, MoveState::kFailed);
  EXPECT_TRUE(read.cancel);
  EXPECT_EQ(read.bytes_total, int64_t{1} << 40);
  EXPECT_THAT((std::vector<int64_t>{read.bytes_done, read.records_done, read.attempts,
                                    read.create_time_us, read.end_time_us, read.revision}),
              ElementsAre(5, 6, 7, 8, 9, 11));
  EXPECT_EQ(read.error.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(engine::ReasonOf(read.error), "TRANSFER_DAMAGED");
  EXPECT_EQ(records.holds.size(), 1u);
  EXPECT_TRUE(records.drains.contains("g1"));
  EXPECT_EQ(records.corpora.at("t/c").moved_from, "g1");
  EXPECT_EQ(records.corpora.at("t/c").moved_epoch, 4);
  // A state of a later release is none to work on.
  Put(records, keys, keys.Move({"t", "d"}), R"({"from": "g1", "to": "g2", "state": "paused"})", 15);
  EXPECT_NE(records.moves.at("t/d").state, MoveState::kRunning);
  for (const std::string& key :
       {keys.Move({"t", "c"}), keys.Move({"t", "d"}), keys.Hold({"t", "c"}), keys.Drain("g1")}) {
    records.Apply(keys, key, nullptr, 0, 16, 0);
  }
  EXPECT_TRUE(records.moves.empty() && records.holds.empty() && records.drains.empty());
}

TEST(Records, ReplicasAreReadBackAndRemoved) {
  const RecordKeys keys("/x/");
  Records records;
  Put(records, keys, keys.Replica({"t", "c"}),
      ToValue(ReplicaRecord{.group = "g2", .ready = true, .origin = {"s", 7}}), 11);
  Put(records, keys, keys.Replica({"t", "d"}), ToValue(ReplicaRecord{.group = "g3"}), 12);
  Put(records, keys, keys.Corpus({"t", "c"}), ToValue(Placement{.group = "g2", .origin = {"s", 7}}),
      13);
  EXPECT_EQ(records.replicas.at("t/c").group, "g2");
  EXPECT_EQ(records.replicas.at("t/c").name.corpus, "c");
  EXPECT_TRUE(records.replicas.at("t/c").ready);
  EXPECT_EQ(records.replicas.at("t/c").origin, (engine::CorpusOrigin{"s", 7}));
  EXPECT_EQ(records.replicas.at("t/c").revision, 11);
  EXPECT_FALSE(records.replicas.at("t/d").ready);
  EXPECT_EQ(records.corpora.at("t/c").origin, (engine::CorpusOrigin{"s", 7}));
  records.Apply(keys, keys.Replica({"t", "c"}), nullptr, 0, 16, 0);
  EXPECT_EQ(records.replicas.size(), 1u);
}

TEST(CorpusGate, TellsOfCallsThatMayHaveChangedSomething) {
  std::vector<std::string> told;
  CorpusGate gate([&](const engine::CorpusName& name) { told.push_back(name.corpus); });
  { const auto question = gate.Enter({"t", "c"}, false); }
  EXPECT_TRUE(told.empty());
  {
    const auto change = gate.Enter({"t", "d"}, true);
    EXPECT_TRUE(told.empty()) << "it has not ended";
  }
  EXPECT_EQ(told, (std::vector<std::string>{"d"}));
}

using SteadyClock = std::chrono::steady_clock;

TEST(CorpusGate, AHoldWaitsForChangesAndRefusesOthers) {
  CorpusGate gate;
  const engine::CorpusName name = {"t", "c"};
  std::optional<CorpusGate::Pass> change = gate.Enter(name, true);
  const std::optional<CorpusGate::Pass> question = gate.Enter(name, false);
  ASSERT_TRUE(change && question);
  EXPECT_EQ(gate.Inside(name), 2);
  auto held = std::async(std::launch::async, [&] {
    return gate.Hold(name, SteadyClock::now() + std::chrono::minutes(1));
  });
  while (gate.Holds().empty()) std::this_thread::yield();
  EXPECT_FALSE(gate.Enter(name, true));
  EXPECT_TRUE(gate.Enter(name, false)) << "questions are never refused";
  EXPECT_TRUE(gate.Enter({"t", "other"}, true));
  change.reset();
  EXPECT_TRUE(held.get()) << "a question in progress is not waited for";
  EXPECT_FALSE(gate.Hold(name, SteadyClock::now())) << "it is held already";
  EXPECT_FALSE(gate.Renew(name)) << "no record says so yet";
  gate.SetRevision(name, 7);
  EXPECT_EQ(gate.Renew(name), 7);
  gate.Release(name);
  EXPECT_TRUE(gate.Holds().empty());
  EXPECT_TRUE(gate.Enter(name, true));
}

TEST(CorpusGate, AHoldThatComesTooLateLetsChangesInAgain) {
  CorpusGate gate;
  const engine::CorpusName name = {"t", "c"};
  const std::optional<CorpusGate::Pass> change = gate.Enter(name, true);
  EXPECT_FALSE(gate.Hold(name, SteadyClock::now()));
  EXPECT_TRUE(gate.Holds().empty());
  EXPECT_TRUE(gate.Enter(name, true));
}

}  // namespace
}  // namespace lectern::services
