#include "services/gateway/ask_relay.h"

#include "services/gateway/route.h"

namespace lectern::services {

AskRelay::AskRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context)
    : gateway_(gateway), call_(gateway, context, name), answer_(*this) {
  if (call_.accepted().ok()) {
    StartRead(&request_);
  } else {
    Finish(call_.Close(call_.accepted()));
  }
}

void AskRelay::OnReadDone(bool ok) {
  absl::Status status = ok ? absl::OkStatus() : UnreadableRequest();
  if (status.ok()) status = RouteOf(request_, call_.tenant()).status();
  if (status.ok()) {
    answer_.Begin(gateway_.worker());
  } else {
    Finish(call_.Close(status));
  }
}

void AskRelay::OnWriteDone(bool ok) {
  if (ok) {
    answer_.Next();
    return;
  }
  call_.upstream().TryCancel();
  answer_.End();
}

void AskRelay::Answer::Begin(WorkerApi& worker) {
  worker.Ask(&relay_.call_.upstream(), &relay_.request_, this);
  AddHold();
  StartRead(&message_);
  StartCall();
}

void AskRelay::Answer::OnReadDone(bool ok) {
  if (!ok) {
    RemoveHold();
    return;
  }
  if (message_.has_completed()) relay_.call_.record().set_usage(message_.completed().usage());
  relay_.StartWrite(&message_);
}

void AskRelay::Answer::OnDone(const grpc::Status& status) {
  relay_.Finish(relay_.call_.Close(status));
}

}  // namespace lectern::services
