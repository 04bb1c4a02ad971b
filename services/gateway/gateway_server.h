// The public server: the services, health, reflection, and what a drain needs.
#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "services/gateway/gateway.h"
#include "services/gateway/health_service.h"
#include "services/gateway/public_services.h"

namespace lectern::services {

class GatewayServer {
 public:
  struct Options {
    std::string listen;
    int call_limit = 1024;
    CallerSecurity security;  // its credentials and audit log are needed
  };

  // Calls go where `router` says. Not serving yet: see SetServing and FollowWorkers. `router` and
  // `metrics` outlive the server. UNAVAILABLE LISTEN_FAILED.
  static absl::StatusOr<std::unique_ptr<GatewayServer>> Start(Options options, Router& router,
                                                              CallMetrics& metrics);
  ~GatewayServer();

  const std::string& address() const { return address_; }

  // What the health service says. After Refuse it stays at not serving.
  void SetServing(bool serving);
  bool serving() const { return serving_; }

  // Serves whenever a worker's channel is ready, until Refuse; for workers across a network, whose
  // channels (ConnectToWorker) follow their health service.
  void FollowWorkers();

  // Before a drain, where callers have other gateways: health says not serving, for good, and calls
  // are still taken for as long as callers need to hear of it.
  void TakeLeave();

  // The steps of a drain (services/process/lifecycle.h).
  void Refuse();
  bool WaitIdle(std::chrono::steady_clock::time_point until);
  void Stop();

 private:
  GatewayServer(Options options, Router& router, CallMetrics& metrics);

  const CallerSecurity security_;
  Router& router_;
  Gateway gateway_;
  const std::vector<std::unique_ptr<PublicService>> services_;
  HealthService health_;

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::mutex serving_mutex_;
  std::atomic<bool> serving_ = false;
  std::atomic<bool> refusing_ = false;
  std::thread follower_;
};

}  // namespace lectern::services
