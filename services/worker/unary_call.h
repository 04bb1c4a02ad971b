// A unary call in progress: what every method of the worker does around its own work.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <string_view>

#include "services/cluster/ownership.h"
#include "services/rpc/call.h"
#include "services/telemetry/call_record.h"

namespace lectern::services {

class UnaryCall : public grpc::ServerUnaryReactor {
 public:
  // `ownership`: null outside clusters.
  UnaryCall(CallMetrics* metrics, Admission& admission, Ownership* ownership,
            std::string_view method, grpc::CallbackServerContext& context)
      : context_(context),
        ownership_(ownership),
        of_corpus_(IsOfCorpus(method)),
        changes_(ChangesCorpus(method)),
        on_replica_(IsOnReplica(method)),
        record_(metrics, admission, method) {
    record_.set_caller(InternalCaller(context));
  }

  const absl::Status& admitted() const { return record_.admitted(); }
  const Caller& caller() const { return record_.caller(); }
  CallRecord& record() { return record_; }
  grpc::CallbackServerContext& context() { return context_; }

  // Whether this worker may work on the call at all. May wait for etcd.
  absl::Status MayBegin();

  // When what was changed is where it must be, with `status`, or with what makes it nobody's
  // business any more (Ownership::MayEnd). Once, from any thread; `this` may be gone afterwards.
  void End(const absl::Status& status);

  void OnDone() override { delete this; }

 private:
  void Close(const absl::Status& status);

  grpc::CallbackServerContext& context_;
  Ownership* const ownership_;
  const bool of_corpus_;
  const bool changes_;
  const bool on_replica_;
  CorpusGate::Pass pass_;
  CallRecord record_;
};

// Whether a change that ended so has something to say about what is stored: done twice, it says
// that it was done before, which must be as true as it was the first time.
bool Settles(const absl::Status& status);
// What a call ends with when its caller has given up: CANCELLED, or DEADLINE_EXCEEDED if that is
// why.
absl::Status GivenUpError(const grpc::CallbackServerContext& context);
// RESOURCE_EXHAUSTED QUEUE_FULL of the executor.
absl::Status ExecutorFullError();

}  // namespace lectern::services
