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

  // Revision that the copy is at.
  int64_t revision() const;
  bool WaitRevision(int64_t revision, std::chrono::steady_clock::time_point deadline) const;
  // Waits until the copy is newer than `revision`, or until `deadline`.
  void WaitNewer(int64_t revision, std::chrono::steady_clock::time_point deadline) const;
  // Numbers for metrics.
  struct Counts {
    size_t groups = 0, corpora = 0, deleted = 0, purges = 0;
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
  absl::StatusOr<std::optional<TenantRecord>> ReadTenant(std::string_view id);
  absl::Status WriteTenant(const TenantRecord& record, int64_t expected_revision);
  // A group for the name and the record that says it lives; nothing if there is none.
  std::optional<Records::GroupRecord> Choose(const engine::CorpusName& name) const;

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
