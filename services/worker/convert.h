// Between the API's messages and the engine's values. The meaning of a field is written at the
// message; here it only changes its clothes. What a request cannot mean is refused here:
// INVALID_ARGUMENT with FIELD_INVALID, FIELD_MISSING, FIELD_MASK_INVALID or TARGET_MISSING, and the
// field in the metadata.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string_view>

#include "engine/types.h"
#include "lectern/v1/answers.pb.h"
#include "lectern/v1/backups.pb.h"
#include "lectern/v1/corpora.pb.h"
#include "lectern/v1/models.pb.h"
#include "lectern/v1/operations.pb.h"
#include "lectern/v1/sessions.pb.h"
#include "lectern/v1/tenants.pb.h"

namespace lectern::services {

inline constexpr int kMaxPageSize = 1000;
inline constexpr size_t kMaxDisplayNameBytes = 256;
inline constexpr int kMaxAnswerTokens = 4096;
inline constexpr int kMaxEvidence = 64;
inline constexpr int kMaxAnswers = 8;

// ---- engine to API ----
v1::Corpus ToProto(const engine::Corpus& corpus);
v1::Document ToProto(const engine::Document& document);
v1::Generation ToProto(const engine::Generation& generation);
// `request_id` goes into the error of a failed operation.
v1::Operation ToProto(const engine::Operation& operation, std::string_view request_id);
v1::Session ToProto(const engine::Session& session);
// `corpus`: the one whose documents the answer names.
v1::Turn ToProto(const engine::Turn& turn, const engine::CorpusName& corpus);
v1::AskResponse::Started ToProto(const engine::AnswerStarted& started,
                                 const engine::CorpusName& corpus);
v1::AskResponse::Completed ToProto(const engine::Answer& answer, const engine::CorpusName& corpus);
v1::RetrieveResponse ToProto(const engine::Retrieval& retrieval, const engine::CorpusName& corpus);
v1::Tenant ToProto(const engine::Tenant& tenant);
// `request_id` goes into the error of one that failed.
v1::Backup ToProto(const engine::Backup& backup, std::string_view request_id);
v1::Model ToProto(const engine::ModelInfo& model);
v1::Stats ToProto(const engine::Stats& stats);

// ---- API to engine ----
// Sizes over kMaxPageSize mean kMaxPageSize; negative ones are refused.
absl::StatusOr<engine::PageRequest> ToPageRequest(int page_size, std::string_view page_token);
absl::Status CheckDisplayName(std::string_view display_name, std::string_view field);

// When a resource with these fields expires, in microseconds; 0: never. `now_us` is when ttl
// starts.
template <typename Resource>
absl::StatusOr<int64_t> ExpireTime(const Resource& resource, int64_t now_us);
extern template absl::StatusOr<int64_t> ExpireTime(const v1::Corpus&, int64_t);
extern template absl::StatusOr<int64_t> ExpireTime(const v1::Session&, int64_t);

absl::StatusOr<engine::CorpusUpdate> ToCorpusUpdate(const v1::UpdateCorpusRequest& request,
                                                    int64_t now_us);
absl::StatusOr<engine::TenantQuota> ToTenantQuota(const v1::TenantQuota& quota);
absl::StatusOr<engine::TenantUpdate> ToTenantUpdate(const v1::UpdateTenantRequest& request);
absl::StatusOr<engine::UploadHeader> ToUploadHeader(const v1::UploadDocumentRequest::Header& header,
                                                    std::string_view tenant);
absl::StatusOr<engine::AskRequest> ToAskRequest(const v1::AskRequest& request,
                                                std::string_view tenant, int64_t deadline_us);
absl::StatusOr<engine::RetrieveRequest> ToRetrieveRequest(const v1::RetrieveRequest& request,
                                                          std::string_view tenant,
                                                          int64_t deadline_us);

int64_t NowMicros();

}  // namespace lectern::services
