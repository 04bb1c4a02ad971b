// What Prometheus sees of the calls. The engine's own counters are collected at scrape time
// (services/worker/engine_collector.h). Thread-safe.
//
//   lectern_requests_total{method,code}            finished calls
//   lectern_errors_total{reason}                   those that failed, by ErrorInfo.reason
//   lectern_request_duration_seconds{method}       histogram, from the first byte to the last
//   lectern_requests_in_flight                     accepted and not finished
//   lectern_time_to_first_token_seconds            histogram, of answers, queue included
//   lectern_time_per_output_token_seconds          histogram, of answers: after the first token
//   lectern_cache_bytes_total{tier}                cached blocks read for answers; tier disk or
//   memory lectern_build_info{version}                    1
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <string_view>

#include "lectern/v1/answers.pb.h"

namespace lectern::services {

class CallMetrics {
 public:
  // `component` ("gateway", "worker") labels every series, so that the two sides of one call are
  // never added up.
  CallMetrics(prometheus::Registry& registry, const std::string& component,
              const std::string& version);

  void CallStarted() { in_flight_.Increment(); }
  void CallFinished(const std::string& method, const std::string& code, const std::string& reason,
                    double seconds);
  void AnswerFinished(const v1::Usage& usage);

 private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Histogram>& durations_;
  prometheus::Gauge& in_flight_;
  prometheus::Histogram& time_to_first_token_;
  prometheus::Histogram& time_per_output_token_;
  prometheus::Counter& disk_bytes_;
  prometheus::Counter& memory_bytes_;
};

}  // namespace lectern::services
