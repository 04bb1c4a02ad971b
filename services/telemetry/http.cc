#include "services/telemetry/http.h"

#include <CivetServer.h>
#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/error/error.h"
#include "services/rpc/reason.h"
#include "services/telemetry/levels.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

bool Reply(mg_connection* connection, std::string_view status, std::string_view type,
           const std::string& body) {
  const std::string head = fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", status,
      type, body.size());
  mg_write(connection, head.data(), head.size());
  mg_write(connection, body.data(), body.size());
  return true;
}

class MetricsPage final : public CivetHandler {
 public:
  explicit MetricsPage(std::vector<std::shared_ptr<prometheus::Collectable>> sources)
      : sources_(std::move(sources)) {}
  bool handleGet(CivetServer*, mg_connection* connection) override {
    std::vector<prometheus::MetricFamily> families;
    for (const auto& source : sources_) {
      for (prometheus::MetricFamily& family : source->Collect()) {
        families.push_back(std::move(family));
      }
    }
    return Reply(connection, "200 OK", "text/plain; version=0.0.4; charset=utf-8",
                 prometheus::TextSerializer().Serialize(families));
  }

 private:
  const std::vector<std::shared_ptr<prometheus::Collectable>> sources_;
};

class HealthPage final : public CivetHandler {
 public:
  explicit HealthPage(std::function<bool()> healthy) : healthy_(std::move(healthy)) {}
  bool handleGet(CivetServer*, mg_connection* connection) override {
    return healthy_() ? Reply(connection, "200 OK", "text/plain", "ok\n")
                      : Reply(connection, "503 Service Unavailable", "text/plain", "not serving\n");
  }

 private:
  const std::function<bool()> healthy_;
};

// civetweb says on its own channel why it does not start; the exception does not know.
struct Callbacks : CivetCallbacks {
  Callbacks() {
    log_message = [](const mg_connection*, const char* message) {
      Log(LogLevel::kDebug, "civetweb", {{"message", message}});
      return 1;
    };
  }
};

class CivetMetricsServer final : public MetricsServer {
 public:
  CivetMetricsServer(const std::string& address,
                     std::vector<std::shared_ptr<prometheus::Collectable>> sources,
                     std::function<bool()> healthy)
      : metrics_(std::move(sources)),
        health_(std::move(healthy)),
        server_(std::vector<std::string>{"listening_ports", address, "num_threads", "2"},
                &callbacks_) {
    server_.addHandler("/metrics", metrics_);
    server_.addHandler("/healthz", health_);
    host_ = address.substr(0, address.rfind(':'));
  }
  ~CivetMetricsServer() override { server_.close(); }

  std::string address() const override {
    const std::vector<int> ports = const_cast<CivetServer&>(server_).getListeningPorts();
    return fmt::format("{}:{}", host_, ports.empty() ? 0 : ports.front());
  }

 private:
  MetricsPage metrics_;
  HealthPage health_;
  const Callbacks callbacks_;
  CivetServer server_;
  std::string host_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& address, std::vector<std::shared_ptr<prometheus::Collectable>> sources,
    std::function<bool()> healthy) {
  try {
    const auto serving = std::make_shared<Levels>();
    serving->Add("lectern_serving", "1 while /healthz says so: calls are taken.",
                 [healthy] { return healthy() ? 1.0 : 0.0; });
    sources.push_back(serving);
    return std::make_unique<CivetMetricsServer>(address, std::move(sources), std::move(healthy));
  } catch (const CivetException& error) {
    return engine::Error(
        absl::StatusCode::kUnavailable, reason::kListenFailed,
        fmt::format("cannot serve metrics on {}: {}; is the port in use? choose another with "
                    "--metrics_listen",
                    address, error.what()));
  }
}

}  // namespace lectern::services
