#include "services/worker/ask_call.h"

#include <string>
#include <utility>

#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/worker/convert.h"
#include "services/worker/unary_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

AskCall::AskCall(WorkerService& worker, grpc::CallbackServerContext& context,
                 const v1::AskRequest& request)
    : worker_(worker),
      context_(context),
      request_(request),
      record_(worker.metrics(), worker.admission(), "Worker/Ask") {
  record_.set_caller(InternalCaller(context));
}

AskCall* AskCall::Start(WorkerService& worker, grpc::CallbackServerContext& context,
                        const v1::AskRequest& request) {
  std::shared_ptr<AskCall> call(new AskCall(worker, context, request));
  call->self_ = call;
  if (!call->record_.admitted().ok()) {
    call->End(call->record_.admitted());
  } else if (!worker.executor().Submit([call] {
               if (const absl::Status status = call->Submit(); !status.ok()) call->End(status);
             })) {
    call->End(ExecutorFullError());
  }
  return call.get();
}

absl::Status AskCall::Submit() {
  if (context_.IsCancelled()) return GivenUpError(context_);
  if (Ownership* ownership = worker_.ownership()) {
    LECTERN_ASSIGN_OR_RETURN(
        pass_, ownership->Enter(record_.caller(), /*changes=*/request_.has_session()));
    LECTERN_RETURN_IF_ERROR(ownership->MayBegin(record_.caller(), /*of_corpus=*/true));
  }
  LECTERN_ASSIGN_OR_RETURN(
      engine::AskRequest request,
      ToAskRequest(request_, record_.caller().tenant, DeadlineMicros(context_)));
  corpus_ = request.target.corpus;
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<engine::Ticket> ticket,
                           worker_.engine().Ask(request, MakeSink()));
  ticket_.Set(std::move(ticket));
  return absl::OkStatus();
}

engine::AnswerSink AskCall::MakeSink() {
  return {.started =
              [call = shared_from_this()](const engine::AnswerStarted& started) {
                v1::AskResponse message;
                *message.mutable_started() = ToProto(started, call->corpus_);
                call->Push(std::move(message));
              },
          .text = [call = shared_from_this()](std::string_view text) { call->PushText(text); },
          .answered = [call = shared_from_this()](
                          const engine::Answer& answer) { call->PushAnswer(answer); },
          .done =
              [call = shared_from_this()](const absl::StatusOr<engine::Answer>& answer) {
                if (!answer.ok()) {
                  call->End(answer.status());
                  return;
                }
                call->PushAnswer(*answer);
                call->End(absl::OkStatus());
              }};
}

void AskCall::PushText(std::string_view text) {
  {
    const std::lock_guard lock(mutex_);
    // The front may be on its way already, any later one is still ours.
    if (queue_.size() > 1 && queue_.back().has_text()) {
      queue_.back().mutable_text()->append(text);
      return;
    }
  }
  v1::AskResponse message;
  message.set_text(std::string(text));
  Push(std::move(message));
}

void AskCall::PushAnswer(const engine::Answer& answer) {
  v1::AskResponse message;
  *message.mutable_completed() = ToProto(answer, corpus_);
  record_.add_usage(message.completed().usage());
  Push(std::move(message));
}

void AskCall::Push(v1::AskResponse message) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(message));
  }
  Advance();
}

void AskCall::End(const absl::Status& status) {
  {
    const std::lock_guard lock(mutex_);
    // The refusal that Advance found stays.
    if (!final_) final_ = ToGrpcStatus(status, record_.caller().request_id);
  }
  Advance();
}

void AskCall::Advance() {
  absl::Status may;
  if (const Ownership* ownership = worker_.ownership()) {
    may = ownership->MayEnd(record_.caller(), /*of_corpus=*/true);
  }
  const v1::AskResponse* next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    if (!may.ok() && (!final_ || final_->ok() || !queue_.empty())) {
      queue_.clear();
      refused_ = true;
      final_ = ToGrpcStatus(may, record_.caller().request_id);
    }
    if (broken_) queue_.clear();
    if (!queue_.empty()) {
      writing_ = true;
      next = &queue_.front();
    } else if (final_.has_value()) {
      finished_ = true;
    } else {
      return;
    }
  }
  if (next != nullptr) {
    StartWrite(next);
  } else {
    record_.Finish(*final_);
    Finish(*final_);
  }
}

void AskCall::OnWriteDone(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    broken_ = broken_ || !ok;
  }
  if (!ok) ticket_.Cancel();
  Advance();
}

void AskCall::OnDone() {
  // Here, and not where it was found: that may have been in a callback of the engine.
  if (refused_) ticket_.Cancel();
  // The ticket may own the sink, which owns this call.
  ticket_.Clear();
  self_.reset();
}

}  // namespace lectern::services
