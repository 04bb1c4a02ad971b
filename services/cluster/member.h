// A worker's membership: its group's record under a lease, the fence that follows the lease, and
// what the cluster has decided while the worker was away.
//
// Life of a membership: a lease is granted; the group's record is written under it, unless another
// lease has it; the worker then makes its store agree with the directory (tenants, names to delete,
// corpora that the directory has never heard of) and only then answers. While the lease is kept
// alive the fence stays open. When the fence closes, by the clock or because etcd says that the
// lease is gone, nothing is answered until all of this has happened again. A name is deleted before
// its deletion is confirmed, and a deletion is acknowledged to users when it is confirmed or the
// group's record is gone, which is after the fence has closed: so nobody reads what was deleted.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "services/cluster/corpus_gate.h"
#include "services/cluster/etcd_client.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/fence.h"
#include "services/cluster/ownership.h"

namespace lectern::services {

class Member final : public Ownership {
 public:
  struct Options {
    std::chrono::seconds lease{15};
    // Bytes that the group can still take.
    std::function<int64_t()> free_bytes;
    // Whether requests are answered, whenever that changes; from threads of the member.
    std::function<void(bool)> answering;
  };

  // Answers nothing before Join. What is given outlives the member.
  Member(EtcdClient& client, EtcdDirectory& directory, engine::Engine& engine, Fence& fence)
      : client_(client), directory_(directory), engine_(engine), fence_(fence) {}
  ~Member() override { Leave(); }

  // Once: becomes `group` (whose free_bytes are asked for) and stays so, on threads of its own.
  void Join(Group group, Options options);
  // Answers nothing any more and gives the lease back.
  void Leave();

  absl::StatusOr<CorpusGate::Pass> Enter(const Caller& caller, bool changes) override;
  absl::Status MayBegin(const Caller& caller, bool of_corpus) override;
  absl::Status MayEnd(const Caller& caller, bool of_corpus) const override;

  absl::StatusOr<int64_t> HoldChanges(const Caller& caller) override;
  std::shared_mutex& names() override { return names_; }

  // Before Join; outlives the member.
  void Use(Replication& replication) { replication_ = &replication; }
  Replication* replication() override { return replication_; }

  bool answering() const { return admitted_ && fence_.Open(); }
  const Group& group() const { return group_; }
  // Since when the group is registered: the revision at which its record was made; 0: it is not.
  int64_t registration() const;
  struct Counts {
    int64_t joins = 0;
    int64_t held = 0;  // corpora whose changes are refused now
    int64_t refused_moving = 0;
    int64_t refused_lease = 0;
    int64_t refused_owner = 0;
    int64_t purged = 0;
    int64_t keepalive_failures = 0;
  };
  Counts Count() const;
  std::chrono::nanoseconds lease_remaining() const { return fence_.Remaining(); }

 private:
  enum class Standing { kOwner, kStranger, kUnknown };
  Standing StandingOf(const Caller& caller) const;
  // Whether an answer that began under the caller's epoch is still right: the corpus has only moved
  // away since.
  bool HasMovedAway(const Caller& caller) const;
  absl::Status LeaseExpired(bool done) const;
  absl::Status NotOwner(const Caller& caller, bool done) const;

  // The thread that keeps the lease.
  void KeepLease();
  absl::Status Enter();
  absl::Status Renew();
  void Lose(std::string_view why);
  void Describe();
  void Announce();
  // The thread that makes the store agree.
  void Agree();
  absl::Status AgreeOnce(bool joining);
  absl::Status AgreeOnTenants();
  absl::Status PurgeNames();
  void SettleHolds();
  // Whether the corpus is on its way to a group that is alive.
  bool IsMoving(const engine::CorpusName& name) const;
  absl::Status AdoptStrangers();
  bool Pause(std::chrono::milliseconds time);

  EtcdClient& client_;
  EtcdDirectory& directory_;
  engine::Engine& engine_;
  Fence& fence_;
  Replication* replication_ = nullptr;
  Options options_;
  Group group_;

  std::atomic<bool> admitted_ = false;
  std::atomic<int64_t> joins_ = 0;
  mutable std::atomic<int64_t> refused_lease_ = 0;
  mutable std::atomic<int64_t> refused_owner_ = 0;
  mutable std::atomic<int64_t> refused_moving_ = 0;
  std::atomic<int64_t> purged_ = 0;
  std::atomic<int64_t> keepalive_failures_ = 0;

  std::shared_mutex names_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool registered_ = false;          // the record is there, as far as we know
  int64_t registered_revision_ = 0;  // which also says for the how manieth time

  CorpusGate gate_{[this](const engine::CorpusName& name) {
    if (replication_ != nullptr) replication_->Changed(name);
  }};
  // When a name that has moved away was first found to be used still; of the thread that agrees.
  std::map<std::string, std::chrono::steady_clock::time_point> lingering_;

  // Written by the thread that keeps the lease.
  std::atomic<int64_t> lease_ = 0;
  bool announced_ = false;
  bool taken_logged_ = false;
  std::thread keeper_;
  std::thread agreer_;
};

}  // namespace lectern::services
