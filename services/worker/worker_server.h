// The worker as a server: in-process for a gateway in the same process, or on an address for
// gateways elsewhere.
#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

class WorkerServer {
 public:
  // `listen` empty: in-process only, and no `credentials`. `engine` and `metrics` (null: calls are
  // neither counted nor logged) outlive the server. Serves from the start. UNAVAILABLE
  // LISTEN_FAILED. In a cluster (Options::ownership) health says not serving until SetAnswering.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(
      const std::string& listen, const std::shared_ptr<grpc::ServerCredentials>& credentials,
      engine::Engine& engine, CallMetrics* metrics, const WorkerService::Options& options);
  ~WorkerServer();

  const std::string& address() const { return address_; }
  std::shared_ptr<grpc::Channel> InProcessChannel();
  bool serving() const { return serving_; }
  // What the health service says. After Refuse it stays at not serving.
  void SetAnswering(bool answering);

  // The steps of a drain (services/process/lifecycle.h).
  void Refuse();
  // Ends only the calls that wait for something that a drain stops (WaitOperation).
  void EndWaits();
  bool WaitIdle(std::chrono::steady_clock::time_point until);
  void Stop();

 private:
  WorkerServer(engine::Engine& engine, CallMetrics* metrics, const WorkerService::Options& options)
      : service_(engine, metrics, options) {}

  WorkerService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::mutex serving_mutex_;
  std::atomic<bool> serving_ = false;
  bool refusing_ = false;
};

}  // namespace lectern::services
