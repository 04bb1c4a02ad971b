// The directory in etcd: a copy of all records that a watch keeps up to date, and transactions.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "services/cluster/directory.h"
#include "services/cluster/etcd_client.h"
#include "services/cluster/records.h"

namespace lectern::services {

class EtcdDirectory final : public Directory {
 public:
  // Begins to read; Synced says when everything has been read once. `client` outlives it.
  EtcdDirectory(EtcdClient& client, const std::string& prefix);
  ~EtcdDirectory() override;

  // Waits until everything has been read once.
  bool WaitSynced(std::chrono::steady_clock::time_point deadline);

  bool keeps_records() const override { return true; }
  std::vector<Group> Groups() const override;
  std::optional<Placement> Known(const engine::CorpusName& name) const override;
  std::vector<std::string> GroupsOf(std::string_view tenant) const override;
  bool Reachable() const override;
  absl::StatusOr<Placement> Find(const engine::CorpusName& name) override;
  absl::StatusOr<Placement> Place(const engine::CorpusName& name) override;
  absl::Status Remove(const engine::CorpusName& name,
                      std::chrono::steady_clock::time_point deadline) override;

  // ---- tenants: the same on every group ----
  // Those that exist, by id.
  std::vector<TenantRecord> Tenants() const;
  std::optional<TenantRecord> KnownTenant(std::string_view id) const;
  // With those that were deleted.
  std::vector<TenantRecord> TenantRecords() const;
  // ALREADY_EXISTS TENANT_EXISTS; NOT_FOUND TENANT_NOT_FOUND.
  absl::Status CreateTenant(const engine::Tenant& tenant);
  absl::StatusOr<engine::Tenant> UpdateTenant(std::string_view id,
                                              const engine::TenantUpdate& update);
  absl::Status DeleteTenant(std::string_view id);
  std::vector<engine::CorpusName> CorporaOf(std::string_view tenant) const;

  // ---- for members (member.h) ----
  // Registers the group under the lease; the revision of the record. ALREADY_EXISTS GROUP_TAKEN:
  // another lease has it.
  absl::StatusOr<int64_t> Register(const Group& group, int64_t lease);
  // Says again what the group is like. NOT_FOUND if the record is gone.
  absl::Status Describe(const Group& group, int64_t lease);
  // What the group must delete, with the revisions of the records.
  std::vector<std::pair<engine::CorpusName, int64_t>> PurgesOf(std::string_view group) const;
  // The group has nothing of `name` any more; the record of the deletion stays for a while.
  absl::Status ConfirmPurge(std::string_view group, const engine::CorpusName& name,
                            int64_t revision);
  // Places names without any record on `group`. Those that another took first are left out.
  absl::Status Adopt(std::string_view group, const std::vector<engine::CorpusName>& names);

  // ---- moves and drains (etcd_moves.cc) ----
  // Those that run, and those that ended within a day, by name.
  std::vector<MoveRecord> Moves() const;
  std::optional<MoveRecord> KnownMove(const engine::CorpusName& name) const;
  // Of every group that is alive, holds corpora or drains.
  struct GroupState {
    Group group;  // only its name while it is away
    bool alive = false;
    bool draining = false;
    int64_t corpora = 0;
    int64_t replicas = 0;            // of other groups' corpora
    int64_t replicated_corpora = 0;  // of its own, those whose replica could take over now
  };
  std::vector<GroupState> GroupStates() const;
  std::vector<engine::CorpusName> CorporaOn(std::string_view group) const;
  bool Draining(std::string_view group) const;

  // Begins a move; `to` empty: to the group of its choice. The errors of Cluster.MoveCorpus
  // (cluster.proto), and NO_GROUP.
  absl::StatusOr<MoveRecord> BeginMove(const engine::CorpusName& name, const std::string& to);
  // As etcd has it now. NOT_FOUND MOVE_NOT_FOUND.
  absl::StatusOr<MoveRecord> FindMove(const engine::CorpusName& name);
  // Asks the move to end. NOT_FOUND MOVE_NOT_FOUND.
  absl::StatusOr<MoveRecord> CancelMove(const engine::CorpusName& name);
  // NOT_FOUND GROUP_NOT_FOUND: no such group is alive or holds anything.
  absl::Status SetDraining(const std::string& group, bool draining);

  // Of the group that takes the corpus: writes how far it is, and that it has ended, unless the
  // record is another than `move.revision` (ABORTED). Brings `move.revision` up to date.
  absl::Status UpdateMove(MoveRecord& move);
  // The owner changes: the corpus is placed on `move.to`, its former group is to delete it, the
  // hold ends and so does the move, all at once; provided that the placement is still `epoch`, the
  // hold the one of `hold_revision`, the move as it is known here, and the group registered at
  // `registration`. True: so it is. False: it is not, and will not come about any more. An error:
  // etcd does not say; ask again with AfterSwitch.
  absl::StatusOr<bool> SwitchOwner(MoveRecord& move, int64_t epoch, int64_t hold_revision,
                                   int64_t registration);
  absl::StatusOr<bool> AfterSwitch(MoveRecord& move, int64_t epoch);

  // Of the group that gives it: refuses changes under its lease. Returns the hold's revision.
  // FAILED_PRECONDITION MOVE_NOT_FOUND: nobody moves it from `group` at this epoch.
  absl::StatusOr<int64_t> Hold(std::string_view group, const engine::CorpusName& name,
                               int64_t epoch, int64_t lease);
  // Ends the hold, if it still is; returns a revision at which it is no more.
  absl::StatusOr<int64_t> ReleaseHold(const engine::CorpusName& name, int64_t hold_revision);
  // Removes whatever hold of the corpus `group` may have written.
  absl::Status DropHolds(std::string_view group, const engine::CorpusName& name);
  // Whether that hold is there, as far as is known here; nothing while what is known is older.
  std::optional<bool> Holds(const engine::CorpusName& name, int64_t hold_revision) const;

  // ---- replicas (etcd_replicas.cc) ----
  std::vector<ReplicaRecord> Replicas() const;
  std::vector<ReplicaRecord> ReplicasOn(std::string_view group) const;
  std::optional<ReplicaRecord> KnownReplica(const engine::CorpusName& name) const;
  // At which revision the group was registered; 0: it is not alive.
  int64_t RegistrationOf(std::string_view group) const;
  // Of the owner: chooses the group of the corpus's replica anew, provided that the placement is
  // still `epoch`, and what is known of the replica still true. UNAVAILABLE NO_GROUP: there is no
  // other group; CLUSTER_CONTENDED.
  absl::StatusOr<ReplicaRecord> AssignReplica(const engine::CorpusName& name, int64_t epoch);
  // Writes the record, unless it is another than `record.revision` (ABORTED). Brings
  // `record.revision` up to date.
  absl::Status UpdateReplica(ReplicaRecord& record);
  absl::Status DropReplica(const ReplicaRecord& record);
  // The owner is lost: the group that has the replica is the owner from now on, what the former one
  // has is to be deleted; provided that placement and record are still the same, the record is
  // ready, the former owner is registered at `owner_registration` still (0: not at all), and the
  // new one at `registration`. False: something has changed. An error: etcd does not say.
  absl::StatusOr<bool> TakeOver(const ReplicaRecord& record, const Placement& placement,
                                int64_t owner_registration, int64_t registration);

  // Revision that the copy is at.
  int64_t revision() const;
  bool WaitRevision(int64_t revision, std::chrono::steady_clock::time_point deadline) const;
  // Waits until the copy is newer than `revision`, or until `deadline`.
  void WaitNewer(int64_t revision, std::chrono::steady_clock::time_point deadline) const;
  // Numbers for metrics.
  struct Counts {
    size_t groups = 0, corpora = 0, deleted = 0, purges = 0, moves = 0, draining = 0;
    int64_t revision = 0;
    int64_t resyncs = 0;
  };
  Counts Count() const;

 private:
  void Follow();
  absl::Status ReadAll();
  bool Take(const etcdserverpb::WatchResponse& response);
  void SetReachable(bool reachable);
  // The record as etcd has it now.
  struct Current {
    std::optional<Placement> placement;
    int64_t mod_revision = 0;
  };
  absl::StatusOr<Current> ReadPlacement(const engine::CorpusName& name);
  // NOT_FOUND CORPUS_NOT_FOUND.
  absl::StatusOr<Current> ReadMovable(const engine::CorpusName& name);
  absl::StatusOr<std::optional<MoveRecord>> ReadMove(const engine::CorpusName& name);
  absl::StatusOr<Records::GroupRecord> MoveTarget(const engine::CorpusName& name,
                                                  const std::string& from,
                                                  const std::string& to) const;
  absl::StatusOr<std::optional<TenantRecord>> ReadTenant(std::string_view id);
  absl::Status WriteTenant(const TenantRecord& record, int64_t expected_revision);
  // A group for the name and the record that says it lives; nothing if there is none. `without`:
  // the group that a corpus of the name is to leave.
  std::optional<Records::GroupRecord> Choose(const engine::CorpusName& name,
                                             std::string_view without = "") const;

  EtcdClient& client_;
  const RecordKeys keys_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Records records_;
  bool synced_ = false;
  bool reachable_ = false;
  bool stopping_ = false;
  int64_t resyncs_ = 0;
  std::thread follower_;
};

}  // namespace lectern::services
