#include "services/worker/retrieve_call.h"

#include <utility>

#include "engine/error/status_macros.h"
#include "services/worker/convert.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

RetrieveCall::RetrieveCall(WorkerService& worker, grpc::CallbackServerContext& context,
                           const v1::RetrieveRequest& request, v1::RetrieveResponse& response)
    : UnaryCall(worker.metrics(), worker.admission(), worker.ownership(), "Worker/Retrieve",
                context),
      worker_(worker),
      request_(request),
      response_(response) {}

grpc::ServerUnaryReactor* RetrieveCall::Start(WorkerService& worker,
                                              grpc::CallbackServerContext& context,
                                              const v1::RetrieveRequest& request,
                                              v1::RetrieveResponse& response) {
  std::shared_ptr<RetrieveCall> call(new RetrieveCall(worker, context, request, response));
  call->self_ = call;
  if (!call->admitted().ok()) {
    call->End(call->admitted());
  } else if (!worker.executor().Submit([call] {
               if (const absl::Status status = call->Submit(); !status.ok()) call->End(status);
             })) {
    call->End(ExecutorFullError());
  }
  return call.get();
}

absl::Status RetrieveCall::Submit() {
  if (context().IsCancelled()) return GivenUpError(context());
  LECTERN_RETURN_IF_ERROR(MayBegin());
  LECTERN_ASSIGN_OR_RETURN(const engine::RetrieveRequest request,
                           ToRetrieveRequest(request_, caller().tenant, DeadlineMicros(context())));
  LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<engine::Ticket> ticket,
                           worker_.engine().Retrieve(
                               request, [call = shared_from_this(), corpus = request.target.corpus](
                                            const absl::StatusOr<engine::Retrieval>& retrieval) {
                                 if (retrieval.ok()) {
                                   call->response_ = ToProto(*retrieval, corpus);
                                   call->record().add_usage(call->response_.usage());
                                 }
                                 call->End(retrieval.status());
                               }));
  ticket_.Set(std::move(ticket));
  return absl::OkStatus();
}

void RetrieveCall::OnDone() {
  // The ticket may own the callback, which owns this call.
  ticket_.Clear();
  self_.reset();
}

}  // namespace lectern::services
