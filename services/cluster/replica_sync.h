// The owner's part in replication: every corpus of this group has a replica on another one, and
// what was changed is on it before that is acknowledged.
//
// A change is made here first; then the group of the replica is asked to pull (Worker.SyncReplica),
// once for all that was changed before, and answers when it has. Whoever waits for that costs no
// thread. A corpus without a replica is given one: the group that its name chooses among the
// others. Another one takes the role when the group drains, or has been away for long.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/member.h"
#include "services/cluster/replication.h"

namespace lectern::services {

class ReplicaSync {
 public:
  struct Options {
    int copies = 1;  // of every corpus, the owner's included: 1 or 2
    // How long changes wait for a replica that is away; 0: they are refused before they are made.
    std::chrono::milliseconds patience{20'000};
    // A group that has been away for so long is replaced.
    std::chrono::milliseconds replace_after{600'000};
    std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> connect;
  };
  // What is given outlives it.
  ReplicaSync(EtcdDirectory& directory, Member& member, Options options)
      : directory_(directory), member_(member), options_(std::move(options)) {}
  ~ReplicaSync() { Stop(); }

  void Start();
  // Refuses those who wait.
  void Stop();

  // Of Replication.
  absl::Status MayChange(const engine::CorpusName& name) const;
  void Changed(const engine::CorpusName& name);
  void Settle(const Caller& caller, std::chrono::system_clock::time_point deadline,
              Replication::Done done);

  struct Counts {
    int64_t ready = 0, behind = 0, missing = 0;  // corpora of this group, by their replicas' state
    int64_t waiting = 0;                         // changes that are made and not acknowledged yet
    double oldest_seconds = 0;                   // of what is not on its replica yet
    int64_t failures = 0;
  };
  Counts Count() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiter {
    int64_t change = 0;
    Clock::time_point deadline;
    Replication::Done done;
  };
  struct State {
    engine::CorpusName name;
    int64_t changed = 0;  // how often
    int64_t synced = 0;   // of these, on the replica
    int64_t asked = 0;    // on the replica when the call in flight succeeds
    bool in_flight = false;
    Clock::time_point since;  // of the oldest that is not synced
    Clock::time_point again;  // not before
    std::chrono::milliseconds pause{0};
    absl::Status error;  // of the last attempt
    std::list<Waiter> waiters;
  };
  struct PendingCall;

  void Run();
  void Ask(const engine::CorpusName& name);
  void Answered(const engine::CorpusName& name, const absl::Status& status);
  // Those whose time is over, or all of them.
  void Refuse(bool all);
  void Reconcile();
  void Reconcile(const engine::CorpusName& name);
  bool IsAway(const std::string& group, std::chrono::milliseconds time);
  State& StateOf(const engine::CorpusName& name);  // under mutex_

  EtcdDirectory& directory_;
  Member& member_;
  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool poked_ = false;
  std::map<std::string, State> states_;  // by TableKey
  std::map<PendingCall*, std::shared_ptr<PendingCall>> calls_;
  int64_t failures_ = 0;
  // Of the thread.
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;  // by address
  std::map<std::string, Clock::time_point> away_;
  std::thread thread_;
};

}  // namespace lectern::services
