// Starting and stopping gRPC servers.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::services {

struct RunningServer {
  std::unique_ptr<grpc::Server> server;
  std::string address;  // with the port in use; "" without one
};

// Serves what `builder` has on `address` ("127.0.0.1:7421", "[::1]:0") with `credentials`, or only
// in-process if it is empty, with gRPC's own health service for `services` and "", which start as
// not serving; without one if there are no `services`.
//   UNAVAILABLE LISTEN_FAILED: says why, as far as the system says
absl::StatusOr<RunningServer> StartServer(
    grpc::ServerBuilder& builder, const std::string& address,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,
    const std::vector<std::string>& services);

void SetServing(grpc::Server& server, const std::vector<std::string>& services, bool serving);

// Ends the server; calls that still run after `grace` are cancelled.
void StopServer(grpc::Server& server, std::chrono::milliseconds grace);

}  // namespace lectern::services
