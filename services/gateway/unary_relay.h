// A unary call on its way through the gateway: the caller is established, then the request is read,
// then a worker is asked. Its answer is parsed into the caller's response: nothing is copied.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "services/gateway/attempts.h"
#include "services/gateway/gateway.h"
#include "services/gateway/route.h"
#include "services/gateway/whole_cluster.h"

namespace lectern::services {

template <typename Request, typename Response>
using UnaryMethod = void (WorkerApi::*)(grpc::ClientContext*, const Request*, Response*,
                                        std::function<void(grpc::Status)>);

// What a method does in a cluster where it is not about one corpus. May block.
template <typename Request, typename Response>
using WholeMethod = absl::Status (*)(WholeCluster&, const Request&, Response&);

// A stream of one message each way (public_services.h says why).
template <typename Request, typename Response>
class UnaryRelay final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  // `whole`: null for methods that any one worker can answer. `method`: null for those that are
  // about the cluster itself.
  UnaryRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context,
             UnaryMethod<Request, Response> method, WholeMethod<Request, Response> whole)
      : gateway_(gateway), method_(method), whole_(whole), call_(gateway, context, name) {
    if (call_.accepted().ok()) {
      this->StartRead(&request_);
    } else {
      this->Finish(call_.Close(call_.accepted()));
    }
  }

  void OnReadDone(bool ok) override {
    if (const absl::Status status = ok ? Accept() : UnreadableRequest(); !status.ok()) {
      this->Finish(call_.Close(status));
    } else if (whole_ != nullptr && gateway_.router().clustered()) {
      AskAll();
    } else if (method_ == nullptr) {
      this->Finish(call_.Close(NoCluster()));
    } else {
      Seek(FirstErrand());
    }
  }
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { delete this; }

 private:
  absl::Status Accept() {
    Route route = RouteOf(request_, call_.tenant());
    if (!route.ok()) return route.status();
    name_ = *std::move(route);
    return call_.RecordAct(ResourceOf(request_));
  }

  Errand FirstErrand() {
    Errand errand = call_.ErrandFor(name_);
    if constexpr (std::is_same_v<Request, v1::CreateCorpusRequest>) {
      if (gateway_.router().clustered()) {
        // The name decides where it goes, so it cannot be left to where it goes.
        if (name_.corpus.empty()) name_.corpus = MakeCorpusId();
        request_.set_corpus_id(name_.corpus);
        errand.name = name_;
        errand.place = true;
      }
    }
    return errand;
  }

  void Seek(Errand errand) {
    gateway_.router().Find(std::move(errand), [this](absl::StatusOr<Destination> found) {
      if (!found.ok()) {
        this->Finish(call_.Close(found.status()));
        return;
      }
      destination_ = *std::move(found);
      response_.Clear();
      (destination_.backend->api().*method_)(&call_.NewAttempt(destination_), &request_, &response_,
                                             [this](const grpc::Status& result) { Judge(result); });
    });
  }

  void Judge(const grpc::Status& result) {
    Router& router = gateway_.router();
    if (router.StillThere(destination_)) {
      const Again again = attempts_ < kRetryLimit && !call_.cancelled()
                              ? router.Judge(result, IsIdempotent(call_.method()))
                              : Again::kNo;
      if (again == Again::kNo) {
        End(result);
      } else {
        Seek(RetryErrand(router, FirstErrand(), again, attempts_++));
      }
    } else if (IsIdempotent(call_.method()) && attempts_ < kRetryLimit && !call_.cancelled()) {
      Seek(RetryErrand(router, FirstErrand(), Again::kElsewhere, attempts_++));
    } else {
      this->Finish(call_.Close(MovedAway(destination_)));
    }
  }

  void AskAll() {
    const bool queued = gateway_.router().Submit([this] {
      WholeCluster cluster(gateway_.router(), call_);
      const absl::Status status = whole_(cluster, request_, response_);
      if (status.ok()) {
        End(grpc::Status::OK);
      } else {
        this->Finish(call_.Close(status));
      }
    });
    if (!queued) this->Finish(call_.Close(TooManyWait()));
  }

  void End(const grpc::Status& result) {
    if constexpr (requires(CallRecord record) { record.add_usage(response_.usage()); }) {
      if (result.ok()) call_.record().add_usage(response_.usage());
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
  const WholeMethod<Request, Response> whole_;
  RelayedCall call_;
  Request request_;
  Response response_;
  engine::CorpusName name_;
  Destination destination_;
  int attempts_ = 0;  // beyond the first
};

}  // namespace lectern::services
