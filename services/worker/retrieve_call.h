// Retrieve in progress.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "lectern/v1/answers.pb.h"
#include "services/worker/ticket_slot.h"
#include "services/worker/unary_call.h"

namespace lectern::services {

class WorkerService;

class RetrieveCall final : public UnaryCall, public std::enable_shared_from_this<RetrieveCall> {
 public:
  static grpc::ServerUnaryReactor* Start(WorkerService& worker,
                                         grpc::CallbackServerContext& context,
                                         const v1::RetrieveRequest& request,
                                         v1::RetrieveResponse& response);

  void OnCancel() override { ticket_.Cancel(); }
  void OnDone() override;

 private:
  RetrieveCall(WorkerService& worker, grpc::CallbackServerContext& context,
               const v1::RetrieveRequest& request, v1::RetrieveResponse& response);

  absl::Status Submit();

  WorkerService& worker_;
  const v1::RetrieveRequest& request_;
  v1::RetrieveResponse& response_;
  TicketSlot ticket_;
  std::shared_ptr<RetrieveCall> self_;  // until OnDone
};

}  // namespace lectern::services
