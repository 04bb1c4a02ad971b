// An answer on its way through the gateway: read a message from the worker, write it to the caller,
// read the next. A slow caller thus slows the reading, and the worker keeps the queue. As long as
// nothing has reached the caller, a worker that goes away is waited for and asked again; a question
// in a session only if it has certainly not been answered (the turn would be there twice).
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string_view>
#include <vector>

#include "lectern/v1/answers.pb.h"
#include "services/gateway/gateway.h"

namespace lectern::services {

// Towards the caller. The question is read when the caller is known (public_services.h).
class AskRelay final : public grpc::ServerBidiReactor<v1::AskRequest, v1::AskResponse> {
 public:
  AskRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  // Towards the worker: one attempt. While the call runs, a hold keeps it from ending between a
  // write and the next read.
  class Answer final : public grpc::ClientReadReactor<v1::AskResponse> {
   public:
    explicit Answer(AskRelay& relay) : relay_(relay) {}
    void Begin(const Destination& destination);
    void Next() { StartRead(&message_); }
    void End() { RemoveHold(); }
    const v1::AskResponse& message() const { return message_; }

    void OnReadDone(bool ok) override;
    void OnDone(const grpc::Status& status) override;

   private:
    AskRelay& relay_;
    v1::AskResponse message_;
  };

  void Seek(Errand errand);
  void End(const grpc::Status& status);

  Gateway& gateway_;
  RelayedCall call_;
  v1::AskRequest request_;
  engine::CorpusName corpus_;
  Destination destination_;
  std::unique_ptr<Answer> answer_;
  // Earlier attempts, which gRPC may not have left yet.
  std::vector<std::unique_ptr<Answer>> past_;
  bool written_ = false;  // something has gone to the caller
  // The answer's end came too late: the corpus is elsewhere by now.
  bool moved_ = false;
};

}  // namespace lectern::services
