// The part in replication of the group that has replicas: it pulls them from their owners, and
// takes a corpus over when its owner is lost.
//
// Life of a replica: etcd says that this group has it; a round brings the catalog and all documents
// (CorpusPull::Replicate); from then on the record in etcd says *ready*. Further rounds bring
// documents whenever the owner asks (Worker.SyncReplica), and caches, sessions and turns between
// them. When the owner's registration has been gone for long enough, or the owner says that its
// copy is lost, one transaction makes this group the owner, under a new epoch, provided that
// nothing of what was known has changed; the former owner deletes what it has before it answers
// again. Only then the replica is published here: until it is, calls about the corpus are asked to
// wait. A worker that dies in between finds placement and replica when it is back, and publishes
// it.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "services/cluster/corpus_pull.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"
#include "services/cluster/replication.h"
#include "services/rpc/executor.h"

namespace lectern::services {

class ReplicaFollower {
 public:
  struct Options {
    // How long an owner is gone before its corpora are taken over.
    std::chrono::milliseconds failover_after{60'000};
    std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> connect;
    // Whether the corpus is on its way here by a move.
    std::function<bool(const engine::CorpusName& name)> moves_here;
  };
  // What is given outlives it.
  ReplicaFollower(EtcdDirectory& directory, Member& member, engine::Engine& engine, Options options)
      : directory_(directory), member_(member), engine_(engine), options_(std::move(options)) {}
  ~ReplicaFollower() { Stop(); }

  void Start();
  void Stop();

  // Of Replication.
  absl::Status AgreeOnJoining();
  // Whether what is placed on this group is a replica that is not published yet.
  bool IsArriving(const engine::CorpusName& name) const;
  void Sync(const Caller& caller, int64_t revision, Replication::Done done);

  // Whether the import is a replica that is needed, or may be.
  bool Needs(const engine::ImportedCorpus& import) const;

  struct Counts {
    int64_t followed = 0;    // replicas on this group
    int64_t behind = 0;      // of these, those whose caches have not come whole
    int64_t bytes_left = 0;  // of their caches, an estimate
    int64_t bytes = 0;       // that came
    int64_t failures = 0;    // rounds that failed; they are made again
    int64_t failovers = 0;
  };
  Counts Count() const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Task { kDocuments, kCache, kTakeOver, kPublish };
  struct Job {
    engine::CorpusName name;
    std::shared_ptr<CorpusPull> pull;  // between rounds, and while one runs
    std::string address;               // that it pulls from
    int64_t owner_registration = 0;    // that it was last pulled from
    bool running = false;
    std::vector<Replication::Done> waiters;  // for a round that has not begun
    Clock::time_point next_cache;            // when the next round of the cache is due
    Clock::time_point last_cache;
    Clock::time_point again;  // not before, after a failure
    std::chrono::milliseconds interval{0};
    std::chrono::milliseconds pause{0};
    int64_t bytes_left = 0;
    bool whole = false;
  };

  void Run();
  // What is to be done now.
  std::vector<std::pair<engine::CorpusName, Task>> Due();
  std::optional<Task> DueOf(Job& job, const ReplicaRecord& record);  // under mutex_
  void Perform(const engine::CorpusName& name, Task task, std::vector<Replication::Done> waiters);
  absl::Status Round(const engine::CorpusName& name, bool cache);
  absl::Status TakeOver(const engine::CorpusName& name, bool owner_is_there);
  absl::Status Publish(const engine::CorpusName& name);
  absl::StatusOr<std::shared_ptr<CorpusPull>> PullOf(const engine::CorpusName& name,
                                                     const std::string& address);
  void RefuseWaiters();

  EtcdDirectory& directory_;
  Member& member_;
  engine::Engine& engine_;
  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool poked_ = false;
  std::map<std::string, Job> jobs_;  // by TableKey
  // Replicas here that are kept and not published.
  std::map<std::pair<std::string, uint64_t>, engine::CorpusName> kept_;
  std::map<std::string, Clock::time_point> away_;                   // groups
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;  // by address

  std::atomic<int64_t> bytes_ = 0;
  std::atomic<int64_t> failures_ = 0;
  std::atomic<int64_t> failovers_ = 0;
  std::thread thread_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace lectern::services
