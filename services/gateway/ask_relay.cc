#include "services/gateway/ask_relay.h"

#include <utility>

#include "services/gateway/attempts.h"
#include "services/gateway/route.h"

namespace lectern::services {

AskRelay::AskRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context)
    : gateway_(gateway), call_(gateway, context, name) {
  if (call_.accepted().ok()) {
    StartRead(&request_);
  } else {
    Finish(call_.Close(call_.accepted()));
  }
}

void AskRelay::OnReadDone(bool ok) {
  absl::Status status = ok ? absl::OkStatus() : UnreadableRequest();
  if (status.ok()) {
    Route route = RouteOf(request_, call_.tenant());
    status = route.status();
    if (route.ok()) corpus_ = *std::move(route);
  }
  if (status.ok()) {
    Seek(call_.ErrandFor(corpus_));
  } else {
    Finish(call_.Close(status));
  }
}

void AskRelay::Seek(Errand errand) {
  gateway_.router().Find(std::move(errand), [this](absl::StatusOr<Destination> found) {
    if (!found.ok()) {
      Finish(call_.Close(found.status()));
      return;
    }
    destination_ = *std::move(found);
    if (answer_ != nullptr) past_.push_back(std::move(answer_));
    answer_ = std::make_unique<Answer>(*this);
    answer_->Begin(destination_);
  });
}

void AskRelay::OnWriteDone(bool ok) {
  if (ok) {
    answer_->Next();
    return;
  }
  call_.Cancel();
  answer_->End();
}

void AskRelay::End(const grpc::Status& status) {
  if (moved_) {
    Finish(call_.Close(MovedAway(destination_)));
    return;
  }
  const Again again = written_ || static_cast<int>(past_.size()) >= kRetryLimit
                          ? Again::kNo
                          : gateway_.router().Judge(status, /*idempotent=*/!request_.has_session());
  if (again == Again::kNo || call_.cancelled()) {
    Finish(call_.Close(status));
    return;
  }
  Seek(RetryErrand(gateway_.router(), call_.ErrandFor(corpus_), again,
                   static_cast<int>(past_.size())));
}

void AskRelay::Answer::Begin(const Destination& destination) {
  destination.backend->api().Ask(&relay_.call_.NewAttempt(destination), &relay_.request_, this);
  AddHold();
  StartRead(&message_);
  StartCall();
}

void AskRelay::Answer::OnReadDone(bool ok) {
  if (!ok) {
    RemoveHold();
    return;
  }
  if (message_.has_completed()) {
    relay_.call_.record().add_usage(message_.completed().usage());
    relay_.moved_ = !relay_.gateway_.router().StillThere(relay_.destination_);
    if (relay_.moved_) {
      relay_.call_.Cancel();
      RemoveHold();
      return;
    }
  }
  relay_.written_ = true;
  relay_.StartWrite(&message_);
}

void AskRelay::Answer::OnDone(const grpc::Status& status) { relay_.End(status); }

}  // namespace lectern::services
