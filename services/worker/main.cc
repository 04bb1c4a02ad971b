// lectern-worker: an engine behind the worker API, for gateways in other processes.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/error/status_macros.h"
#include "services/cluster/cluster_flags.h"
#include "services/cluster/collector.h"
#include "services/cluster/member.h"
#include "services/cluster/mover.h"
#include "services/cluster/replicas.h"
#include "services/cluster/worker_channel.h"
#include "services/process/lifecycle.h"
#include "services/process/server_flags.h"
#include "services/process/signals.h"
#include "services/process/version.h"
#include "services/security/listen_security.h"
#include "services/security/tls.h"
#include "services/telemetry/http.h"
#include "services/telemetry/levels.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/process_collector.h"
#include "services/worker/engine_collector.h"
#include "services/worker/engine_flags.h"
#include "services/worker/worker_server.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7431",
          "address of the worker API; gateways alone should reach it");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:7432", "address of /metrics and /healthz");

ABSL_FLAG(std::string, worker_ca, "",
          "in a cluster: PEM file of CAs: speak TLS with other workers, whose certificates must be "
          "from one of them");
ABSL_FLAG(std::string, worker_certificate, "",
          "PEM file of the certificate that this worker shows to other workers (mutual TLS)");
ABSL_FLAG(std::string, worker_key, "", "PEM file of that certificate's key");

namespace lectern::services {
namespace {

constexpr char kProgram[] = "lectern-worker";
// Requests to etcd that may go unanswered before a lease runs out.
constexpr int kRequestsPerLease = 4;

// What makes a worker one of several.
struct Cluster {
  Cluster(EtcdClient::Options options, engine::Engine& engine, const ReplicaFlags& flags,
          const std::shared_ptr<grpc::ChannelCredentials>& to_workers)
      : connect([to_workers](const std::string& address) {
          return ConnectToWorker(address, to_workers);
        }),
        client(std::move(options)),
        directory(client, EtcdPrefixFromFlags()),
        member(client, directory, engine, fence),
        replicas(directory, member, engine,
                 {.copies = flags.copies,
                  .patience = flags.patience,
                  .replace_after = flags.replace_after,
                  .connect = connect},
                 {.failover_after = flags.failover_after,
                  .connect = connect,
                  .moves_here = [this](const auto& name) { return mover.Active(name); }}),
        mover(directory, member, engine,
              {.connect = connect, .of_replica = [this](const auto& import) {
                 return replicas.follower().Needs(import);
               }}) {
    member.Use(replicas);
  }

  const std::function<std::shared_ptr<grpc::Channel>(const std::string&)> connect;
  EtcdClient client;
  EtcdDirectory directory;
  Fence fence;
  Member member;
  Replicas replicas;
  Mover mover;
};

// Null without --etcd_endpoints.
absl::StatusOr<std::unique_ptr<Cluster>> ClusterFromFlags(engine::Engine& engine) {
  if (!InCluster()) return nullptr;
  LECTERN_ASSIGN_OR_RETURN(EtcdClient::Options options, EtcdOptionsFromFlags());
  LECTERN_ASSIGN_OR_RETURN(const std::chrono::milliseconds lease, LeaseFromFlags());
  options.timeout = std::min(options.timeout, lease / kRequestsPerLease);
  LECTERN_ASSIGN_OR_RETURN(
      const std::shared_ptr<grpc::ChannelCredentials> to_workers,
      ChannelTls({absl::GetFlag(FLAGS_worker_certificate), absl::GetFlag(FLAGS_worker_key),
                  absl::GetFlag(FLAGS_worker_ca)},
                 {"worker_certificate", "worker_key", "worker_ca"}, /*system_roots=*/false));
  LECTERN_ASSIGN_OR_RETURN(const ReplicaFlags replicas, ReplicasFromFlags());
  return std::make_unique<Cluster>(std::move(options), engine, replicas, to_workers);
}

// Up to the cap or, without one, on the disk.
int64_t FreeBytes(engine::Engine& engine, const engine::EngineOptions& options) {
  if (options.disk_cap_bytes > 0) {
    const absl::StatusOr<engine::Stats> stats = engine.GetStats();
    if (!stats.ok()) return 0;
    return std::max(int64_t{0}, options.disk_cap_bytes - stats->disk_used_bytes);
  }
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(options.data_dir, error);
  return error ? 0 : static_cast<int64_t>(space.available);
}

void Join(Cluster& cluster, const MemberFlags& flags, engine::Engine& engine,
          const engine::EngineOptions& options, WorkerServer& worker) {
  cluster.member.Join({.name = flags.group,
                       .address = flags.address,
                       .fingerprint = engine.GetModel().fingerprint,
                       .version = Version()},
                      {.lease = flags.lease,
                       .free_bytes = [&engine, options] { return FreeBytes(engine, options); },
                       .answering = [&worker](bool now) { worker.SetAnswering(now); }});
  cluster.mover.Start();
  cluster.replicas.Start();
}

absl::Status Run() {
  LECTERN_RETURN_IF_ERROR(ApplyServerFlags());
  const std::string listen = absl::GetFlag(FLAGS_listen);
  LECTERN_ASSIGN_OR_RETURN(
      const std::shared_ptr<grpc::ServerCredentials> credentials,
      CredentialsFromFlags(listen, ClientCertificatesRequired(), "--tls_client_ca"));
  LECTERN_ASSIGN_OR_RETURN(const engine::EngineOptions options, EngineOptionsFromFlags());
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Engine> engine,
                           engine::Engine::Open(options));
  const auto registry = std::make_shared<prometheus::Registry>();
  const auto collector = std::make_shared<EngineCollector>(*engine);
  CallMetrics metrics(*registry, "worker", Version(), MethodNames("Worker"));
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<Cluster> cluster, ClusterFromFlags(*engine));
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<WorkerServer> worker,
      WorkerServer::Start(listen, credentials, *engine, &metrics,
                          {.ownership = cluster == nullptr ? nullptr : &cluster->member}));
  const auto levels = std::make_shared<Levels>();
  AddServerLevels(*levels);
  AddCertificateExpiries(*levels);
  AddCertificateExpiry(*levels, "worker_certificate", absl::GetFlag(FLAGS_worker_certificate));
  AddCertificateExpiry(*levels, "worker_ca", absl::GetFlag(FLAGS_worker_ca));
  std::vector<std::shared_ptr<prometheus::Collectable>> sources = {
      registry, collector, levels, std::make_shared<ProcessCollector>()};
  MemberFlags member;
  if (cluster != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(member, MemberFromFlags(worker->address()));
    sources.push_back(std::make_shared<ClusterCollector>(cluster->directory, &cluster->member,
                                                         &cluster->mover, &cluster->replicas));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<MetricsServer> http,
                           MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen), sources,
                                                [&worker] { return worker->serving(); }));
  if (cluster != nullptr) Join(*cluster, member, *engine, options, *worker);
  std::vector<LogField> ready =
      ReadyFields(worker->address(), http->address(), engine->GetModel(), options);
  ready.emplace_back("group", member.group);  // empty outside clusters
  RunUntilTerminated(kProgram, ready, DrainTime(),
                     {.refuse = [&] { worker->Refuse(); },
                      .wait_idle = [&](auto until) { return worker->WaitIdle(until); },
                      .stop =
                          [&] {
                            if (cluster != nullptr) cluster->replicas.Stop();
                            if (cluster != nullptr) cluster->mover.Stop();
                            engine->Drain(0);
                            worker->Stop();
                            if (cluster != nullptr) cluster->member.Leave();
                          }});
  return absl::OkStatus();
}

}  // namespace
}  // namespace lectern::services

int main(int argc, char** argv) {
  lectern::services::BlockTerminationSignals();
  absl::SetProgramUsageMessage(
      "runs the engine for gateways in other processes\nusage: lectern-worker [--flagfile=FILE] "
      "[flags]\nin a cluster: lectern-worker --etcd_endpoints=HOST:PORT,... [--group=NAME] "
      "[--advertise=HOST:PORT] [flags]");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = lectern::services::Run();
  return status.ok() ? 0
                     : lectern::services::ReportFailedStart(lectern::services::kProgram, status);
}
