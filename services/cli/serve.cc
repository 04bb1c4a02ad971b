#include <absl/flags/flag.h>

#include <memory>
#include <utility>

#include "engine/engine.h"
#include "engine/error/status_macros.h"
#include "services/cli/client.h"
#include "services/cli/command.h"
#include "services/cluster/local_directory.h"
#include "services/gateway/gateway_server.h"
#include "services/process/lifecycle.h"
#include "services/process/server_flags.h"
#include "services/process/signals.h"
#include "services/process/version.h"
#include "services/security/caller_security.h"
#include "services/security/listen_security.h"
#include "services/telemetry/http.h"
#include "services/telemetry/levels.h"
#include "services/telemetry/metrics.h"
#include "services/telemetry/process_collector.h"
#include "services/worker/engine_collector.h"
#include "services/worker/engine_flags.h"
#include "services/worker/worker_server.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:7421", "address of the API; port 0 takes a free one");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:7422", "address of /metrics and /healthz");
ABSL_FLAG(int32_t, call_limit, 1024, "calls of every kind that may run at once");

namespace lectern::services {
namespace {

// Gateway, worker and engine in one process; the gateway reaches the worker without a socket.
absl::Status Serve() {
  LECTERN_RETURN_IF_ERROR(ApplyServerFlags());
  const int call_limit = absl::GetFlag(FLAGS_call_limit);
  LECTERN_RETURN_IF_ERROR(CheckAtLeast("call_limit", call_limit, 1));
  const std::string listen = absl::GetFlag(FLAGS_listen);
  LECTERN_ASSIGN_OR_RETURN(CallerSecurity security, CallerSecurityFromFlags(listen));
  LECTERN_ASSIGN_OR_RETURN(const engine::EngineOptions options, EngineOptionsFromFlags());
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<engine::Engine> engine,
                           engine::Engine::Open(options));
  const auto registry = std::make_shared<prometheus::Registry>();
  const auto collector = std::make_shared<EngineCollector>(*engine);
  CallMetrics metrics(*registry, "gateway", Version(), MethodNames());
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerServer> worker,
                           WorkerServer::Start("", nullptr, *engine, nullptr, {}));
  LocalDirectory directory({.name = "local"});
  Router router(directory,
                {.connect = [&](const std::string&) { return worker->InProcessChannel(); }});
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<GatewayServer> gateway,
      GatewayServer::Start({listen, call_limit, std::move(security)}, router, metrics));
  const auto levels = std::make_shared<Levels>();
  AddServerLevels(*levels);
  levels->Add("lectern_requests_in_flight_limit", "Calls of every kind that may run at once.",
              [call_limit] { return call_limit; });
  AddCertificateExpiries(*levels);
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsServer> http,
      MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen),
                           {registry, collector, levels, std::make_shared<ProcessCollector>()},
                           [&gateway] { return gateway->serving(); }));
  gateway->SetServing(true);
  RunUntilTerminated("lectern",
                     ReadyFields(gateway->address(), http->address(), engine->GetModel(), options),
                     DrainTime(),
                     {.refuse =
                          [&] {
                            gateway->Refuse();
                            worker->EndWaits();
                          },
                      .wait_idle = [&](auto until) { return gateway->WaitIdle(until); },
                      .stop =
                          [&] {
                            engine->Drain(0);
                            gateway->Stop();
                            worker->Stop();
                          }});
  return absl::OkStatus();
}

int Run(const std::vector<std::string>& arguments) {
  if (!arguments.empty()) return UsageMistake(kServeCommand, "takes no arguments");
  BlockTerminationSignals();
  const absl::Status status = Serve();
  return status.ok() ? kExitOk : ReportFailedStart("lectern serve", status);
}

}  // namespace

const Command kServeCommand = {
    .name = "serve",
    .arguments = "[--data_dir=DIR] [--model_dir=DIR] [flags]",
    .summary = "Runs the whole service in one process.",
    .details =
        "Prints one line that begins with \"lectern ready\" once it takes calls. SIGTERM or "
        "Ctrl-C\n"
        "ends it: running calls get --drain_seconds to finish, a second signal cuts that short.",
    .flags = {"data_dir",
              "model_dir",
              "listen",
              "metrics_listen",
              "attention",
              "adaptive_coverage",
              "drafts",
              "pool_bytes",
              "index_bytes",
              "device",
              "device_memory",
              "device_graphs",
              "threads",
              "queue_limit",
              "batch_limit",
              "context_tokens",
              "prefill_chunk_tokens",
              "document_limit_bytes",
              "request_bytes",
              "disk_cap",
              "scrub_rate",
              "read_timeout_seconds",
              "backup_dir",
              "backup_rate",
              "call_limit",
              "keys_file",
              "audit_log",
              "tls_certificate",
              "tls_key",
              "tls_client_ca",
              "allow_insecure",
              "drain_seconds",
              "log_format",
              "log_level",
              "flagfile"},
    .run = Run,
};

}  // namespace lectern::services
