// Replication as a whole, of one worker: as the owner of some corpora, and with replicas of others.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/engine.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"
#include "services/cluster/replica_follower.h"
#include "services/cluster/replica_sync.h"
#include "services/cluster/replication.h"

namespace lectern::services {

class Replicas final : public Replication {
 public:
  // What is given outlives it.
  Replicas(EtcdDirectory& directory, Member& member, engine::Engine& engine,
           ReplicaSync::Options sync, ReplicaFollower::Options follower)
      : directory_(directory),
        member_(member),
        engine_(engine),
        sync_(directory, member, std::move(sync)),
        follower_(directory, member, engine, std::move(follower)) {}

  void Start();
  void Stop();

  absl::Status AgreeOnJoining() override;
  absl::Status IsHere(const engine::CorpusName& name) const override;
  absl::Status MayChange(const engine::CorpusName& name) const override {
    return sync_.MayChange(name);
  }
  void Changed(const engine::CorpusName& name) override { sync_.Changed(name); }
  void Settle(const Caller& caller, std::chrono::system_clock::time_point deadline,
              Done done) override {
    sync_.Settle(caller, deadline, std::move(done));
  }
  void Sync(const Caller& caller, int64_t revision, Done done) override {
    follower_.Sync(caller, revision, std::move(done));
  }

  const ReplicaSync& sync() const { return sync_; }
  const ReplicaFollower& follower() const { return follower_; }

 private:
  EtcdDirectory& directory_;
  Member& member_;
  engine::Engine& engine_;
  ReplicaSync sync_;
  ReplicaFollower follower_;

  mutable std::mutex mutex_;
  std::map<std::string, int64_t> lost_;  // by TableKey: the epoch of what is not here any more
};

}  // namespace lectern::services
