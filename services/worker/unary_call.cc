#include "services/worker/unary_call.h"

#include <chrono>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/reason.h"

namespace lectern::services {

absl::Status UnaryCall::MayBegin() {
  if (ownership_ == nullptr) return absl::OkStatus();
  if (of_corpus_) {
    absl::StatusOr<CorpusGate::Pass> pass = ownership_->Enter(caller(), changes_);
    if (!pass.ok()) return pass.status();
    pass_ = *std::move(pass);
  }
  Replication* replication = ownership_->replication();
  if (on_replica_ && replication != nullptr) {
    LECTERN_RETURN_IF_ERROR(replication->MayChange({caller().tenant, caller().corpus}));
  }
  return ownership_->MayBegin(caller(), of_corpus_);
}

bool Settles(const absl::Status& status) {
  return status.ok() || status.code() == absl::StatusCode::kAlreadyExists ||
         status.code() == absl::StatusCode::kNotFound;
}

void UnaryCall::End(const absl::Status& status) {
  Replication* replication = ownership_ == nullptr ? nullptr : ownership_->replication();
  if (!on_replica_ || replication == nullptr || !Settles(status)) {
    Close(status);
    return;
  }
  replication->Settle(caller(), context_.deadline(), [this, status](const absl::Status& settled) {
    Close(settled.ok() ? status : settled);
  });
}

void UnaryCall::Close(const absl::Status& status) {
  absl::Status last = status;
  // A refusal stays as it is: it says whether the work was done.
  if (ownership_ != nullptr && status.code() != absl::StatusCode::kUnavailable) {
    if (const absl::Status may = ownership_->MayEnd(caller(), of_corpus_); !may.ok()) last = may;
  }
  const grpc::Status out = ToGrpcStatus(last, caller().request_id);
  record_.Finish(out);
  Finish(out);
}

absl::Status GivenUpError(const grpc::CallbackServerContext& context) {
  if (context.deadline() <= std::chrono::system_clock::now()) {
    return engine::Error(absl::StatusCode::kDeadlineExceeded, reason::kDeadlineExceeded,
                         "the call's deadline has passed");
  }
  return engine::Error(absl::StatusCode::kCancelled, reason::kCancelled, "the caller cancelled");
}

absl::Status ExecutorFullError() {
  return engine::Error(absl::StatusCode::kResourceExhausted, reason::kQueueFull,
                       "too many calls wait for the worker's threads; try again");
}

}  // namespace lectern::services
