// A unary call on its way through the gateway. The worker's answer is parsed into the caller's
// response: nothing is copied.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string_view>

#include "services/gateway/gateway.h"
#include "services/gateway/route.h"

namespace lectern::services {

template <typename Request, typename Response>
class UnaryRelay final : public grpc::ServerUnaryReactor {
 public:
  using Method = void (WorkerApi::*)(grpc::ClientContext*, const Request*, Response*,
                                     std::function<void(grpc::Status)>);

  UnaryRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context,
             const Request& request, Response& response, Method method)
      : call_(gateway, context, name) {
    absl::Status status = call_.accepted();
    if (status.ok()) status = RouteOf(request, call_.tenant()).status();
    if (status.ok()) status = call_.RecordAct(ResourceOf(request));
    if (!status.ok()) {
      Finish(call_.Close(status));
      return;
    }
    (gateway.worker().*method)(
        &call_.upstream(), &request, &response, [this, &response](const grpc::Status& result) {
          if constexpr (requires(CallRecord record) { record.set_usage(response.usage()); }) {
            if (result.ok()) call_.record().set_usage(response.usage());
          }
          Finish(call_.Close(result));
        });
  }

  void OnCancel() override { call_.upstream().TryCancel(); }
  void OnDone() override { delete this; }

 private:
  RelayedCall call_;
};

template <typename Request, typename Response>
grpc::ServerUnaryReactor* RelayUnary(Gateway& gateway, std::string_view name,
                                     grpc::CallbackServerContext& context, const Request& request,
                                     Response& response,
                                     typename UnaryRelay<Request, Response>::Method method) {
  return new UnaryRelay<Request, Response>(gateway, name, context, request, response, method);
}

}  // namespace lectern::services
