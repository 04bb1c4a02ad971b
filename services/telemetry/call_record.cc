#include "services/telemetry/call_record.h"

#include <vector>

#include "engine/error/check.h"
#include "services/rpc/errors.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

// Codes that say that we, not the caller, have a problem.
LogLevel LevelOf(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::UNKNOWN:
      return LogLevel::kError;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return LogLevel::kWarning;
    default:
      return LogLevel::kInfo;
  }
}

}  // namespace

CallRecord::CallRecord(CallMetrics* metrics, Admission& admission, std::string_view method)
    : metrics_(metrics), admission_(admission), method_(method), admitted_(admission.Enter()) {
  if (metrics_ != nullptr) metrics_->CallStarted();
}

CallRecord::~CallRecord() { LECTERN_CHECK(finished_); }

void CallRecord::add_usage(const v1::Usage& usage) {
  if (usage_.ByteSizeLong() == 0) {
    usage_ = usage;
    return;
  }
  // Waiting ends with the first answer's first token, and the call with the last answer.
  usage_.set_cached_tokens(usage_.cached_tokens() + usage.cached_tokens());
  usage_.set_prompt_tokens(usage_.prompt_tokens() + usage.prompt_tokens());
  usage_.set_generated_tokens(usage_.generated_tokens() + usage.generated_tokens());
  usage_.set_disk_bytes(usage_.disk_bytes() + usage.disk_bytes());
  usage_.set_memory_bytes(usage_.memory_bytes() + usage.memory_bytes());
  usage_.set_device_bytes(usage_.device_bytes() + usage.device_bytes());
  *usage_.mutable_total_time() = usage.total_time();
}

void CallRecord::Finish(const grpc::Status& status) {
  LECTERN_CHECK(!finished_);
  finished_ = true;
  if (metrics_ != nullptr) Report(status);
  // Last: whoever waits for the server to be idle may destroy the metrics after this.
  if (admitted_.ok()) admission_.Leave();
}

void CallRecord::Report(const grpc::Status& status) {
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const std::string code = CodeName(status.error_code());
  std::vector<LogField> fields = {{"method", method_},
                                  {"code", code},
                                  {"duration_ms", seconds * 1e3},
                                  {"request_id", caller_.request_id},
                                  {"tenant", caller_.tenant}};
  RemoteError error;
  if (!status.ok()) {
    error = ToRemoteError(status);
    fields.emplace_back("reason", error.reason);
  }
  if (usage_.ByteSizeLong() > 0) {
    fields.emplace_back("cached_tokens", usage_.cached_tokens());
    fields.emplace_back("prompt_tokens", usage_.prompt_tokens());
    fields.emplace_back("generated_tokens", usage_.generated_tokens());
    metrics_->AnswerFinished(usage_);
  }
  if (!caller_.key_id.empty()) fields.emplace_back("key", caller_.key_id);
  if (!caller_.tenant.empty()) metrics_->TenantCallFinished(caller_.tenant, code, usage_);
  metrics_->CallFinished(std::string(method_), code, error.reason, seconds);
  Log(LevelOf(status.error_code()), "request", fields);
}

}  // namespace lectern::services
