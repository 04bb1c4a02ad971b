// What Prometheus sees of the calls. The engine's own counters are collected at scrape time
// (services/worker/engine_collector.h). Thread-safe.
//
//   lectern_requests_total{method,code}        finished calls
//   lectern_errors_total{reason}               those that failed, by ErrorInfo.reason
//   lectern_request_duration_seconds{method}   histogram, from the first byte to the last
//   lectern_tenant_requests_total{tenant,code} the same by tenant; the tenants beyond the first 100
//                                              of a process share the label "other"
//   lectern_tenant_tokens_total{tenant,kind}   kind: cached, prompt or generated
//   lectern_requests_in_flight                 accepted and not finished
//   lectern_time_to_first_token_seconds        histogram, of answers, queue included
//   lectern_time_per_output_token_seconds      histogram, of answers: after the first token
//   lectern_cache_bytes_total{tier}            cached blocks read for answers; tier disk or memory
//   lectern_build_info{version}                1
//
// Series that are known before the first call are there from the start, at 0: code OK of every
// method, and every reason (error_reasons.h).
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lectern/v1/answers.pb.h"

namespace lectern::services {

// Full names of the services of the public API.
std::vector<std::string> PublicServiceNames();
// Their methods, as they are called here: "Answers/Ask"; or those of the service that has them all,
// too: "Worker/Ask".
std::vector<std::string> MethodNames(std::string_view service_name = "");

class CallMetrics {
 public:
  // `component` ("gateway", "worker") labels every series, so that the two sides of one call are
  // never added up. `methods`: those whose calls are counted.
  CallMetrics(prometheus::Registry& registry, const std::string& component,
              const std::string& version, const std::vector<std::string>& methods);

  void CallStarted() { in_flight_.Increment(); }
  void CallFinished(const std::string& method, const std::string& code, const std::string& reason,
                    double seconds);
  void AnswerFinished(const v1::Usage& usage);
  // Of a tenant that a key has vouched for: what callers make up must not become labels.
  void TenantCallFinished(const std::string& tenant, const std::string& code,
                          const v1::Usage& usage);

  static constexpr size_t kMaxTenantLabels = 100;

 private:
  std::string TenantLabel(const std::string& tenant);

  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Histogram>& durations_;
  prometheus::Gauge& in_flight_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& time_per_output_token_;
  prometheus::Counter& disk_bytes_;
  prometheus::Counter& memory_bytes_;
  prometheus::Counter& device_bytes_;
  prometheus::Family<prometheus::Counter>& tenant_requests_;
  prometheus::Family<prometheus::Counter>& tenant_tokens_;
  std::mutex tenants_mutex_;
  std::set<std::string> tenants_;  // that have a label of their own
};

}  // namespace lectern::services
