// lectern-gateway: the public API in front of a worker in another process.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <absl/flags/usage.h>

#include <memory>
#include <string>
#include <utility>

#include "engine/error/status_macros.h"
#include "services/gateway/gateway_server.h"
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
ABSL_FLAG(std::string, worker, "127.0.0.1:7431", "address of the worker");
ABSL_FLAG(std::string, worker_ca, "",
          "PEM file of CAs: speak TLS with the worker, whose certificate must be from one of them");
ABSL_FLAG(std::string, worker_certificate, "",
          "PEM file of the certificate that this gateway shows to the worker (mutual TLS)");
ABSL_FLAG(std::string, worker_key, "", "PEM file of that certificate's key");
ABSL_FLAG(int32_t, call_limit, 1024, "calls of every kind that may run at once");

namespace lectern::services {
namespace {

constexpr char kProgram[] = "lectern-gateway";

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
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<GatewayServer> gateway,
                           GatewayServer::Start({listen, call_limit, std::move(security)},
                                                ConnectToWorker(worker, credentials), metrics));
  const auto levels = std::make_shared<Levels>();
  AddServerLevels(*levels);
  levels->Add("lectern_requests_in_flight_limit", "Calls of every kind that may run at once.",
              [call_limit] { return call_limit; });
  AddCertificateExpiries(*levels);
  AddCertificateExpiry(*levels, "worker_certificate", absl::GetFlag(FLAGS_worker_certificate));
  AddCertificateExpiry(*levels, "worker_ca", absl::GetFlag(FLAGS_worker_ca));
  LECTERN_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsServer> http,
      MetricsServer::Start(absl::GetFlag(FLAGS_metrics_listen),
                           {registry, levels, std::make_shared<ProcessCollector>()},
                           [&gateway] { return gateway->serving(); }));
  gateway->FollowWorker();
  RunUntilTerminated(
      kProgram, {{"address", gateway->address()}, {"metrics", http->address()}, {"worker", worker}},
      DrainTime(),
      {.refuse = [&] { gateway->Refuse(); },
       .wait_idle = [&](auto until) { return gateway->WaitIdle(until); },
       .stop = [&] { gateway->Stop(); }});
  return absl::OkStatus();
}

}  // namespace
}  // namespace lectern::services

int main(int argc, char** argv) {
  lectern::services::BlockTerminationSignals();
  absl::SetProgramUsageMessage(
      "serves the public API in front of a worker\nusage: lectern-gateway --worker=HOST:PORT "
      "[--flagfile=FILE] [flags]");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = lectern::services::Run();
  return status.ok() ? 0
                     : lectern::services::ReportFailedStart(lectern::services::kProgram, status);
}
