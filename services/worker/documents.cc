#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/worker/convert.h"
#include "services/worker/upload_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {

using Unary = grpc::ServerUnaryReactor;

grpc::ServerReadReactor<v1::UploadDocumentRequest>* WorkerService::UploadDocument(
    Context* context, v1::Document* response) {
  return UploadCall::Start(*this, *context, *response);
}

Unary* WorkerService::GetDocument(Context* context, const v1::GetDocumentRequest* request,
                                  v1::Document* response) {
  return Run(context, "Worker/GetDocument", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kDocuments, caller.tenant, "name"));
    LECTERN_ASSIGN_OR_RETURN(const engine::Document document, engine_.GetDocument(name));
    *response = ToProto(document);
    return absl::OkStatus();
  });
}

Unary* WorkerService::ListDocuments(Context* context, const v1::ListDocumentsRequest* request,
                                    v1::ListDocumentsResponse* response) {
  return Run(context, "Worker/ListDocuments", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const auto name,
                             ParseCorpusName(request->parent(), caller.tenant, "parent"));
    LECTERN_ASSIGN_OR_RETURN(const auto page,
                             ToPageRequest(request->page_size(), request->page_token()));
    LECTERN_ASSIGN_OR_RETURN(const auto documents, engine_.ListDocuments(name, page));
    for (const engine::Document& document : documents.items) {
      *response->add_documents() = ToProto(document);
    }
    response->set_next_page_token(documents.next_page_token);
    return absl::OkStatus();
  });
}

Unary* WorkerService::DeleteDocument(Context* context, const v1::DeleteDocumentRequest* request,
                                     google::protobuf::Empty*) {
  return Run(context, "Worker/DeleteDocument", [=, this](const Caller& caller) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(
        const auto name,
        ParseResourceName(request->name(), Collection::kDocuments, caller.tenant, "name"));
    return engine_.DeleteDocument(name);
  });
}

}  // namespace lectern::services
