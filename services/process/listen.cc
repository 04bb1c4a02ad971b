#include "services/process/listen.h"

#include <fmt/format.h>
#include <grpcpp/health_check_service_interface.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/error/error.h"
#include "services/rpc/call.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

constexpr int kShortestPingIntervalMs = 5000;

absl::Status ListenFailed(const std::string& address, std::string_view why) {
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kListenFailed,
      fmt::format("cannot listen on {}: {}; choose another address with --listen", address, why),
      {{"address", address}});
}

// gRPC only says that it failed; the system says why. A socket that is bound and closed again
// tells.
absl::Status ExplainFailure(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return ListenFailed(address, "it has no port");
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.empty() ? nullptr : host.c_str(),
                                 address.substr(colon + 1).c_str(), &hints, &found);
  if (failed != 0) return ListenFailed(address, gai_strerror(failed));
  std::string why = "the address cannot be used";
  const int descriptor = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
  if (descriptor >= 0) {
    const int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(descriptor, found->ai_addr, found->ai_addrlen) != 0 || listen(descriptor, 1) != 0) {
      why = errno == EADDRINUSE ? "the port is in use by another process" : std::strerror(errno);
    }
    close(descriptor);
  }
  freeaddrinfo(found);
  return ListenFailed(address, why);
}

}  // namespace

absl::StatusOr<RunningServer> StartServer(
    grpc::ServerBuilder& builder, const std::string& address,
    const std::shared_ptr<grpc::ServerCredentials>& credentials,
    const std::vector<std::string>& services) {
  grpc::EnableDefaultHealthCheckService(!services.empty());
  // Two servers that share a port would each get half of the callers.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kShortestPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  builder.SetMaxSendMessageSize(-1);
  int port = 0;
  if (!address.empty()) {
    builder.AddListeningPort(address, credentials, &port);
  }
  RunningServer running;
  running.server = builder.BuildAndStart();
  if (running.server == nullptr || (!address.empty() && port == 0)) return ExplainFailure(address);
  if (!services.empty()) SetServing(*running.server, services, false);
  if (!address.empty()) {
    running.address = fmt::format("{}:{}", address.substr(0, address.rfind(':')), port);
  }
  return running;
}

void SetServing(grpc::Server& server, const std::vector<std::string>& services, bool serving) {
  grpc::HealthCheckServiceInterface* health = server.GetHealthCheckService();
  for (const std::string& service : services) health->SetServingStatus(service, serving);
  health->SetServingStatus("", serving);
}

void StopServer(grpc::Server& server, std::chrono::milliseconds grace) {
  server.Shutdown(std::chrono::system_clock::now() + grace);
}

}  // namespace lectern::services
