// WaitOperation in progress: ends with the operation, the time-out, the caller's cancellation or
// the server's drain, whichever is first.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "engine/engine.h"
#include "lectern/v1/operations.pb.h"
#include "services/worker/ticket_slot.h"
#include "services/worker/unary_call.h"

namespace lectern::services {

class WorkerService;

class WaitCall final : public UnaryCall, public std::enable_shared_from_this<WaitCall> {
 public:
  static grpc::ServerUnaryReactor* Start(WorkerService& worker,
                                         grpc::CallbackServerContext& context,
                                         const v1::WaitOperationRequest& request,
                                         v1::Operation& response);
  // Ends the call with UNAVAILABLE SERVER_DRAINING.
  void Drain();

  void OnCancel() override;
  void OnDone() override;

 private:
  WaitCall(WorkerService& worker, grpc::CallbackServerContext& context,
           const v1::WaitOperationRequest& request, v1::Operation& response);

  absl::Status Watch();
  void TimeOut();
  // The first caller ends the call; the others are too late.
  void EndOnce(const absl::Status& status, const engine::Operation* operation = nullptr);

  WorkerService& worker_;
  // Copies: the call may end while Watch still runs.
  const v1::WaitOperationRequest request_;
  const std::chrono::system_clock::time_point deadline_;
  v1::Operation& response_;
  engine::ResourceName name_;
  TicketSlot ticket_;
  grpc::Alarm alarm_;
  std::atomic<bool> ended_ = false;
  std::shared_ptr<WaitCall> self_;  // until OnDone
};

}  // namespace lectern::services
