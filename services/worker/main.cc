// lectern-worker: an engine behind the worker API, for gateways in other processes.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>

#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/error/status_macros.h"
#include "services/process/lifecycle.h"
#include "services/process/server_flags.h"
#include "services/process/signals.h"
#include "services/process/version.h"
#include "services/security/listen_security.h"
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

namespace lectern::services {
namespace {

constexpr char kProgram[] = "lectern-worker";

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
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerServer> worker,
                           WorkerServer::Start(listen, credentials, *engine, &metrics, {}));
  const auto levels = std::make_shared<Levels>();
  AddServerLevels(*levels);
  AddCertificateExpiries(*levels);
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsServer> http,
      MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen),
                           {registry, collector, levels, std::make_shared<ProcessCollector>()},
                           [&worker] { return worker->serving(); }));
  const engine::ModelInfo model = engine->GetModel();
  RunUntilTerminated(kProgram,
                     {{"address", worker->address()},
                      {"metrics", http->address()},
                      {"model", model.display_name},
                      {"backend", model.backend},
                      {"attention", model.attention},
                      {"context_limit_tokens", model.context_limit_tokens},
                      {"data_dir", options.data_dir}},
                     DrainTime(),
                     {.refuse = [&] { worker->Refuse(); },
                      .wait_idle = [&](auto until) { return worker->WaitIdle(until); },
                      .stop =
                          [&] {
                            engine->Drain(0);
                            worker->Stop();
                          }});
  return absl::OkStatus();
}

}  // namespace
}  // namespace lectern::services

int main(int argc, char** argv) {
  lectern::services::BlockTerminationSignals();
  absl::SetProgramUsageMessage(
      "runs the engine for gateways in other processes\nusage: lectern-worker [--flagfile=FILE] "
      "[flags]");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = lectern::services::Run();
  return status.ok() ? 0
                     : lectern::services::ReportFailedStart(lectern::services::kProgram, status);
}
