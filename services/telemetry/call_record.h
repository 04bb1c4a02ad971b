// One call, from acceptance to its last byte: admitted or refused, counted, and logged in one line
// when it is over.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <string>
#include <string_view>

#include "lectern/v1/answers.pb.h"
#include "services/rpc/admission.h"
#include "services/rpc/call.h"
#include "services/telemetry/metrics.h"

namespace lectern::services {

class CallRecord {
 public:
  // `metrics` may be null: then the call is neither counted nor logged (in `lectern serve`, the
  // gateway's record of a call is the process's). `method` is "lectern.v1.Answers/Ask"-like and
  // outlives the record, as `metrics` and `admission` do.
  CallRecord(CallMetrics* metrics, Admission& admission, std::string_view method);
  ~CallRecord();
  CallRecord(const CallRecord&) = delete;
  CallRecord& operator=(const CallRecord&) = delete;

  // Whether the call may go on (Admission::Enter). Finish must be called either way.
  const absl::Status& admitted() const { return admitted_; }

  const Caller& caller() const { return caller_; }
  void set_caller(const Caller& caller) { caller_ = caller; }
  // Of an answer: counted and logged with the call, those of further answers added up.
  void add_usage(const v1::Usage& usage);

  // Must be called once, with what the caller is about to get.
  void Finish(const grpc::Status& status);

 private:
  void Report(const grpc::Status& status);

  CallMetrics* const metrics_;
  Admission& admission_;
  const std::string_view method_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  const absl::Status admitted_;
  Caller caller_;
  v1::Usage usage_;
  bool finished_ = false;
};

}  // namespace lectern::services
