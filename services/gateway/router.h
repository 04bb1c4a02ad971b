// Which worker a call goes to, and when it is worth trying again.
//
// Outside clusters there is one worker, and everything goes to it as it comes. In a cluster a call
// about a corpus goes to the group that holds it, with the placement's epoch. A group that is away
// for a moment (it restarts, its lease is in question) is waited for, up to the caller's deadline
// and up to a patience that counts from when it was first missed; after that its calls are refused
// at once, and those of other groups go on. Thread-safe.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lectern/worker/v1/worker.grpc.pb.h"
#include "services/cluster/directory.h"
#include "services/cluster/etcd_directory.h"
#include "services/rpc/executor.h"

namespace lectern::services {

using WorkerStub = worker::v1::Worker::Stub;
using WorkerApi = worker::v1::Worker::StubInterface::async_interface;

// A worker as a gateway reaches it.
struct Backend {
  std::string group;
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<WorkerStub> stub;

  WorkerApi& api() const { return *stub->async(); }
};

// Where a call goes.
struct Destination {
  std::shared_ptr<Backend> backend;
  engine::CorpusName name;  // the corpus is empty for calls about the whole
  int64_t epoch = 0;        // 0: by rule
};

// What is to be found.
struct Errand {
  engine::CorpusName name;  // the corpus empty: whichever group is there
  bool place = false;       // the name may be new
  bool fresh = false;       // what is known here has proved wrong: ask the store
  std::chrono::steady_clock::time_point not_before;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::function<bool()> abandoned;  // whether the caller has given up
};

// Whether to try again.
enum class Again { kNo, kThere, kElsewhere };

class Router {
 public:
  struct Options {
    std::function<std::shared_ptr<grpc::Channel>(const std::string& address)> connect;
    std::chrono::milliseconds patience{20'000};
    // The directory's records, where it keeps any: tenants are in them.
    EtcdDirectory* records = nullptr;
    int threads = 16;  // for calls that wait for etcd, or for several groups
    size_t queue_limit = 1024;
  };

  // `directory` outlives the router.
  Router(Directory& directory, Options options);
  ~Router();

  Directory& directory() { return directory_; }
  EtcdDirectory* records() { return options_.records; }
  bool clustered() const { return directory_.keeps_records(); }

  // Calls `found` once, in this thread or another: with where the call goes, or with why it goes
  // nowhere: NOT_FOUND CORPUS_NOT_FOUND; UNAVAILABLE GROUP_UNREACHABLE, NO_GROUP or
  // CLUSTER_STORE_UNREACHABLE; RESOURCE_EXHAUSTED QUEUE_FULL; CANCELLED.
  void Find(Errand errand, std::function<void(absl::StatusOr<Destination>)> found);

  // Whether the corpus is still where it was found, as far as is known here.
  bool StillThere(const Destination& destination) const;
  // What to do about an attempt that ended like this. `idempotent`: doing it twice does no harm.
  Again Judge(const grpc::Status& status, bool idempotent) const;
  // How long before the nth attempt.
  static std::chrono::milliseconds PauseBefore(int attempt);
  void CountRetry() { ++retries_; }

  // Begins to connect to workers across a network, and follows their connections: gRPC makes and
  // mends them only while somebody waits for it.
  void Follow();

  // Runs `task` on a thread that may wait. False when too many wait already.
  [[nodiscard]] bool Submit(std::function<void()> task) {
    return executor_.Submit(std::move(task));
  }

  // The group's worker if it can be called right now, else null. Begins to connect.
  std::shared_ptr<Backend> Ready(const std::string& group);
  // The same, but waits for it as long as there is patience, until `deadline` and while nobody has
  // `abandoned` the wait. UNAVAILABLE GROUP_UNREACHABLE.
  absl::StatusOr<std::shared_ptr<Backend>> AwaitReady(
      const std::string& group, std::chrono::steady_clock::time_point deadline,
      const std::function<bool()>& abandoned);
  // Whether any can. Connects to all.
  bool AnyReady();

  struct Counts {
    int64_t retries = 0;
    int64_t waiting = 0;
    std::map<std::string, bool> ready;  // by group
  };
  Counts Count();

 private:
  using Clock = std::chrono::steady_clock;
  using Found = std::function<void(absl::StatusOr<Destination>)>;
  struct Waiter {
    Errand errand;
    Found found;
    std::optional<Placement> placement;  // absent: to be looked for
    Clock::time_point until;
  };

  void Look(Errand errand, const Found& found);
  // Hands out the group's worker, or waits for it.
  void Reach(Errand errand, const Placement& placement, Found found);
  void Wait(Waiter waiter);
  void Watch();
  void FollowChannels();
  // Whether the waiter's time has come; then it has been dealt with.
  bool Serve(Waiter& waiter);
  Clock::time_point PatienceFor(const std::string& group);
  std::shared_ptr<Backend> Connected(const Group& group);
  absl::Status Unreachable(const std::string& group) const;

  Directory& directory_;
  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::shared_ptr<Backend>> backends_;  // by group
  std::map<std::string, Clock::time_point> missed_;           // since when, by group
  std::list<Waiter> waiters_;
  bool stopping_ = false;
  std::atomic<int64_t> retries_ = 0;
  std::thread watcher_;
  std::thread follower_;
  // Last, so that its threads end before what their tasks use.
  Executor executor_;
};

}  // namespace lectern::services
