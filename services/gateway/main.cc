// lectern-gateway: the public API in front of a worker in another process.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/error/status_macros.h"
#include "services/cluster/cluster_flags.h"
#include "services/cluster/collector.h"
#include "services/cluster/local_directory.h"
#include "services/cluster/worker_channel.h"
#include "services/gateway/gateway_server.h"
#include "services/gateway/router_collector.h"
#include "services/process/lifecycle.h"
#include "services/process/server_flags.h"
#include "services/process/signals.h"
#include "services/process/version.h"
#include "services/security/caller_security.h"
#include "services/security/listen_security.h"
#include "services/security/tls.h"
#include "services/telemetry/http.h"
#include "services/telemetry/levels.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/process_collector.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7421", "address of the public API");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:7422", "address of /metrics and /healthz");
ABSL_FLAG(
    std::string, worker, "127.0.0.1:7431",
    "address of the worker, where there is one; in a cluster (--etcd_endpoints) they are found");
ABSL_FLAG(int64_t, group_patience_seconds, 20,
          "in a cluster: how long calls wait for a worker that has gone away, if their deadlines "
          "allow it, before they are refused");
ABSL_FLAG(std::string, worker_ca, "",
          "PEM file of CAs: speak TLS with the worker, whose certificate must be from one of them");
ABSL_FLAG(std::string, worker_certificate, "",
          "PEM file of the certificate that this gateway shows to the worker (mutual TLS)");
ABSL_FLAG(std::string, worker_key, "", "PEM file of that certificate's key");
ABSL_FLAG(int32_t, call_limit, 1024, "calls of every kind that may run at once");

namespace lectern::services {
namespace {

constexpr char kProgram[] = "lectern-gateway";

// Where calls go: the one worker of --worker, or those in etcd.
struct Workers {
  std::unique_ptr<EtcdClient> client;
  std::unique_ptr<EtcdDirectory> records;
  std::unique_ptr<Directory> local;
  std::unique_ptr<Router> router;
};

absl::StatusOr<Workers> WorkersFromFlags(
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const int64_t patience = absl::GetFlag(FLAGS_group_patience_seconds);
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("group_patience_seconds", patience, 0));
  Workers workers;
  if (InCluster()) {
    LECTERN_ASSIGN_OR_RETURN(EtcdClient::Options options, EtcdOptionsFromFlags());
    workers.client = std::make_unique<EtcdClient>(std::move(options));
    workers.records = std::make_unique<EtcdDirectory>(*workers.client, EtcdPrefixFromFlags());
  } else {
    workers.local = std::make_unique<LocalDirectory>(
        Group{.name = "local", .address = absl::GetFlag(FLAGS_worker)});
  }
  Directory& directory = workers.records != nullptr ? *workers.records : *workers.local;
  workers.router = std::make_unique<Router>(
      directory, Router::Options{.connect =
                                     [credentials](const std::string& address) {
                                       return ConnectToWorker(address, credentials);
                                     },
                                 .patience = std::chrono::seconds(patience),
                                 .records = workers.records.get()});
  return workers;
}

absl::Status Run() {
  LECTERN_RETURN_IF_ERROR(ApplyServerFlags());
  const int call_limit = absl::GetFlag(FLAGS_call_limit);
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("call_limit", call_limit, 1));
  const auto registry = std::make_shared<prometheus::Registry>();
  CallMetrics metrics(*registry, "gateway", Version(), MethodNames());
  const std::string worker = absl::GetFlag(FLAGS_worker);
  const std::string listen = absl::GetFlag(FLAGS_listen);
  LECTERN_ASSIGN_OR_RETURN(CallerSecurity security, CallerSecurityFromFlags(listen));
  LECTERN_ASSIGN_OR_RETURN(
      const std::shared_ptr<grpc::ChannelCredentials> credentials,
      ChannelTls({absl::GetFlag(FLAGS_worker_certificate), absl::GetFlag(FLAGS_worker_key),
                  absl::GetFlag(FLAGS_worker_ca)},
                 {"worker_certificate", "worker_key", "worker_ca"}, /*system_roots=*/false));
  LECTERN_ASSIGN_OR_RETURN(const Workers workers, WorkersFromFlags(credentials));
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<GatewayServer> gateway,
      GatewayServer::Start({listen, call_limit, std::move(security)}, *workers.router, metrics));
  const auto levels = std::make_shared<Levels>();
  AddServerLevels(*levels);
  levels->Add("lectern_requests_in_flight_limit", "Calls of every kind that may run at once.",
              [call_limit] { return call_limit; });
  AddCertificateExpiries(*levels);
  AddCertificateExpiry(*levels, "worker_certificate", absl::GetFlag(FLAGS_worker_certificate));
  AddCertificateExpiry(*levels, "worker_ca", absl::GetFlag(FLAGS_worker_ca));
  std::vector<std::shared_ptr<prometheus::Collectable>> sources = {
      registry, levels, std::make_shared<ProcessCollector>()};
  if (workers.records != nullptr) {
    sources.push_back(std::make_shared<ClusterCollector>(*workers.records));
    sources.push_back(std::make_shared<RouterCollector>(*workers.router));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<MetricsServer> http,
                           MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen), sources,
                                                [&gateway] { return gateway->serving(); }));
  gateway->FollowWorkers();
  RunUntilTerminated(kProgram,
                     {{"address", gateway->address()},
                      {"metrics", http->address()},
                      {"worker", InCluster() ? "cluster" : worker}},
                     DrainTime(),
                     {.refuse =
                          [&] {
                            if (InCluster()) gateway->TakeLeave();
                            gateway->Refuse();
                          },
                      .wait_idle = [&](auto until) { return gateway->WaitIdle(until); },
                      .stop = [&] { gateway->Stop(); }});
  return absl::OkStatus();
}

}  // namespace
}  // namespace lectern::services

int main(int argc, char** argv) {
  lectern::services::BlockTerminationSignals();
  absl::SetProgramUsageMessage(
      "serves the public API in front of a worker, or of a cluster of them\nusage: lectern-gateway "
      "--worker=HOST:PORT [--flagfile=FILE] [flags]\n       lectern-gateway "
      "--etcd_endpoints=HOST:PORT,... [--flagfile=FILE] [flags]");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = lectern::services::Run();
  return status.ok() ? 0
                     : lectern::services::ReportFailedStart(lectern::services::kProgram, status);
}
