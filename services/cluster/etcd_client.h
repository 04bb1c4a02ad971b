// Calls to etcd: one request, one answer, at one of several endpoints, with TLS and a user if need
// be. All methods block; any thread may call them.
//
// Errors: UNAVAILABLE CLUSTER_STORE_UNREACHABLE when no endpoint answers in time, PERMISSION_DENIED
// or UNAUTHENTICATED CLUSTER_STORE_REFUSED, INTERNAL CLUSTER_STORE_ERROR with what etcd said.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "etcd/rpc.grpc.pb.h"

namespace lectern::services {

class EtcdClient {
 public:
  struct Options {
    std::vector<std::string> endpoints;  // "host:port"
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    std::string user;  // empty: none
    std::string password;
    std::chrono::milliseconds timeout{3000};  // of one request, all endpoints together
  };

  explicit EtcdClient(Options options);

  absl::StatusOr<etcdserverpb::TxnResponse> Txn(const etcdserverpb::TxnRequest& request);

  // Every key that begins with `prefix`, at one revision, which is returned.
  struct Snapshot {
    std::vector<etcdserverpb::KeyValue> records;
    int64_t revision = 0;
  };
  absl::StatusOr<Snapshot> ReadPrefix(const std::string& prefix);
  // The key as it is now; `records` is empty if there is none.
  absl::StatusOr<Snapshot> Read(const std::string& key);

  struct Lease {
    int64_t id = 0;
    int64_t ttl_seconds = 0;
  };
  absl::StatusOr<Lease> GrantLease(int64_t ttl_seconds);
  // The time it runs for from now on; 0 if it is gone.
  absl::StatusOr<int64_t> KeepLeaseAlive(int64_t id);
  absl::Status RevokeLease(int64_t id);

  // Hands over what happens to keys that begin with `prefix`, from `revision` on, until `take`
  // returns false, the stream breaks or StopWatching is called. FAILED_PRECONDITION
  // CLUSTER_STORE_COMPACTED: etcd has forgotten that revision; take a snapshot again.
  // `take` is called once with an empty response when the watch stands.
  absl::Status Watch(const std::string& prefix, int64_t revision,
                     const std::function<bool(const etcdserverpb::WatchResponse&)>& take);
  // Ends a Watch in progress and every later one.
  void StopWatching();

 private:
  struct Endpoint {
    std::string address;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<etcdserverpb::KV::Stub> kv;
    std::unique_ptr<etcdserverpb::Lease::Stub> lease;
    std::unique_ptr<etcdserverpb::Watch::Stub> watch;
    std::unique_ptr<etcdserverpb::Auth::Stub> auth;
  };
  using Deadline = std::chrono::system_clock::time_point;

  // Tries the endpoints in turn, from the one that answered last.
  absl::Status Call(const std::function<grpc::Status(Endpoint&, grpc::ClientContext&)>& call);
  // Puts the user's token on `context`; fetches one if there is none yet.
  grpc::Status SignIn(Endpoint& endpoint, Deadline deadline, grpc::ClientContext& context);
  void ForgetToken();
  absl::StatusOr<Snapshot> ReadRange(const std::string& key, const std::string& end);

  const Options options_;
  std::vector<Endpoint> endpoints_;
  std::atomic<size_t> preferred_ = 0;
  std::mutex mutex_;
  std::string token_;
  grpc::ClientContext* watching_ = nullptr;
  bool stopped_ = false;
};

// The smallest key greater than all that begin with `prefix` (which is not empty).
std::string EndOfPrefix(std::string prefix);

}  // namespace lectern::services
