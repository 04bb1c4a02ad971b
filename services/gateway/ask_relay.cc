#include "services/gateway/ask_relay.h"

#include "services/gateway/route.h"

namespace lectern::services {

AskRelay::AskRelay(Gateway& gateway, grpc::CallbackServerContext& context,
                   const v1::AskRequest& request)
    : call_(gateway, context, "Answers/Ask") {
  absl::Status status = call_.accepted();
  if (status.ok()) status = RouteOf(request, call_.tenant()).status();
  if (!status.ok()) {
    Finish(call_.Close(status));
    return;
  }
  gateway.worker().Ask(&call_.upstream(), &request, this);
  AddHold();
  StartRead(&message_);
  StartCall();
}

void AskRelay::OnReadDone(bool ok) {
  if (!ok) {
    RemoveHold();
    return;
  }
  if (message_.has_completed()) call_.record().set_usage(message_.completed().usage());
  StartWrite(&message_);
}

void AskRelay::OnWriteDone(bool ok) {
  if (ok) {
    StartRead(&message_);
    return;
  }
  call_.upstream().TryCancel();
  RemoveHold();
}

void AskRelay::OnDone(const grpc::Status& status) { Finish(call_.Close(status)); }

}  // namespace lectern::services
