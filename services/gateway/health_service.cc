#include "services/gateway/health_service.h"

#include <grpcpp/impl/rpc_service_method.h>

#include <utility>

#include "engine/error/error.h"
#include "services/rpc/errors.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

std::set<std::string> WithTheServer(const std::vector<std::string>& services) {
  std::set<std::string> names(services.begin(), services.end());
  names.insert("");
  return names;
}

grpc::Status Unreadable() {
  return ToGrpcStatus(
      engine::InvalidArgument(reason::kRequestUnreadable, "the call brought no HealthCheckRequest"),
      "");
}

}  // namespace

// One answer. A stream of one message each way, like every public method (public_services.h).
class HealthService::Check final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit Check(HealthService* service) : service_(service), reading_(service->BeginRead()) {
    if (reading_) {
      StartRead(&request_);
    } else {
      Answer("");
    }
  }
  void OnReadDone(bool ok) override {
    if (std::exchange(reading_, false)) service_->EndRead();
    if (ok) {
      Answer(request_.service());
    } else {
      Finish(Unreadable());
    }
  }
  void OnDone() override { delete this; }

 private:
  void Answer(const std::string& name) {
    if (!service_->Knows(name)) {
      Finish(grpc::Status(grpc::StatusCode::NOT_FOUND, "there is no such service"));
      return;
    }
    {
      const std::lock_guard lock(service_->mutex_);
      response_.set_status(service_->status());
    }
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }

  HealthService* const service_;
  bool reading_;
  Request request_;
  Response response_;
};

// The state now, and each later one; of states that follow one another quickly, the last.
class HealthService::Watch final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit Watch(HealthService* service) : service_(service), reading_(service->BeginRead()) {
    if (reading_) {
      StartRead(&request_);
    } else {
      Begin("");
    }
  }
  void OnReadDone(bool ok) override {
    if (std::exchange(reading_, false)) service_->EndRead();
    if (ok) {
      Begin(request_.service());
    } else {
      End(Unreadable());
    }
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(service_->mutex_);
    writing_ = false;
    if (ok) Tell();
  }
  void OnCancel() override { End(grpc::Status::CANCELLED); }
  void OnDone() override {
    {
      const std::lock_guard lock(service_->mutex_);
      service_->watches_.erase(this);
    }
    delete this;
  }

  // The service's mutex is held. (No callback runs within StartWrite or Finish.)
  void Tell() {
    const Response::ServingStatus status = known_ ? service_->status() : Response::SERVICE_UNKNOWN;
    if (ended_ || writing_ || response_.status() == status) return;
    writing_ = true;
    response_.set_status(status);
    StartWrite(&response_);
  }

 private:
  void Begin(const std::string& name) {
    const std::lock_guard lock(service_->mutex_);
    known_ = service_->Knows(name);
    service_->watches_.insert(this);
    Tell();
  }
  void End(const grpc::Status& status) {
    const std::lock_guard lock(service_->mutex_);
    if (!std::exchange(ended_, true)) Finish(status);
  }

  HealthService* const service_;
  bool reading_;
  Request request_;
  // All below: guarded by the service's mutex.
  bool known_ = false;
  Response response_;  // UNKNOWN, which is never told, before the first
  bool writing_ = false;
  bool ended_ = false;
};

HealthService::HealthService(const std::vector<std::string>& services)
    : services_(WithTheServer(services)) {
  using grpc::internal::RpcMethod;
  auto add = [this, index = 0](const char* path, grpc::internal::MethodHandler* handler) mutable {
    AddMethod(new grpc::internal::RpcServiceMethod(path, RpcMethod::BIDI_STREAMING, nullptr));
    MarkMethodCallback(index++, handler);
  };
  add("/grpc.health.v1.Health/Check",
      new grpc::internal::CallbackBidiHandler<Request, Response>(
          [this](grpc::CallbackServerContext*) { return new Check(this); }));
  add("/grpc.health.v1.Health/Watch",
      new grpc::internal::CallbackBidiHandler<Request, Response>(
          [this](grpc::CallbackServerContext*) { return new Watch(this); }));
}

bool HealthService::BeginRead() {
  const std::lock_guard lock(mutex_);
  if (reads_ >= kMostReads) return false;
  ++reads_;
  return true;
}

void HealthService::EndRead() {
  const std::lock_guard lock(mutex_);
  --reads_;
}

HealthService::Response::ServingStatus HealthService::status() const {
  return serving_ ? Response::SERVING : Response::NOT_SERVING;
}

void HealthService::SetServing(bool serving) {
  const std::lock_guard lock(mutex_);
  serving_ = serving;
  for (Watch* watch : watches_) watch->Tell();
}

}  // namespace lectern::services
