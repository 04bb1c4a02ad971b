#include "services/gateway/gateway_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>

#include <mutex>
#include <utility>
#include <vector>

#include "engine/error/check.h"
#include "engine/error/status_macros.h"
#include "services/process/listen.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kFollowPoll{50};
constexpr std::chrono::milliseconds kLeave{1000};
constexpr std::chrono::milliseconds kStopGrace{500};
constexpr int kStreamsPerConnection = 256;
constexpr int kMaxHeaderBytes = 16 << 10;
constexpr int kHandshakeTimeoutMs = 20'000;
constexpr int kCallerKeepaliveMs = 60'000;
constexpr int kCallerKeepaliveTimeoutMs = 20'000;
constexpr int kConnectionIdleMs = 15 * 60'000;
constexpr size_t kCallerMemoryBytes = size_t{512} << 20;
// What callers of whom nothing is known yet can make the server hold: streams, headers, handshakes
// that do not end, connections that nobody uses, and the memory of all of it together.
void BoundCallers(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxHeaderBytes);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kCallerKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kCallerKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kConnectionIdleMs);
  // Where it is used up, gRPC ends streams and idle connections rather than take more.
  builder.SetResourceQuota(grpc::ResourceQuota("callers").Resize(kCallerMemoryBytes));
}

// Reflection reads requests of any size before anybody knows who sends them.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const auto& plugin) {
      return dynamic_cast<grpc::reflection::ProtoServerReflectionPlugin*>(plugin.get()) != nullptr;
    });
  }
};

}  // namespace

GatewayServer::GatewayServer(Options options, Router& router, CallMetrics& metrics)
    : security_(std::move(options.security)),
      router_(router),
      gateway_(router_, security_, metrics, options.call_limit),
      services_(MakePublicServices(gateway_)),
      health_(PublicServiceNames()) {
  LECTERN_CHECK(security_.credentials != nullptr && security_.audit != nullptr);
}

absl::StatusOr<std::unique_ptr<GatewayServer>> GatewayServer::Start(Options options, Router& router,
                                                                    CallMetrics& metrics) {
  const std::string listen = options.listen;
  std::unique_ptr<GatewayServer> gateway(new GatewayServer(std::move(options), router, metrics));
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (gateway->security_.keys != nullptr) builder.SetOption(std::make_unique<NoReflection>());
  for (const auto& service : gateway->services_) builder.RegisterService(service.get());
  builder.RegisterService(&gateway->health_);
  BoundCallers(builder);
  LECTERN_ASSIGN_OR_RETURN(
      RunningServer running,
      StartServer(builder, listen, gateway->security_.credentials, /*services=*/{}));
  gateway->server_ = std::move(running.server);
  gateway->address_ = std::move(running.address);
  return gateway;
}

GatewayServer::~GatewayServer() {
  if (server_ == nullptr) return;
  Refuse();
  Stop();
}

void GatewayServer::SetServing(bool serving) {
  const std::lock_guard lock(serving_mutex_);
  if (refusing_ && serving) return;
  serving_ = serving;
  health_.SetServing(serving);
}

void GatewayServer::FollowWorkers() {
  router_.Follow();
  follower_ = std::thread([this] {
    while (!refusing_) {
      if (const bool ready = router_.AnyReady(); ready != serving_ && !refusing_) {
        Log(LogLevel::kInfo, ready ? "worker_ready" : "worker_unreachable");
        SetServing(ready);
      }
      std::this_thread::sleep_for(kFollowPoll);
    }
  });
}

void GatewayServer::TakeLeave() {
  refusing_ = true;
  SetServing(false);
  std::this_thread::sleep_for(kLeave);
}

void GatewayServer::Refuse() {
  refusing_ = true;
  SetServing(false);
  gateway_.admission().Close();
}

bool GatewayServer::WaitIdle(std::chrono::steady_clock::time_point until) {
  return gateway_.admission().WaitIdle(until);
}

void GatewayServer::Stop() {
  StopServer(*server_, kStopGrace);
  if (follower_.joinable()) follower_.join();
}

}  // namespace lectern::services
