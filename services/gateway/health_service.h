// The standard health service (grpc.health.v1) of a gateway, in place of gRPC's own: callers need
// no key for it, and gRPC's would read a request of any size, up to the server's limit, from each
// of them. Here a few requests are read at a time. Whoever comes while those are still arriving is
// answered for the server as a whole, without a look at the name that was asked for: all services
// are in the same state, so that nobody can keep others from hearing it.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"

namespace lectern::services {

// Thread-safe. Must outlive the server.
class HealthService final : public grpc::Service {
 public:
  // `services`: full names; "" is the server. Not serving yet.
  explicit HealthService(const std::vector<std::string>& services);

  // Of every service at once; who watches is told.
  void SetServing(bool serving);

  static constexpr int kMostReads = 4;

 private:
  class Check;
  class Watch;
  using Request = grpc::health::v1::HealthCheckRequest;
  using Response = grpc::health::v1::HealthCheckResponse;

  bool BeginRead();
  void EndRead();
  bool Knows(const std::string& service) const { return services_.contains(service); }
  // The mutex is held.
  Response::ServingStatus status() const;

  const std::set<std::string> services_;
  std::mutex mutex_;
  bool serving_ = false;      // guarded by mutex_
  int reads_ = 0;             // guarded by mutex_
  std::set<Watch*> watches_;  // guarded by mutex_
};

}  // namespace lectern::services
