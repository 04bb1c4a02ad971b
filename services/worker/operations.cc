#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/worker/convert.h"
#include "services/worker/wait_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Unary = grpc::ServerUnaryReactor;

Unary* WorkerService::GetOperation(Context* context, const v1::GetOperationRequest* request,
                                   v1::Operation* response) {
  return Run(context, "Worker/GetOperation", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kOperations, caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Operation operation, engine_.GetOperation(name));
    *response = ToProto(operation, caller.request_id);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListOperations(Context* context, const v1::ListOperationsRequest* request,
                                     v1::ListOperationsResponse* response) {
  return Run(context, "Worker/ListOperations", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->parent(), caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto operations, engine_.ListOperations(name, page));
    for (const engine::Operation& operation : operations.items) {
      *response->add_operations() = ToProto(operation, caller.request_id);
    }
    response->set_next_page_token(operations.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::WaitOperation(Context* context, const v1::WaitOperationRequest* request,
                                    v1::Operation* response) {
  return WaitCall::Start(*this, *context, *request, *response);
}

Unary* WorkerService::CancelOperation(Context* context, const v1::CancelOperationRequest* request,
                                      v1::Operation* response) {
  return Run(context, "Worker/CancelOperation", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kOperations, caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Operation operation, engine_.CancelOperation(name));
    *response = ToProto(operation, caller.request_id);
    return absl::OkStatus();
  });
}

}  // namespace lectern::services
