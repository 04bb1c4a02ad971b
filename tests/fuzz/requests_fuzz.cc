// Every request message of the API: routed, validated and converted as gateway and worker do it.
// The first byte chooses the message, the second the tenant who calls.
#include <string>

#include "lectern/v1/tenants.pb.h"
#include "services/gateway/route.h"
#include "services/rpc/errors.h"
#include "services/worker/convert.h"
#include "tests/fuzz/fuzz_input.h"

namespace lectern::services {
namespace {

constexpr int64_t kNow = 1'700'000'000'000'000;

// A refusal must be presentable.
void Present(const absl::Status& status) {
  if (!status.ok()) FUZZ_CHECK(ToRemoteError(ToGrpcStatus(status, "r")).reason != "");
}

void Convert(const v1::CreateCorpusRequest& request, std::string_view) {
  Present(CheckDisplayName(request.corpus().display_name(), "corpus.display_name"));
  Present(ExpireTime(request.corpus(), kNow).status());
}
void Convert(const v1::UpdateCorpusRequest& request, std::string_view) {
  Present(ToCorpusUpdate(request, kNow).status());
}
void Convert(const v1::UploadDocumentRequest::Header& request, std::string_view tenant) {
  Present(ToUploadHeader(request, tenant).status());
}
void Convert(const v1::CreateSessionRequest& request, std::string_view) {
  Present(ExpireTime(request.session(), kNow).status());
}
void Convert(const v1::AskRequest& request, std::string_view tenant) {
  Present(ToAskRequest(request, tenant, 0).status());
}
void Convert(const v1::RetrieveRequest& request, std::string_view tenant) {
  Present(ToRetrieveRequest(request, tenant, 0).status());
}
void Convert(const v1::CreateTenantRequest& request, std::string_view) {
  Present(ToTenantQuota(request.tenant().quota()).status());
}
void Convert(const v1::UpdateTenantRequest& request, std::string_view) {
  Present(ToTenantUpdate(request).status());
}
template <typename Request>
void Convert(const Request& request, std::string_view) {
  if constexpr (requires { request.page_token(); }) {
    Present(ToPageRequest(request.page_size(), request.page_token()).status());
  }
}

template <typename Request>
void Take(std::string_view bytes, std::string_view tenant) {
  Request request;
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const Route route = RouteOf(request, tenant);
  Present(route.status());
  // Nobody is led to another tenant.
  if (route.ok() && !tenant.empty() && !route->tenant.empty() &&
      !std::is_same_v<Request, v1::CreateTenantRequest>) {
    FUZZ_CHECK(route->tenant == tenant);
  }
  if constexpr (requires { ResourceOf(request); }) ResourceOf(request);
  Convert(request, tenant);
}

using Target = void (*)(std::string_view, std::string_view);
constexpr Target kTargets[] = {Take<v1::CreateCorpusRequest>,
                               Take<v1::GetCorpusRequest>,
                               Take<v1::ListCorporaRequest>,
                               Take<v1::UpdateCorpusRequest>,
                               Take<v1::DeleteCorpusRequest>,
                               Take<v1::IngestCorpusRequest>,
                               Take<v1::GetGenerationRequest>,
                               Take<v1::ListGenerationsRequest>,
                               Take<v1::UploadDocumentRequest::Header>,
                               Take<v1::GetDocumentRequest>,
                               Take<v1::ListDocumentsRequest>,
                               Take<v1::DeleteDocumentRequest>,
                               Take<v1::GetOperationRequest>,
                               Take<v1::ListOperationsRequest>,
                               Take<v1::WaitOperationRequest>,
                               Take<v1::CancelOperationRequest>,
                               Take<v1::CreateSessionRequest>,
                               Take<v1::GetSessionRequest>,
                               Take<v1::ListSessionsRequest>,
                               Take<v1::ForkSessionRequest>,
                               Take<v1::DeleteSessionRequest>,
                               Take<v1::ListTurnsRequest>,
                               Take<v1::AskRequest>,
                               Take<v1::RetrieveRequest>,
                               Take<v1::CountTokensRequest>,
                               Take<v1::CreateTenantRequest>,
                               Take<v1::GetTenantRequest>,
                               Take<v1::ListTenantsRequest>,
                               Take<v1::UpdateTenantRequest>,
                               Take<v1::DeleteTenantRequest>,
                               Take<v1::GetModelRequest>,
                               Take<v1::GetStatsRequest>,
                               Take<v1::RebuildCorpusRequest>,
                               Take<v1::CreateBackupRequest>,
                               Take<v1::GetBackupRequest>,
                               Take<v1::ListBackupsRequest>,
                               Take<v1::CancelBackupRequest>};

}  // namespace
}  // namespace lectern::services

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input = AsText(data, size);
  const size_t message = TakeChoice(&input, std::size(lectern::services::kTargets));
  const std::string_view tenant = TakeChoice(&input, 4) == 0 ? "" : "default";
  lectern::services::kTargets[message](input, tenant);
  return 0;
}
