// An answer on its way through the gateway: read a message from the worker, write it to the caller,
// read the next. A slow caller thus slows the reading, and the worker keeps the queue.
#pragma once

#include <grpcpp/grpcpp.h>

#include "lectern/v1/answers.pb.h"
#include "services/gateway/gateway.h"

namespace lectern::services {

// Towards the caller a ServerWriteReactor, towards the worker a ClientReadReactor. While the call
// upstream runs, a hold keeps it from ending between a write and the next read.
class AskRelay final : public grpc::ServerWriteReactor<v1::AskResponse>,
                       public grpc::ClientReadReactor<v1::AskResponse> {
 public:
  AskRelay(Gateway& gateway, grpc::CallbackServerContext& context, const v1::AskRequest& request);

  // From the worker.
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  // From the caller.
  void OnWriteDone(bool ok) override;
  void OnCancel() override { call_.upstream().TryCancel(); }
  void OnDone() override { delete this; }

 private:
  RelayedCall call_;
  v1::AskResponse message_;
};

}  // namespace lectern::services
