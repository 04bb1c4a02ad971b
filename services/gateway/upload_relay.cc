#include "services/gateway/upload_relay.h"

#include <fmt/format.h>

#include "engine/error/error.h"
#include "services/gateway/route.h"
#include "services/rpc/reason.h"

namespace lectern::services {

UploadRelay::UploadRelay(Gateway& gateway, std::string_view name,
                         grpc::CallbackServerContext& context, v1::Document& response)
    : call_(gateway, context, name) {
  if (!call_.accepted().ok()) {
    Finish(call_.Close(call_.accepted()));
    return;
  }
  gateway.worker().UploadDocument(&call_.upstream(), &response, this);
  AddHold();
  StartCall();
  StartRead(&message_);
}

void UploadRelay::OnReadDone(bool ok) {
  if (!ok) {
    StartSendInitialMetadata();
    return;
  }
  refused_ = Check();
  if (refused_.ok()) {
    StartWrite(&message_);
  } else {
    Abandon();
  }
}

absl::Status UploadRelay::Check() {
  switch (message_.payload_case()) {
    case v1::UploadDocumentRequest::kHeader:
      header_seen_ = true;
      return RouteOf(message_.header(), call_.tenant()).status();
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
  if (header_seen_) return absl::OkStatus();
  return engine::InvalidArgument(reason::kUploadHeaderMissing,
                                 "the first message of an upload must hold the header",
                                 {{"field", "header"}});
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
  call_.upstream().TryCancel();
  RemoveHold();
}

void UploadRelay::OnDone(const grpc::Status& status) {
  Finish(refused_.ok() ? call_.Close(status) : call_.Close(refused_));
}

}  // namespace lectern::services
