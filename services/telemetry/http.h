// The operators' side door: GET /metrics for Prometheus and GET /healthz (200 while the service is
// ready, else 503).
#pragma once

#include <absl/status/statusor.h>
#include <prometheus/collectable.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lectern::services {

class MetricsServer {
 public:
  // Serves what `sources` collect, and the gauge lectern_serving, on `address` ("127.0.0.1:7422";
  // port 0 takes a free one). `healthy` is called for every page, from any thread, until the server
  // is destroyed.
  //   UNAVAILABLE LISTEN_FAILED
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& address, std::vector<std::shared_ptr<prometheus::Collectable>> sources,
      std::function<bool()> healthy);
  virtual ~MetricsServer() = default;
  // With the port in use.
  virtual std::string address() const = 0;
};

}  // namespace lectern::services
