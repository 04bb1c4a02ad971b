// An answer on its way through the gateway: read a message from the worker, write it to the caller,
// read the next. A slow caller thus slows the reading, and the worker keeps the queue.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string_view>

#include "lectern/v1/answers.pb.h"
#include "services/gateway/gateway.h"

namespace lectern::services {

// Towards the caller. The question is read when the caller is known (public_services.h).
class AskRelay final : public grpc::ServerBidiReactor<v1::AskRequest, v1::AskResponse> {
 public:
  AskRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override { call_.upstream().TryCancel(); }
  void OnDone() override { delete this; }

 private:
  // Towards the worker. While the call runs, a hold keeps it from ending between a write and the
  // next read.
  class Answer final : public grpc::ClientReadReactor<v1::AskResponse> {
   public:
    explicit Answer(AskRelay& relay) : relay_(relay) {}
    void Begin(WorkerApi& worker);
    void Next() { StartRead(&message_); }
    void End() { RemoveHold(); }
    const v1::AskResponse& message() const { return message_; }

    void OnReadDone(bool ok) override;
    void OnDone(const grpc::Status& status) override;

   private:
    AskRelay& relay_;
    v1::AskResponse message_;
  };

  Gateway& gateway_;
  RelayedCall call_;
  v1::AskRequest request_;
  Answer answer_;
};

}  // namespace lectern::services
