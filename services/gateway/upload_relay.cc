#include "services/gateway/upload_relay.h"

#include <fmt/format.h>

#include "engine/error/error.h"
#include "services/gateway/route.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

absl::Status HeaderMissing() {
  return engine::InvalidArgument(reason::kUploadHeaderMissing,
                                 "the first message of an upload must hold the header",
                                 {{"field", "header"}});
}

}  // namespace

UploadRelay::UploadRelay(Gateway& gateway, std::string_view name,
                         grpc::CallbackServerContext& context, v1::Document& response)
    : gateway_(gateway), call_(gateway, context, name), response_(response) {
  if (call_.accepted().ok()) {
    StartRead(&message_);
  } else {
    Finish(call_.Close(call_.accepted()));
  }
}

void UploadRelay::Begin(const Destination& destination) {
  begun_ = true;
  destination.backend->api().UploadDocument(&call_.NewAttempt(destination), &response_, this);
  AddHold();
  StartCall();
  StartWrite(&message_);
}

void UploadRelay::OnReadDone(bool ok) {
  if (!ok && !begun_) {
    Finish(call_.Close(HeaderMissing()));
    return;
  }
  if (!ok) {
    StartSendInitialMetadata();
    return;
  }
  refused_ = Check();
  if (!refused_.ok()) {
    Abandon();
  } else if (begun_) {
    StartWrite(&message_);
  } else {
    gateway_.router().Find(call_.ErrandFor(corpus_), [this](absl::StatusOr<Destination> found) {
      if (found.ok()) {
        Begin(*found);
      } else {
        Finish(call_.Close(found.status()));
      }
    });
  }
}

absl::Status UploadRelay::Check() {
  switch (message_.payload_case()) {
    case v1::UploadDocumentRequest::kHeader: {
      header_seen_ = true;
      Route route = RouteOf(message_.header(), call_.tenant());
      if (route.ok()) corpus_ = *std::move(route);
      return route.status();
    }
    case v1::UploadDocumentRequest::kData:
      if (message_.data().size() > kMaxUploadBytes) {
        return engine::InvalidArgument(
            reason::kMessageTooLarge,
            fmt::format("data has {} bytes; send at most {} in one message", message_.data().size(),
                        kMaxUploadBytes),
            {{"field", "data"},
             {"bytes", std::to_string(message_.data().size())},
             {"limit", std::to_string(kMaxUploadBytes)}});
      }
      break;
    case v1::UploadDocumentRequest::PAYLOAD_NOT_SET:
      if (header_seen_) {
        return engine::InvalidArgument(reason::kFieldMissing,
                                       "every message after the header must hold data",
                                       {{"field", "data"}});
      }
      break;
  }
  return header_seen_ ? absl::OkStatus() : HeaderMissing();
}

void UploadRelay::OnSendInitialMetadataDone(bool ok) {
  if (!ok) {
    Abandon();
    return;
  }
  complete_ = true;
  message_.Clear();
  StartWriteLast(&message_, grpc::WriteOptions());
}

void UploadRelay::OnWriteDone(bool ok) {
  // A write fails when the worker has ended the call; its status comes with OnDone.
  if (ok && !complete_) {
    StartRead(&message_);
  } else {
    RemoveHold();
  }
}

void UploadRelay::Abandon() {
  if (!begun_) {
    Finish(call_.Close(refused_));
    return;
  }
  call_.Cancel();
  RemoveHold();
}

void UploadRelay::OnDone(const grpc::Status& status) {
  Finish(refused_.ok() ? call_.Close(status) : call_.Close(refused_));
}

}  // namespace lectern::services
