// A unary call on its way through the gateway: the caller is established, then the request is read,
// then the worker is asked. Its answer is parsed into the caller's response: nothing is copied.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string_view>

#include "services/gateway/gateway.h"
#include "services/gateway/route.h"

namespace lectern::services {

template <typename Request, typename Response>
using UnaryMethod = void (WorkerApi::*)(grpc::ClientContext*, const Request*, Response*,
                                        std::function<void(grpc::Status)>);

// A stream of one message each way (public_services.h says why).
template <typename Request, typename Response>
class UnaryRelay final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  UnaryRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context,
             UnaryMethod<Request, Response> method)
      : gateway_(gateway), method_(method), call_(gateway, context, name) {
    if (call_.accepted().ok()) {
      this->StartRead(&request_);
    } else {
      this->Finish(call_.Close(call_.accepted()));
    }
  }

  void OnReadDone(bool ok) override {
    absl::Status status = ok ? absl::OkStatus() : UnreadableRequest();
    if (status.ok()) status = RouteOf(request_, call_.tenant()).status();
    if (status.ok()) status = call_.RecordAct(ResourceOf(request_));
    if (!status.ok()) {
      this->Finish(call_.Close(status));
      return;
    }
    (gateway_.worker().*method_)(&call_.upstream(), &request_, &response_,
                                 [this](const grpc::Status& result) { End(result); });
  }
  void OnCancel() override { call_.upstream().TryCancel(); }
  void OnDone() override { delete this; }

 private:
  void End(const grpc::Status& result) {
    if constexpr (requires(CallRecord record) { record.set_usage(response_.usage()); }) {
      if (result.ok()) call_.record().set_usage(response_.usage());
    }
    const grpc::Status status = call_.Close(result);
    if (status.ok()) {
      this->StartWriteAndFinish(&response_, grpc::WriteOptions(), status);
    } else {
      this->Finish(status);
    }
  }

  Gateway& gateway_;
  const UnaryMethod<Request, Response> method_;
  RelayedCall call_;
  Request request_;
  Response response_;
};

}  // namespace lectern::services
