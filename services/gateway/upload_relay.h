// An upload on its way through the gateway: read a message from the caller, write it to the worker,
// read the next.
#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <string_view>

#include "lectern/v1/corpora.pb.h"
#include "services/gateway/gateway.h"

namespace lectern::services {

// Towards the caller a ServerReadReactor, towards the worker a ClientWriteReactor, held as in
// AskRelay. The worker is known when the header is: until it can be reached nothing more is read.
//
// A read that fails means that the caller has sent everything or that the connection is gone, and
// gRPC does not say which. Sending the initial metadata tells: on a dead stream it fails. Only then
// the worker gets its mark that the upload is complete.
class UploadRelay final : public grpc::ServerReadReactor<v1::UploadDocumentRequest>,
                          public grpc::ClientWriteReactor<v1::UploadDocumentRequest> {
 public:
  UploadRelay(Gateway& gateway, std::string_view name, grpc::CallbackServerContext& context,
              v1::Document& response);

  // From the caller.
  void OnReadDone(bool ok) override;
  void OnSendInitialMetadataDone(bool ok) override;
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override { delete this; }
  // From the worker.
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  absl::Status Check();
  void Abandon();
  void Begin(const Destination& destination);

  Gateway& gateway_;
  RelayedCall call_;
  v1::Document& response_;
  engine::CorpusName corpus_;
  bool begun_ = false;  // the call to the worker
  v1::UploadDocumentRequest message_;
  bool header_seen_ = false;
  bool complete_ = false;
  absl::Status refused_;
};

}  // namespace lectern::services
