#include "services/worker/wait_call.h"

#include <algorithm>
#include <chrono>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {
namespace {

using Clock = std::chrono::system_clock;

constexpr std::chrono::hours kLongestWait{1};
// So that an answer at the deadline still reaches its caller.
constexpr std::chrono::milliseconds kAnswerMargin{250};

absl::StatusOr<Clock::time_point> EndOfWait(const v1::WaitOperationRequest& request,
                                            Clock::time_point deadline) {
  const Clock::time_point now = Clock::now();
  Clock::time_point end = now + kLongestWait;
  if (request.has_timeout()) {
    const google::protobuf::Duration& timeout = request.timeout();
    if (timeout.seconds() < 0 || timeout.nanos() < 0) {
      return engine::InvalidArgument(reason::kFieldInvalid, "timeout: must not be negative",
                                     {{"field", "timeout"}});
    }
    if (timeout.seconds() < std::chrono::seconds(kLongestWait).count()) {
      end = now + std::chrono::seconds(timeout.seconds()) +
            std::chrono::microseconds(timeout.nanos() / 1000);
    }
  }
  if (deadline == Clock::time_point::max()) return end;
  return std::min(end, std::max(now, deadline - std::min<Clock::duration>(kAnswerMargin,
                                                                          (deadline - now) / 2)));
}

}  // namespace

WaitCall::WaitCall(WorkerService& worker, grpc::CallbackServerContext& context,
                   const v1::WaitOperationRequest& request, v1::Operation& response)
    : UnaryCall(worker.metrics(), worker.admission(), worker.ownership(), "Worker/WaitOperation",
                context),
      worker_(worker),
      request_(request),
      deadline_(context.deadline()),
      response_(response) {}

grpc::ServerUnaryReactor* WaitCall::Start(WorkerService& worker,
                                          grpc::CallbackServerContext& context,
                                          const v1::WaitOperationRequest& request,
                                          v1::Operation& response) {
  std::shared_ptr<WaitCall> call(new WaitCall(worker, context, request, response));
  call->self_ = call;
  if (!call->admitted().ok()) {
    call->EndOnce(call->admitted());
  } else if (!worker.executor().Submit([call] {
               if (const absl::Status status = call->Watch(); !status.ok()) call->EndOnce(status);
             })) {
    call->EndOnce(ExecutorFullError());
  }
  return call.get();
}

absl::Status WaitCall::Watch() {
  LECTERN_RETURN_IF_ERROR(MayBegin());
  LECTERN_ASSIGN_OR_RETURN(
      name_, ParseResourceName(request_.name(), Collection::kOperations, caller().tenant, "name"));
  LECTERN_ASSIGN_OR_RETURN(const Clock::time_point end, EndOfWait(request_, deadline_));
  if (!worker_.AddWait(shared_from_this())) return DrainingError();
  if (ended_) worker_.RemoveWait(shared_from_this());  // OnDone may have been before AddWait
  LECTERN_ASSIGN_OR_RETURN(
      std::unique_ptr<engine::Ticket> ticket,
      worker_.engine().WatchOperation(
          name_, [call = shared_from_this()](const engine::Operation& operation) {
            call->EndOnce(absl::OkStatus(), &operation);
          }));
  ticket_.Set(std::move(ticket));
  if (!ended_) {
    // Weak: the alarm keeps its callback, and the call keeps the alarm.
    alarm_.Set(end, [weak = weak_from_this()](bool expired) {
      if (!expired) return;
      if (const std::shared_ptr<WaitCall> call = weak.lock()) call->TimeOut();
    });
  }
  // An end that came between the test and the alarm's start found no alarm to stop.
  if (ended_) alarm_.Cancel();
  return absl::OkStatus();
}

void WaitCall::TimeOut() {
  worker_.executor().MustSubmit([call = shared_from_this()] {
    if (call->ended_) return;
    const absl::StatusOr<engine::Operation> operation =
        call->worker_.engine().GetOperation(call->name_);
    call->EndOnce(operation.status(), operation.ok() ? &*operation : nullptr);
  });
}

void WaitCall::Drain() { EndOnce(DrainingError()); }

void WaitCall::OnCancel() { EndOnce(GivenUpError(context())); }

void WaitCall::EndOnce(const absl::Status& status, const engine::Operation* operation) {
  if (ended_.exchange(true)) return;
  if (operation != nullptr) response_ = ToProto(*operation, caller().request_id);
  End(status);
}

void WaitCall::OnDone() {
  const std::shared_ptr<WaitCall> self = std::move(self_);
  worker_.RemoveWait(self);
  alarm_.Cancel();
  // The ticket waits for a callback that may be running, and this is one of gRPC's threads.
  worker_.executor().MustSubmit([self] {
    self->ticket_.Cancel();
    self->ticket_.Clear();
  });
}

}  // namespace lectern::services
