// One test body for every directory; then what only records in etcd can do, against a real etcd.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <future>
#include <memory>
#include <thread>

#include "engine/error/error.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/local_directory.h"
#include "services/security/tls.h"
#include "tests/e2e/etcd.h"
#include "tests/e2e/loopback.h"
#include "tests/support/certificates.h"

namespace lectern::services {
namespace {

using std::chrono::steady_clock;
using ::testing::ElementsAre;
using testing::Etcd;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kLong{20};
constexpr int64_t kLease = 60;

steady_clock::time_point Soon() { return steady_clock::now() + kLong; }

Etcd& SharedEtcd() {
  static Etcd* const etcd = new Etcd();
  static const bool at_end = std::atexit([] { SharedEtcd().process().Signal(SIGKILL); }) == 0;
  EXPECT_TRUE(at_end);
  return *etcd;
}

Group MakeGroup(const std::string& name, int64_t free_bytes = 1000) {
  return {.name = name,
          .address = name + ":7431",
          .fingerprint = "f",
          .version = "1",
          .free_bytes = free_bytes};
}

// A process of the cluster: its own connection and its own copy.
struct Side {
  explicit Side(const std::string& prefix, const std::string& address = SharedEtcd().address())
      : client({.endpoints = {address}, .credentials = grpc::InsecureChannelCredentials()}),
        directory(client, prefix) {
    EXPECT_TRUE(directory.WaitSynced(Soon()));
  }
  int64_t Join(const Group& group) {
    const auto lease = client.GrantLease(kLease);
    EXPECT_TRUE(lease.ok()) << lease.status();
    const auto revision = directory.Register(group, lease->id);
    EXPECT_TRUE(revision.ok()) << revision.status();
    EXPECT_TRUE(directory.WaitRevision(revision.value_or(0), Soon()));
    return lease->id;
  }
  EtcdClient client;
  EtcdDirectory directory;
};

std::string FreshPrefix() {
  static int count = 0;
  return "/test" + std::to_string(++count) + "/";
}

// ---- what every directory promises, with one group in it ----

struct WithOneGroup {
  std::unique_ptr<Side> side;  // where records are kept
  std::unique_ptr<Directory> own;
  Directory* directory = nullptr;
};

WithOneGroup Local() {
  WithOneGroup made;
  made.own = std::make_unique<LocalDirectory>(MakeGroup("g1"));
  made.directory = made.own.get();
  return made;
}

WithOneGroup InEtcd() {
  WithOneGroup made;
  made.side = std::make_unique<Side>(FreshPrefix());
  made.side->Join(MakeGroup("g1"));
  made.directory = &made.side->directory;
  return made;
}

class EveryDirectory : public ::testing::TestWithParam<WithOneGroup (*)()> {};

TEST_P(EveryDirectory, KnowsItsGroup) {
  const WithOneGroup made = GetParam()();
  const std::vector<Group> groups = made.directory->Groups();
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].name, "g1");
  EXPECT_EQ(groups[0].address, "g1:7431");
  EXPECT_TRUE(made.directory->Reachable());
}

TEST_P(EveryDirectory, PlacesANameOnceAndFindsIt) {
  const WithOneGroup made = GetParam()();
  Directory& directory = *made.directory;
  const auto placed = directory.Place({"t", "c"});
  ASSERT_TRUE(placed.ok()) << placed.status();
  EXPECT_EQ(placed->group, "g1");
  EXPECT_FALSE(placed->deleted);
  const auto again = directory.Place({"t", "c"});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->epoch, placed->epoch);
  const auto found = directory.Find({"t", "c"});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->group, "g1");
  EXPECT_EQ(found->epoch, placed->epoch);
  // What is known without asking follows.
  std::optional<Placement> known;
  while (!known) known = directory.Known({"t", "c"});
  EXPECT_EQ(known->epoch, placed->epoch);
  EXPECT_THAT(directory.GroupsOf("t"), ElementsAre("g1"));
}

TEST_P(EveryDirectory, ANameCanBeUsedAgainAfterItWasRemoved) {
  const WithOneGroup made = GetParam()();
  Directory& directory = *made.directory;
  const auto first = directory.Place({"t", "c"});
  ASSERT_TRUE(first.ok());
  std::atomic<bool> ended = false;
  // The group does what groups do.
  std::thread group([&] {
    while (!ended && made.side != nullptr) {
      for (const auto& [name, revision] : made.side->directory.PurgesOf("g1")) {
        EXPECT_TRUE(made.side->directory.ConfirmPurge("g1", name, revision).ok());
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  const absl::Status removed = directory.Remove({"t", "c"}, Soon());
  EXPECT_TRUE(removed.ok()) << removed;
  const auto second = directory.Place({"t", "c"});
  ended = true;
  group.join();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->group, "g1");
  EXPECT_GE(second->epoch, first->epoch);
  EXPECT_EQ(directory.Find({"t", "c"})->epoch, second->epoch);
}

INSTANTIATE_TEST_SUITE_P(All, EveryDirectory, ::testing::Values(&Local, &InEtcd),
                         [](const auto& info) { return info.param == &Local ? "Local" : "Etcd"; });

// ---- records in etcd ----

TEST(EtcdDirectory, TwoSidesPlaceANameOnOneGroup) {
  const std::string prefix = FreshPrefix();
  Side a(prefix);
  Side b(prefix);
  a.Join(MakeGroup("g1"));
  const int64_t lease = b.Join(MakeGroup("g2"));
  ASSERT_NE(lease, 0);
  for (Side* side : {&a, &b}) {
    while (side->directory.Groups().size() < 2) std::this_thread::yield();
  }
  for (int i = 0; i < 12; ++i) {
    const engine::CorpusName name = {"t", "c" + std::to_string(i)};
    auto other = std::async(std::launch::async, [&] { return b.directory.Place(name); });
    const auto mine = a.directory.Place(name);
    const auto theirs = other.get();
    ASSERT_TRUE(mine.ok() && theirs.ok()) << mine.status() << theirs.status();
    EXPECT_EQ(mine->group, theirs->group);
    EXPECT_EQ(mine->epoch, theirs->epoch);
  }
  while (a.directory.GroupsOf("t").size() < 2) std::this_thread::yield();
  EXPECT_THAT(a.directory.GroupsOf("t"), ElementsAre("g1", "g2"));
  EXPECT_TRUE(a.directory.GroupsOf("another").empty());
}

TEST(EtcdDirectory, AGroupIsRegisteredUnderOneLeaseAndGoesWithIt) {
  Side side(FreshPrefix());
  const int64_t lease = side.Join(MakeGroup("g1"));
  const auto other = side.client.GrantLease(kLease);
  ASSERT_TRUE(other.ok());
  const absl::Status taken = side.directory.Register(MakeGroup("g1"), other->id).status();
  EXPECT_EQ(engine::ReasonOf(taken), "GROUP_TAKEN");
  EXPECT_TRUE(side.directory.Describe(MakeGroup("g1", 5), lease).ok());
  while (side.directory.Groups().at(0).free_bytes != 5) std::this_thread::yield();
  EXPECT_FALSE(side.directory.Describe(MakeGroup("g1", 6), other->id).ok());
  EXPECT_GT(side.client.KeepLeaseAlive(lease).value_or(0), 0);
  ASSERT_TRUE(side.client.RevokeLease(lease).ok());
  EXPECT_EQ(side.client.KeepLeaseAlive(lease).value_or(-1), 0);
  while (!side.directory.Groups().empty()) std::this_thread::yield();
  const absl::Status nobody = side.directory.Place({"t", "c"}).status();
  EXPECT_EQ(engine::ReasonOf(nobody), "NO_GROUP");
  EXPECT_TRUE(side.directory.Register(MakeGroup("g1"), other->id).ok());
}

TEST(EtcdDirectory, ADeletionIsAcknowledgedWhenTheOwnerIsGoneAndNotBefore) {
  Side side(FreshPrefix());
  const int64_t lease = side.Join(MakeGroup("g1"));
  const auto placed = side.directory.Place({"t", "c"});
  ASSERT_TRUE(placed.ok());
  // The owner says nothing, and its lease runs.
  const absl::Status early =
      side.directory.Remove({"t", "c"}, steady_clock::now() + std::chrono::milliseconds(200));
  EXPECT_EQ(engine::ReasonOf(early), "GROUP_UNREACHABLE");
  EXPECT_EQ(engine::MetadataOf(early).at("group"), "g1");
  // It is recorded all the same: nobody is sent there any more.
  EXPECT_EQ(engine::ReasonOf(side.directory.Find({"t", "c"}).status()), "CORPUS_NOT_FOUND");
  ASSERT_EQ(side.directory.PurgesOf("g1").size(), 1u);

  // Trying again waits again, and ends when the lease does.
  auto again = std::async(std::launch::async, [&] {
    return side.directory.Remove({"t", "c"}, Soon());
  });
  EXPECT_EQ(again.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  ASSERT_TRUE(side.client.RevokeLease(lease).ok());
  const absl::Status done = again.get();
  EXPECT_TRUE(done.ok()) << done;

  // The same name, new: not on the group that still has the old bytes.
  side.Join(MakeGroup("g1"));
  const absl::Status only = side.directory.Place({"t", "c"}).status();
  EXPECT_EQ(engine::ReasonOf(only), "NO_GROUP");
  side.Join(MakeGroup("g2", 1));
  const auto anew = side.directory.Place({"t", "c"});
  ASSERT_TRUE(anew.ok()) << anew.status();
  EXPECT_EQ(anew->group, "g2");
  EXPECT_GT(anew->epoch, placed->epoch);
  // The old owner confirms in the end; the new placement stays what it is.
  const auto purges = side.directory.PurgesOf("g1");
  ASSERT_EQ(purges.size(), 1u);
  EXPECT_TRUE(side.directory.ConfirmPurge("g1", purges[0].first, purges[0].second).ok());
  EXPECT_EQ(side.directory.Find({"t", "c"})->epoch, anew->epoch);
  while (!side.directory.PurgesOf("g1").empty()) std::this_thread::yield();
}

TEST(EtcdDirectory, DeletedTwiceIsNotFound) {
  Side side(FreshPrefix());
  side.Join(MakeGroup("g1"));
  EXPECT_EQ(engine::ReasonOf(side.directory.Remove({"t", "c"}, Soon())), "CORPUS_NOT_FOUND");
  ASSERT_TRUE(side.directory.Place({"t", "c"}).ok());
  auto removed = std::async(std::launch::async, [&] {
    return side.directory.Remove({"t", "c"}, Soon());
  });
  while (side.directory.PurgesOf("g1").empty()) std::this_thread::yield();
  const auto [name, revision] = side.directory.PurgesOf("g1").front();
  EXPECT_TRUE(side.directory.ConfirmPurge("g1", name, revision).ok());
  EXPECT_TRUE(removed.get().ok());
  EXPECT_EQ(engine::ReasonOf(side.directory.Remove({"t", "c"}, Soon())), "CORPUS_NOT_FOUND");
}

TEST(EtcdDirectory, AdoptsOnlyWhatNobodyHas) {
  Side side(FreshPrefix());
  side.Join(MakeGroup("g1"));
  ASSERT_TRUE(side.directory.Place({"t", "c7"}).ok());
  const int64_t epoch = side.directory.Find({"t", "c7"})->epoch;
  std::vector<engine::CorpusName> names;
  for (int i = 0; i < 150; ++i) names.push_back({"t", "c" + std::to_string(i)});
  EXPECT_TRUE(side.directory.Adopt("g9", names).ok());
  while (side.directory.CorporaOf("t").size() < 150) std::this_thread::yield();
  EXPECT_EQ(side.directory.Find({"t", "c7"})->group, "g1");
  EXPECT_EQ(side.directory.Find({"t", "c7"})->epoch, epoch);
  EXPECT_EQ(side.directory.Find({"t", "c149"})->group, "g9");
}

TEST(EtcdDirectory, TenantsAreRecords) {
  Side side(FreshPrefix());
  EXPECT_TRUE(side.directory.CreateTenant({.id = "acme", .display_name = "Acme"}).ok());
  EXPECT_EQ(engine::ReasonOf(side.directory.CreateTenant({.id = "acme"})), "TENANT_EXISTS");
  const auto changed = side.directory.UpdateTenant("acme", {.disk_bytes = 7});
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->display_name, "Acme");
  EXPECT_EQ(changed->quota.disk_bytes, 7);
  EXPECT_EQ(engine::ReasonOf(side.directory.UpdateTenant("other", {}).status()),
            "TENANT_NOT_FOUND");
  EXPECT_TRUE(side.directory.DeleteTenant("acme").ok());
  EXPECT_EQ(engine::ReasonOf(side.directory.DeleteTenant("acme")), "TENANT_NOT_FOUND");
  while (!side.directory.KnownTenant("acme") || !side.directory.KnownTenant("acme")->deleted) {
    std::this_thread::yield();
  }
  EXPECT_TRUE(side.directory.Tenants().empty());
  EXPECT_EQ(side.directory.TenantRecords().size(), 1u);
  EXPECT_TRUE(side.directory.CreateTenant({.id = "acme"}).ok());
}

TEST(EtcdDirectory, GoesOnWithWhatItKnowsWhileEtcdIsAway) {
  Etcd etcd;
  Side side("/x/", etcd.address());
  side.Join(MakeGroup("g1"));
  const auto placed = side.directory.Place({"t", "c"});
  ASSERT_TRUE(placed.ok()) << placed.status();
  ASSERT_TRUE(side.directory.WaitRevision(placed->epoch, Soon()));
  etcd.process().Signal(SIGKILL);
  etcd.process().Wait();
  while (side.directory.Reachable()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(side.directory.Known({"t", "c"})->epoch, placed->epoch);
  EXPECT_EQ(side.directory.Groups().size(), 1u);
  EXPECT_EQ(engine::ReasonOf(side.directory.Find({"t", "c"}).status()),
            "CLUSTER_STORE_UNREACHABLE");
  etcd.Start();
  while (!side.directory.Reachable()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const auto later = side.directory.Place({"t", "d"});
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_TRUE(side.directory.WaitRevision(later->epoch, Soon()));
  EXPECT_TRUE(side.directory.Known({"t", "d"}).has_value());
  EXPECT_EQ(side.directory.Count().resyncs, 1);
}

// ---- moves ----

// Two groups, a corpus on the first, and a move to the second.
struct Moving {
  Moving() : side(FreshPrefix()) {
    lease = side.Join(MakeGroup("g1"));
    placed = side.directory.Place(name).value();
    side.Join(MakeGroup("g2"));
    registration = side.directory.revision();
    move = side.directory.BeginMove(name, "g2").value();
  }
  absl::StatusOr<bool> Switch(int64_t hold) {
    return side.directory.SwitchOwner(move, placed.epoch, hold, registration);
  }
  int64_t Hold() { return side.directory.Hold("g1", name, placed.epoch, lease).value_or(0); }
  // As the gateways have it.
  Placement Now() { return side.directory.Find(name).value(); }

  Side side;
  const engine::CorpusName name = {"t", "c"};
  int64_t lease = 0;
  int64_t registration = 0;
  Placement placed;
  MoveRecord move;
};

TEST(EtcdDirectoryMoves, TheOwnerChangesInOneStep) {
  Moving moving;
  EtcdDirectory& directory = moving.side.directory;
  const int64_t hold = moving.Hold();
  ASSERT_GT(hold, 0);
  ASSERT_TRUE(directory.WaitRevision(hold, Soon()));
  EXPECT_EQ(directory.Holds(moving.name, hold), true);
  const auto switched = moving.Switch(hold);
  ASSERT_TRUE(switched.ok()) << switched.status();
  EXPECT_TRUE(*switched);
  ASSERT_TRUE(directory.WaitRevision(moving.move.revision, Soon()));
  const Placement now = moving.Now();
  EXPECT_EQ(now.group, "g2");
  EXPECT_GT(now.epoch, moving.placed.epoch);
  EXPECT_EQ(now.moved_from, "g1");
  EXPECT_EQ(now.moved_epoch, moving.placed.epoch);
  EXPECT_EQ(directory.Holds(moving.name, hold), false);
  EXPECT_EQ(directory.KnownMove(moving.name)->state, MoveState::kDone);
  ASSERT_EQ(directory.PurgesOf("g1").size(), 1u);
  // Said twice, it is so still.
  EXPECT_TRUE(moving.Switch(hold).value_or(false));
  // It does not go back while its old group has the old bytes; a deletion waits for those, too.
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g2").status()), "MOVE_NEEDLESS");
  auto removed =
      std::async(std::launch::async, [&] { return directory.Remove(moving.name, Soon()); });
  while (directory.PurgesOf("g2").empty()) std::this_thread::yield();
  EXPECT_TRUE(
      directory.ConfirmPurge("g2", moving.name, directory.PurgesOf("g2").front().second).ok());
  EXPECT_EQ(removed.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  EXPECT_TRUE(
      directory.ConfirmPurge("g1", moving.name, directory.PurgesOf("g1").front().second).ok());
  EXPECT_TRUE(removed.get().ok());
}

TEST(EtcdDirectoryMoves, NothingChangesHandsThatIsNotAsItWas) {
  {  // The hold was given up.
    Moving moving;
    const int64_t hold = moving.Hold();
    ASSERT_TRUE(moving.side.directory.ReleaseHold(moving.name, hold).ok());
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(moving.Now().epoch, moving.placed.epoch);
    // Another hold is another.
    EXPECT_GT(moving.Hold(), hold);
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(moving.Now().group, "g1");
  }
  {  // The owner's lease has ended.
    Moving moving;
    const int64_t hold = moving.Hold();
    ASSERT_TRUE(moving.side.client.RevokeLease(moving.lease).ok());
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(moving.Now().group, "g1");
  }
  {  // The taker has been away.
    Moving moving;
    const int64_t hold = moving.Hold();
    --moving.registration;
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(moving.Now().group, "g1");
  }
  {  // It was cancelled.
    Moving moving;
    const int64_t hold = moving.Hold();
    ASSERT_TRUE(moving.side.directory.CancelMove(moving.name).ok());
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(moving.Now().group, "g1");
  }
  {  // It was deleted, and made again.
    Moving moving;
    const int64_t hold = moving.Hold();
    const absl::Status removed = moving.side.directory.Remove(
        moving.name, steady_clock::now() + std::chrono::milliseconds(1));
    EXPECT_EQ(engine::ReasonOf(removed), "GROUP_UNREACHABLE");
    EXPECT_FALSE(moving.Switch(hold).value_or(true));
    EXPECT_EQ(engine::ReasonOf(moving.side.directory.Find(moving.name).status()),
              "CORPUS_NOT_FOUND");
  }
}

TEST(EtcdDirectoryMoves, OnlyAMoveThatRunsHoldsAndOnlyOnce) {
  Moving moving;
  EtcdDirectory& directory = moving.side.directory;
  EXPECT_EQ(engine::ReasonOf(
                directory.Hold("g2", moving.name, moving.placed.epoch, moving.lease).status()),
            "MOVE_NOT_FOUND");
  const int64_t hold = moving.Hold();
  ASSERT_GT(hold, 0);
  EXPECT_EQ(engine::ReasonOf(
                directory.Hold("g1", moving.name, moving.placed.epoch, moving.lease).status()),
            "CLUSTER_CONTENDED");
  EXPECT_TRUE(directory.DropHolds("g9", moving.name).ok());
  EXPECT_EQ(moving.Hold(), 0) << "it is another group's";
  EXPECT_TRUE(directory.DropHolds("g1", moving.name).ok());
  EXPECT_GT(moving.Hold(), hold);
  moving.move.state = MoveState::kFailed;
  EXPECT_TRUE(directory.UpdateMove(moving.move).ok());
  EXPECT_TRUE(directory.DropHolds("g1", moving.name).ok());
  EXPECT_EQ(moving.Hold(), 0);
  // What has ended can begin anew; what others have changed is not written over.
  MoveRecord stale = moving.move;
  moving.move = directory.BeginMove(moving.name, "").value();
  EXPECT_EQ(moving.move.to, "g2");
  EXPECT_EQ(directory.UpdateMove(stale).code(), absl::StatusCode::kAborted);
}

TEST(EtcdDirectoryMoves, MovesAreRefusedThatMakeNoSense) {
  Moving moving;
  EtcdDirectory& directory = moving.side.directory;
  Group other = MakeGroup("g3");
  other.fingerprint = "another";
  moving.side.Join(other);
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove({"t", "x"}, "g2").status()), "CORPUS_NOT_FOUND");
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g3").status()), "MOVE_RUNNING");
  moving.move.state = MoveState::kCancelled;
  ASSERT_TRUE(directory.UpdateMove(moving.move).ok());
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g3").status()), "MODEL_MISMATCH");
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g1").status()), "MOVE_NEEDLESS");
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g9").status()), "GROUP_NOT_FOUND");
  EXPECT_EQ(engine::ReasonOf(directory.SetDraining("g9", true)), "GROUP_NOT_FOUND");
  ASSERT_TRUE(directory.SetDraining("g2", true).ok());
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "g2").status()), "GROUP_DRAINING");
  // The one that is left serves another model.
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(moving.name, "").status()), "NO_GROUP");
  for (int i = 0; i < 20; ++i) {
    EXPECT_NE(directory.Place({"t", "n" + std::to_string(i)})->group, "g2") << "it drains";
  }
  ASSERT_TRUE(directory.SetDraining("g2", false).ok());
  EXPECT_TRUE(directory.BeginMove(moving.name, "").ok());
}

// A corpus on g1, whose replica on g2 is ready.
struct Followed {
  Followed() : side(FreshPrefix()) {
    lease = side.Join(MakeGroup("g1"));
    placed = side.directory.Place(name).value();
    side.Join(MakeGroup("g2"));
    record = side.directory.AssignReplica(name, placed.epoch).value();
    record.ready = true;
    record.origin = {"store", 7};
    EXPECT_TRUE(side.directory.UpdateReplica(record).ok());
  }
  absl::StatusOr<bool> TakeOver(int64_t owner) {
    return side.directory.TakeOver(record, placed, owner, side.directory.RegistrationOf("g2"));
  }
  void EndOwner() {
    ASSERT_TRUE(side.client.RevokeLease(lease).ok());
    while (side.directory.RegistrationOf("g1") != 0) std::this_thread::yield();
  }

  Side side;
  const engine::CorpusName name = {"t", "c"};
  int64_t lease = 0;
  Placement placed;
  ReplicaRecord record;
};

TEST(EtcdDirectoryReplicas, AReplicaBecomesTheCorpusWhenItsOwnerIsGone) {
  Followed followed;
  EtcdDirectory& directory = followed.side.directory;
  EXPECT_EQ(followed.record.group, "g2");
  EXPECT_EQ(directory.ReplicasOn("g2").size(), 1u);
  EXPECT_EQ(directory.GroupStates()[0].replicated_corpora, 1);
  EXPECT_EQ(directory.GroupStates()[1].replicas, 1);
  // It cannot move there, and has no third group to go to.
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(followed.name, "g2").status()), "REPLICA_THERE");
  EXPECT_EQ(engine::ReasonOf(directory.BeginMove(followed.name, "").status()), "NO_GROUP");
  // Its owner is there.
  EXPECT_FALSE(followed.TakeOver(0).value_or(true));
  followed.EndOwner();
  EXPECT_TRUE(followed.TakeOver(0).value_or(false));
  const Placement now = directory.Find(followed.name).value();
  EXPECT_EQ(now.group, "g2");
  EXPECT_GT(now.epoch, followed.placed.epoch);
  EXPECT_EQ(now.origin, (engine::CorpusOrigin{"store", 7}));
  EXPECT_FALSE(directory.KnownReplica(followed.name));
  EXPECT_EQ(directory.PurgesOf("g1").size(), 1u);
  // Only once; and the former owner is no place for it before it has deleted what it has.
  EXPECT_FALSE(followed.TakeOver(0).value_or(true));
  followed.side.Join(MakeGroup("g1"));
  EXPECT_EQ(engine::ReasonOf(directory.AssignReplica(followed.name, now.epoch).status()),
            "NO_GROUP");
  const auto purge = directory.PurgesOf("g1").front();
  ASSERT_TRUE(directory.ConfirmPurge("g1", followed.name, purge.second).ok());
  while (!directory.PurgesOf("g1").empty()) std::this_thread::yield();
  EXPECT_EQ(directory.AssignReplica(followed.name, now.epoch)->group, "g1");
}

TEST(EtcdDirectoryReplicas, NothingIsTakenOverThatIsNotAsItWas) {
  {  // Its owner lives again, under another registration.
    Followed followed;
    const int64_t before = followed.side.directory.RegistrationOf("g1");
    followed.EndOwner();
    followed.side.Join(MakeGroup("g1"));
    EXPECT_FALSE(followed.TakeOver(before).value_or(true));
    EXPECT_FALSE(followed.TakeOver(0).value_or(true));
    // One that says that it has lost it is taken at its word.
    EXPECT_TRUE(followed.TakeOver(followed.side.directory.RegistrationOf("g1")).value_or(false));
  }
  {  // It is not ready any more, or was given to another group.
    Followed followed;
    const ReplicaRecord before = followed.record;
    followed.record.ready = false;
    ASSERT_TRUE(followed.side.directory.UpdateReplica(followed.record).ok());
    followed.EndOwner();
    EXPECT_FALSE(followed.TakeOver(0).value_or(true));
    followed.record = before;
    EXPECT_FALSE(followed.TakeOver(0).value_or(true));
    EXPECT_EQ(followed.side.directory.UpdateReplica(followed.record).code(),
              absl::StatusCode::kAborted);
  }
  {  // Another group takes the role.
    Followed followed;
    followed.side.Join(MakeGroup("g3"));
    const auto other = followed.side.directory.AssignReplica(followed.name, followed.placed.epoch);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_EQ(other->group, "g3");
    EXPECT_FALSE(other->ready);
    followed.EndOwner();
    EXPECT_FALSE(followed.TakeOver(0).value_or(true));
  }
  {  // It was deleted.
    Followed followed;
    EtcdDirectory& directory = followed.side.directory;
    followed.EndOwner();
    EXPECT_TRUE(directory.Remove(followed.name, Soon()).ok());
    EXPECT_FALSE(followed.TakeOver(0).value_or(true));
    EXPECT_FALSE(directory.KnownReplica(followed.name));
    EXPECT_EQ(engine::ReasonOf(directory.Find(followed.name).status()), "CORPUS_NOT_FOUND");
  }
}

TEST(EtcdClient, ReadsMoreThanOneMessage) {
  EtcdClient client(
      {.endpoints = {SharedEtcd().address()}, .credentials = grpc::InsecureChannelCredentials()});
  const std::string prefix = FreshPrefix();
  constexpr int kRecords = 4100;
  for (int i = 0; i < kRecords;) {
    etcdserverpb::TxnRequest request;
    for (int j = 0; j < 100; ++j, ++i) {
      auto* put = request.add_success()->mutable_request_put();
      put->set_key(prefix + std::to_string(i));
      put->set_value("x");
    }
    ASSERT_TRUE(client.Txn(request).ok());
  }
  const auto snapshot = client.ReadPrefix(prefix);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(snapshot->records.size(), static_cast<size_t>(kRecords));
}

TEST(EtcdClient, AnEndpointThatIsAwayIsPassedOver) {
  EtcdClient client({.endpoints = {testing::FreeAddress(), SharedEtcd().address()},
                     .credentials = grpc::InsecureChannelCredentials()});
  for (int i = 0; i < 3; ++i) {
    const auto lease = client.GrantLease(kLease);
    EXPECT_TRUE(lease.ok()) << lease.status();
  }
  EtcdDirectory directory(client, FreshPrefix());
  EXPECT_TRUE(directory.WaitSynced(Soon()));
  while (!directory.Reachable()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST(EtcdClient, SpeaksTlsAndSignsIn) {
  const testing::TemporaryDirectory directory;
  const testing::Certificates certificates(directory.path());
  const auto server = certificates.Issue("etcd");
  const auto own = certificates.Issue("lectern");
  Etcd etcd({server.certificate, server.key, certificates.ca()});
  const auto credentials =
      ChannelTls({own.certificate, own.key, certificates.ca()}, {"c", "k", "a"}, false);
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  {
    const auto auth =
        etcdserverpb::Auth::NewStub(grpc::CreateChannel(etcd.address(), *credentials));
    etcdserverpb::AuthUserAddRequest user;
    user.set_name("root");
    user.set_password("secret");
    etcdserverpb::AuthUserAddResponse added;
    grpc::ClientContext first;
    first.set_wait_for_ready(true);
    ASSERT_TRUE(auth->UserAdd(&first, user, &added).ok());
    etcdserverpb::AuthUserGrantRoleRequest grant;
    grant.set_user("root");
    grant.set_role("root");
    etcdserverpb::AuthUserGrantRoleResponse granted;
    grpc::ClientContext second;
    ASSERT_TRUE(auth->UserGrantRole(&second, grant, &granted).ok());
    etcdserverpb::AuthEnableResponse enabled;
    grpc::ClientContext third;
    ASSERT_TRUE(auth->AuthEnable(&third, {}, &enabled).ok());
  }
  const EtcdClient::Options options = {.endpoints = {etcd.address()}, .credentials = *credentials};
  EtcdClient nobody(options);
  EXPECT_EQ(engine::ReasonOf(nobody.ReadPrefix("/x/").status()), "CLUSTER_STORE_REFUSED");
  EtcdClient::Options wrong = options;
  wrong.user = "root";
  wrong.password = "guess";
  EtcdClient guesser(wrong);
  EXPECT_EQ(engine::ReasonOf(guesser.ReadPrefix("/x/").status()), "CLUSTER_STORE_REFUSED");
  EtcdClient::Options right = wrong;
  right.password = "secret";
  EtcdClient client(right);
  const auto read = client.ReadPrefix("/x/");
  EXPECT_TRUE(read.ok()) << read.status();
  EtcdDirectory records(client, "/x/");
  EXPECT_TRUE(records.WaitSynced(Soon()));
  while (!records.Reachable()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_TRUE(records.CreateTenant({.id = "acme"}).ok());
  while (records.Tenants().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));

  // Without a certificate from the CA there is not even a connection.
  EtcdClient stranger({.endpoints = {etcd.address()},
                       .credentials = grpc::InsecureChannelCredentials(),
                       .timeout = std::chrono::milliseconds(500)});
  EXPECT_EQ(engine::ReasonOf(stranger.ReadPrefix("/x/").status()), "CLUSTER_STORE_UNREACHABLE");
}

}  // namespace
}  // namespace lectern::services
