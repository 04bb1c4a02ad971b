#include "services/telemetry/metrics.h"

#include <google/protobuf/descriptor.h>

#include <utility>

#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/cluster.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"
#include "services/rpc/errors.h"
#include "services/telemetry/error_reasons.h"

namespace lectern::services {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Histogram;

// Powers of two: a call is anything from a look-up to an ingest that somebody waits for.
const Histogram::BucketBoundaries kDurationBuckets = {
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048,  4.096, 8.192, 16.38, 32.77, 65.54, 131.1, 262.1, 524.3, 1049,  2097,  4194};
const Histogram::BucketBoundaries kFirstTokenBuckets = {0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32,
                                                        0.64,  1.28, 2.56, 5.12, 10.2, 20.5, 41.0};
const Histogram::BucketBoundaries kPerTokenBuckets = {0.0005, 0.001, 0.002, 0.004, 0.008, 0.016,
                                                      0.032,  0.064, 0.128, 0.256, 0.512, 1.024};

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) * 1e-9;
}

std::vector<const google::protobuf::ServiceDescriptor*> PublicServices() {
  std::vector<const google::protobuf::ServiceDescriptor*> services;
  for (const auto* file : {v1::AskRequest::descriptor()->file(), v1::Backup::descriptor()->file(),
                           v1::Move::descriptor()->file(), v1::Corpus::descriptor()->file(),
                           v1::Model::descriptor()->file(), v1::Operation::descriptor()->file(),
                           v1::Session::descriptor()->file(), v1::Tenant::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) services.push_back(file->service(i));
  }
  return services;
}

}  // namespace

std::vector<std::string> PublicServiceNames() {
  std::vector<std::string> names;
  for (const auto* service : PublicServices()) names.push_back(service->full_name());
  return names;
}

std::vector<std::string> MethodNames(std::string_view service_name) {
  std::vector<std::string> names;
  for (const auto* service : PublicServices()) {
    // Workers have no part in what is done in the directory.
    if (!service_name.empty() && service == v1::Move::descriptor()->file()->service(0)) continue;
    for (int i = 0; i < service->method_count(); ++i) {
      names.push_back((service_name.empty() ? service->name() : std::string(service_name)) + "/" +
                      service->method(i)->name());
    }
  }
  return names;
}

CallMetrics::CallMetrics(prometheus::Registry& registry, const std::string& component,
                         const std::string& version, const std::vector<std::string>& methods)
    : requests_(BuildCounter()
                    .Name("lectern_requests_total")
                    .Help("Calls that finished, by method and status code.")
                    .Labels({{"component", component}})
                    .Register(registry)),
      errors_(BuildCounter()
                  .Name("lectern_errors_total")
                  .Help("Calls that failed, by reason.")
                  .Labels({{"component", component}})
                  .Register(registry)),
      durations_(BuildHistogram()
                     .Name("lectern_request_duration_seconds")
                     .Help("Time from a call's start to its last byte.")
                     .Labels({{"component", component}})
                     .Register(registry)),
      in_flight_(BuildGauge()
                     .Name("lectern_requests_in_flight")
                     .Help("Calls accepted and not finished.")
                     .Labels({{"component", component}})
                     .Register(registry)
                     .Add({})),
      time_to_first_token_(BuildHistogram()
                               .Name("lectern_time_to_first_token_seconds")
                               .Help("Time from an answer's acceptance to its first token.")
                               .Labels({{"component", component}})
                               .Register(registry)
                               .Add({}, kFirstTokenBuckets)),
      time_per_output_token_(BuildHistogram()
                                 .Name("lectern_time_per_output_token_seconds")
                                 .Help("Time per token of an answer, after the first.")
                                 .Labels({{"component", component}})
                                 .Register(registry)
                                 .Add({}, kPerTokenBuckets)),
      disk_bytes_(BuildCounter()
                      .Name("lectern_cache_bytes_total")
                      .Help("Bytes of cached blocks read for answers, by where they came from.")
                      .Labels({{"component", component}})
                      .Register(registry)
                      .Add({{"tier", "disk"}})),
      memory_bytes_(BuildCounter()
                        .Name("lectern_cache_bytes_total")
                        .Help("Bytes of cached blocks read for answers, by where they came from.")
                        .Labels({{"component", component}})
                        .Register(registry)
                        .Add({{"tier", "memory"}})),
      device_bytes_(BuildCounter()
                        .Name("lectern_cache_bytes_total")
                        .Help("Bytes of cached blocks read for answers, by where they came from.")
                        .Labels({{"component", component}})
                        .Register(registry)
                        .Add({{"tier", "to_device"}})),
      tenant_requests_(BuildCounter()
                           .Name("lectern_tenant_requests_total")
                           .Help("Calls that finished, by tenant and status code.")
                           .Labels({{"component", component}})
                           .Register(registry)),
      tenant_tokens_(BuildCounter()
                         .Name("lectern_tenant_tokens_total")
                         .Help("Tokens of questions and answers, by tenant.")
                         .Labels({{"component", component}})
                         .Register(registry)) {
  BuildGauge()
      .Name("lectern_build_info")
      .Help("1, labelled with the version that runs.")
      .Labels({{"component", component}})
      .Register(registry)
      .Add({{"version", version}})
      .Set(1);
  for (const std::string_view reason : kErrorReasons) {
    errors_.Add({{"reason", std::string(reason)}});
  }
  for (const std::string& method : methods) {
    requests_.Add({{"method", method}, {"code", CodeName(grpc::StatusCode::OK)}});
  }
}

void CallMetrics::CallFinished(const std::string& method, const std::string& code,
                               const std::string& reason, double seconds) {
  in_flight_.Decrement();
  requests_.Add({{"method", method}, {"code", code}}).Increment();
  if (!reason.empty()) errors_.Add({{"reason", reason}}).Increment();
  durations_.Add({{"method", method}}, kDurationBuckets).Observe(seconds);
}

std::string CallMetrics::TenantLabel(const std::string& tenant) {
  const std::lock_guard lock(tenants_mutex_);
  if (tenants_.size() < kMaxTenantLabels) tenants_.insert(tenant);
  return tenants_.contains(tenant) ? tenant : "other";
}

void CallMetrics::TenantCallFinished(const std::string& tenant, const std::string& code,
                                     const v1::Usage& usage) {
  const std::string label = TenantLabel(tenant);
  tenant_requests_.Add({{"tenant", label}, {"code", code}}).Increment();
  const std::pair<const char*, int64_t> counts[] = {{"cached", usage.cached_tokens()},
                                                    {"prompt", usage.prompt_tokens()},
                                                    {"generated", usage.generated_tokens()}};
  for (const auto& [kind, tokens] : counts) {
    if (tokens == 0) continue;
    tenant_tokens_.Add({{"tenant", label}, {"kind", kind}}).Increment(static_cast<double>(tokens));
  }
}

void CallMetrics::AnswerFinished(const v1::Usage& usage) {
  disk_bytes_.Increment(static_cast<double>(usage.disk_bytes()));
  memory_bytes_.Increment(static_cast<double>(usage.memory_bytes()));
  device_bytes_.Increment(static_cast<double>(usage.device_bytes()));
  if (usage.generated_tokens() == 0) return;
  const double first = Seconds(usage.time_to_first_token());
  time_to_first_token_.Observe(first);
  if (usage.generated_tokens() > 1) {
    time_per_output_token_.Observe((Seconds(usage.total_time()) - first) /
                                   static_cast<double>(usage.generated_tokens() - 1));
  }
}

}  // namespace lectern::services
