// The public services: each method relays to the method of the same name in the worker API. `whole`
// is what a method does in a cluster where no single worker can answer it.
//
// All methods are registered as streams, whatever they are in the .proto files. gRPC reads the
// request of any other method before anybody can look at the call: a caller without a key could
// make the server hold as many requests of kMaxReceiveBytes as it has streams. Of a stream nothing
// is read (but the first kilobytes of flow control) until a relay asks for it, and relays ask when
// they know who calls. On the wire the two are the same.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/rpc_service_method.h>

#include <memory>
#include <string_view>
#include <vector>

#include "services/gateway/gateway.h"
#include "services/gateway/unary_relay.h"

namespace lectern::services {

// Its paths are literals: "/lectern.v1.Corpora/GetCorpus".
class PublicService final : public grpc::Service {
 public:
  explicit PublicService(Gateway& gateway) : gateway_(gateway) {}

  template <typename Request, typename Response>
  void AddUnary(const char* path, UnaryMethod<Request, Response> method,
                WholeMethod<Request, Response> whole = nullptr) {
    AddStream(path,
              new grpc::internal::CallbackBidiHandler<Request, Response>(
                  [this, name = NameOf(path), method, whole](grpc::CallbackServerContext* context) {
                    return new UnaryRelay<Request, Response>(gateway_, name, *context, method,
                                                             whole);
                  }));
  }
  void AddAsk(const char* path);
  void AddUpload(const char* path);

 private:
  // What logs, metrics and the table of access call it: "Corpora/GetCorpus".
  static std::string_view NameOf(std::string_view path);
  void AddStream(const char* path, grpc::internal::MethodHandler* handler);

  Gateway& gateway_;
  int methods_ = 0;
};

// All of them.
std::vector<std::unique_ptr<PublicService>> MakePublicServices(Gateway& gateway);

}  // namespace lectern::services
