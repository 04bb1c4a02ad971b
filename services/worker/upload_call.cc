#include "services/worker/upload_call.h"

#include <fmt/format.h>

#include <string>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/reason.h"
#include "services/worker/convert.h"
#include "services/worker/unary_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Payload = v1::UploadDocumentRequest::PayloadCase;

UploadCall::UploadCall(WorkerService& worker, grpc::CallbackServerContext& context,
                       v1::Document& response)
    : worker_(worker),
      context_(context),
      response_(response),
      record_(worker.metrics(), worker.admission(), "Worker/UploadDocument") {
  record_.set_caller(InternalCaller(context));
}

UploadCall* UploadCall::Start(WorkerService& worker, grpc::CallbackServerContext& context,
                              v1::Document& response) {
  auto* call = new UploadCall(worker, context, response);
  if (call->record_.admitted().ok()) {
    call->StartRead(&call->message_);
  } else {
    call->End(call->record_.admitted());
  }
  return call;
}

void UploadCall::OnReadDone(bool ok) {
  if (!ok) {
    worker_.executor().MustSubmit([this] { Settle(Complete()); });
    return;
  }
  worker_.executor().MustSubmit([this] {
    if (const absl::Status status = Take(); status.ok()) {
      StartRead(&message_);
    } else {
      Settle(status);
    }
  });
}

absl::Status UploadCall::Take() {
  if (complete_) {
    return engine::Error(absl::StatusCode::kInternal, "INTERNAL",
                         "the gateway sent a message after the end of the upload");
  }
  switch (message_.payload_case()) {
    case Payload::kHeader:
      return Begin();
    case Payload::kData:
      if (upload_ == nullptr) {
        return engine::InvalidArgument(reason::kUploadHeaderMissing,
                                       "the first message of an upload must hold the header",
                                       {{"field", "header"}});
      }
      return upload_->Append(message_.data());
    case Payload::PAYLOAD_NOT_SET:
      complete_ = true;
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status UploadCall::Begin() {
  if (upload_ != nullptr) {
    return engine::InvalidArgument(reason::kUploadHeaderRepeated,
                                   "only the first message of an upload holds a header",
                                   {{"field", "header"}});
  }
  if (Ownership* ownership = worker_.ownership()) {
    LECTERN_RETURN_IF_ERROR(ownership->MayBegin(record_.caller(), /*of_corpus=*/true));
    if (Replication* replication = ownership->replication()) {
      LECTERN_RETURN_IF_ERROR(
          replication->MayChange({record_.caller().tenant, record_.caller().corpus}));
    }
  }
  LECTERN_ASSIGN_OR_RETURN(const engine::UploadHeader header,
                           ToUploadHeader(message_.header(), record_.caller().tenant));
  LECTERN_ASSIGN_OR_RETURN(upload_, worker_.engine().BeginUpload(header));
  return absl::OkStatus();
}

absl::Status UploadCall::Complete() {
  // A connection that breaks looks like an end of the stream, too: only the gateway's mark says
  // that nothing is missing.
  if (!complete_ || context_.IsCancelled()) {
    return engine::Error(absl::StatusCode::kCancelled, reason::kCancelled,
                         "the upload was cut off; nothing of it is stored");
  }
  if (upload_ == nullptr) {
    return engine::InvalidArgument(reason::kUploadHeaderMissing, "the upload has no header",
                                   {{"field", "header"}});
  }
  // Nothing may become visible, nor be called stored, that is not this group's any more.
  Ownership* ownership = worker_.ownership();
  if (ownership != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(pass_, ownership->Enter(record_.caller(), /*changes=*/true));
    LECTERN_RETURN_IF_ERROR(ownership->MayBegin(record_.caller(), /*of_corpus=*/true));
  }
  LECTERN_ASSIGN_OR_RETURN(const engine::Document document, upload_->Finish());
  response_ = ToProto(document);
  return absl::OkStatus();
}

void UploadCall::Settle(const absl::Status& status) {
  Ownership* ownership = worker_.ownership();
  if (ownership == nullptr || !Settles(status)) {
    End(status);
    return;
  }
  const auto end = [this, ownership, status](const absl::Status& settled) {
    const absl::Status may = ownership->MayEnd(record_.caller(), /*of_corpus=*/true);
    End(!settled.ok() ? settled : status.ok() && !may.ok() ? may : status);
  };
  Replication* replication = ownership->replication();
  if (replication == nullptr) {
    end(absl::OkStatus());
  } else {
    replication->Settle(record_.caller(), context_.deadline(), end);
  }
}

void UploadCall::End(const absl::Status& status) {
  upload_.reset();
  const grpc::Status out = ToGrpcStatus(status, record_.caller().request_id);
  record_.Finish(out);
  Finish(out);
}

}  // namespace lectern::services
