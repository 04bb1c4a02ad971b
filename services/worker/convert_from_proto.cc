#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/convert.h"

namespace lectern::services {
namespace {

using google::protobuf::util::TimeUtil;

constexpr double kMaxTemperature = 2;
constexpr size_t kSha256Bytes = 32;
// Durations that would leave the range of microseconds since the epoch.
constexpr int64_t kMaxTtlSeconds = int64_t{100} * 366 * 24 * 3600;

absl::Status FieldInvalid(std::string_view field, std::string_view rule) {
  return engine::InvalidArgument(reason::kFieldInvalid, fmt::format("{}: {}", field, rule),
                                 {{"field", std::string(field)}});
}

absl::Status CheckRange(int64_t value, int64_t limit, std::string_view field) {
  if (value >= 0 && value <= limit) return absl::OkStatus();
  return engine::InvalidArgument(reason::kFieldInvalid,
                                 fmt::format("{} is {}; it must be 0 to {}", field, value, limit),
                                 {{"field", std::string(field)},
                                  {"value", std::to_string(value)},
                                  {"limit", std::to_string(limit)}});
}

absl::StatusOr<int64_t> FromTtl(const google::protobuf::Duration& ttl, int64_t now_us) {
  if (ttl.seconds() < 0 || ttl.nanos() < 0 || (ttl.seconds() == 0 && ttl.nanos() == 0)) {
    return FieldInvalid("ttl", "must be positive; leave it out to keep the resource");
  }
  if (ttl.seconds() > kMaxTtlSeconds) {
    return FieldInvalid("ttl", "must be at most 100 years; leave it out to keep the resource");
  }
  return now_us + TimeUtil::DurationToMicroseconds(ttl);
}

absl::StatusOr<int64_t> FromExpireTime(const google::protobuf::Timestamp& time, int64_t now_us) {
  if (time.seconds() < TimeUtil::kTimestampMinSeconds ||
      time.seconds() > TimeUtil::kTimestampMaxSeconds || time.nanos() < 0) {
    return FieldInvalid("expire_time", "is not a valid time");
  }
  const int64_t time_us = TimeUtil::TimestampToMicroseconds(time);
  if (time_us <= now_us) {
    return FieldInvalid("expire_time", "is in the past; use the delete method to delete at once");
  }
  return time_us;
}

// The three targets have the same names in both requests.
template <typename Request>
absl::StatusOr<engine::Target> ToTarget(const Request& request, std::string_view tenant) {
  engine::Target target;
  switch (request.target_case()) {
    case Request::kCorpus: {
      LECTERN_ASSIGN_OR_RETURN(target.corpus, ParseCorpusName(request.corpus(), tenant, "corpus"));
      return target;
    }
    case Request::kGeneration: {
      LECTERN_ASSIGN_OR_RETURN(
          engine::ResourceName name,
          ParseResourceName(request.generation(), Collection::kGenerations, tenant, "generation"));
      target.corpus = std::move(name.corpus);
      target.generation = std::move(name.id);
      return target;
    }
    case Request::kSession: {
      LECTERN_ASSIGN_OR_RETURN(
          engine::ResourceName name,
          ParseResourceName(request.session(), Collection::kSessions, tenant, "session"));
      target.corpus = std::move(name.corpus);
      target.session = std::move(name.id);
      return target;
    }
    case Request::TARGET_NOT_SET:
      break;
  }
  return engine::InvalidArgument(reason::kTargetMissing,
                                 "name a corpus, a generation or a session to ask",
                                 {{"field", "target"}});
}

// Of Ask and Retrieve.
template <typename Request>
absl::StatusOr<std::optional<double>> ToAdaptiveCoverage(const Request& request) {
  if (!request.has_adaptive_coverage()) return std::nullopt;
  const double value = request.adaptive_coverage();
  if (!(value >= 0 && value <= 1)) {
    return FieldInvalid("adaptive_coverage", fmt::format("is {}; it must be 0 to 1", value));
  }
  return value;
}

// Of Ask and Retrieve.
absl::StatusOr<engine::Priority> ToPriority(v1::Priority priority) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
    case v1::INTERACTIVE:
      return engine::Priority::kInteractive;
    case v1::BATCH:
      return engine::Priority::kBatch;
    default:
      return FieldInvalid("priority", fmt::format("{} is not known", static_cast<int>(priority)));
  }
}

absl::StatusOr<engine::Sampling> ToSampling(const v1::Sampling& sampling) {
  if (!(sampling.temperature() >= 0 && sampling.temperature() <= kMaxTemperature)) {
    return FieldInvalid("sampling.temperature",
                        fmt::format("is {}; it must be 0 to 2", sampling.temperature()));
  }
  if (!(sampling.top_p() >= 0 && sampling.top_p() <= 1)) {
    return FieldInvalid("sampling.top_p",
                        fmt::format("is {}; it must be 0 (means 1) to 1", sampling.top_p()));
  }
  return engine::Sampling{sampling.temperature(), sampling.top_p() == 0 ? 1 : sampling.top_p(),
                          sampling.seed()};
}

}  // namespace

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

absl::StatusOr<engine::PageRequest> ToPageRequest(int page_size, std::string_view page_token) {
  if (page_size < 0) {
    return FieldInvalid("page_size", fmt::format("is {}; it must not be negative", page_size));
  }
  return engine::PageRequest{std::min(page_size, kMaxPageSize), std::string(page_token)};
}

absl::Status CheckDisplayName(std::string_view display_name, std::string_view field) {
  if (display_name.size() <= kMaxDisplayNameBytes) return absl::OkStatus();
  return engine::InvalidArgument(reason::kFieldInvalid,
                                 fmt::format("{} has {} bytes; at most {} are allowed", field,
                                             display_name.size(), kMaxDisplayNameBytes),
                                 {{"field", std::string(field)},
                                  {"bytes", std::to_string(display_name.size())},
                                  {"limit", std::to_string(kMaxDisplayNameBytes)}});
}

template <typename Resource>
absl::StatusOr<int64_t> ExpireTime(const Resource& resource, int64_t now_us) {
  if (resource.has_ttl() && resource.has_expire_time()) {
    return FieldInvalid("ttl", "give either ttl or expire_time, not both");
  }
  if (resource.has_ttl()) return FromTtl(resource.ttl(), now_us);
  if (resource.has_expire_time()) return FromExpireTime(resource.expire_time(), now_us);
  return 0;
}
template absl::StatusOr<int64_t> ExpireTime(const v1::Corpus&, int64_t);
template absl::StatusOr<int64_t> ExpireTime(const v1::Session&, int64_t);

absl::StatusOr<engine::CorpusUpdate> ToCorpusUpdate(const v1::UpdateCorpusRequest& request,
                                                    int64_t now_us) {
  engine::CorpusUpdate update;
  const v1::Corpus& corpus = request.corpus();
  for (const std::string& path : request.update_mask().paths()) {
    if (path == "display_name") {
      LECTERN_RETURN_IF_ERROR(CheckDisplayName(corpus.display_name(), "corpus.display_name"));
      update.display_name = corpus.display_name();
    } else if (path == "ttl" || path == "expire_time") {
      // Named in the mask and absent in the corpus: kept for ever.
      v1::Corpus expiry;
      if (path == "ttl" && corpus.has_ttl()) *expiry.mutable_ttl() = corpus.ttl();
      if (path == "expire_time" && corpus.has_expire_time()) {
        *expiry.mutable_expire_time() = corpus.expire_time();
      }
      if (update.expire_time_us.has_value()) {
        return FieldInvalid("update_mask", "give either ttl or expire_time, not both");
      }
      LECTERN_ASSIGN_OR_RETURN(update.expire_time_us, ExpireTime(expiry, now_us));
    } else if (path == "pinned") {
      update.pinned = corpus.pinned();
    } else {
      return engine::InvalidArgument(
          reason::kFieldMaskInvalid,
          fmt::format("update_mask: \"{}\" cannot be changed; display_name, ttl, expire_time and "
                      "pinned can",
                      path),
          {{"field", "update_mask"}, {"path", path}});
    }
  }
  if (request.update_mask().paths().empty()) {
    return engine::InvalidArgument(
        reason::kFieldMaskInvalid,
        "update_mask: name the fields to change: display_name, ttl, expire_time or pinned",
        {{"field", "update_mask"}});
  }
  return update;
}

absl::StatusOr<engine::TenantQuota> ToTenantQuota(const v1::TenantQuota& quota) {
  const std::pair<std::string_view, int64_t> limits[] = {
      {"quota.disk_bytes", quota.disk_bytes()},
      {"quota.tokens_per_minute", quota.tokens_per_minute()},
      {"quota.concurrent_requests", quota.concurrent_requests()},
      {"quota.weight", quota.weight()}};
  for (const auto& [field, limit] : limits) {
    if (limit < 0) return FieldInvalid(field, "must not be negative; 0 means no limit");
  }
  return engine::TenantQuota{quota.disk_bytes(), quota.tokens_per_minute(),
                             quota.concurrent_requests(), quota.weight()};
}

absl::StatusOr<engine::TenantUpdate> ToTenantUpdate(const v1::UpdateTenantRequest& request) {
  const v1::Tenant& tenant = request.tenant();
  LECTERN_ASSIGN_OR_RETURN(const engine::TenantQuota quota, ToTenantQuota(tenant.quota()));
  engine::TenantUpdate update;
  for (const std::string& path : request.update_mask().paths()) {
    const bool all = path == "quota";
    if (path == "display_name") {
      LECTERN_RETURN_IF_ERROR(CheckDisplayName(tenant.display_name(), "tenant.display_name"));
      update.display_name = tenant.display_name();
    } else if (all || path == "quota.disk_bytes" || path == "quota.tokens_per_minute" ||
               path == "quota.concurrent_requests" || path == "quota.weight") {
      if (all || path == "quota.disk_bytes") update.disk_bytes = quota.disk_bytes;
      if (all || path == "quota.tokens_per_minute") {
        update.tokens_per_minute = quota.tokens_per_minute;
      }
      if (all || path == "quota.concurrent_requests") {
        update.concurrent_requests = quota.concurrent_requests;
      }
      if (all || path == "quota.weight") update.weight = quota.weight;
    } else {
      return engine::InvalidArgument(
          reason::kFieldMaskInvalid,
          fmt::format("update_mask: \"{}\" cannot be changed; display_name and quota can", path),
          {{"field", "update_mask"}, {"path", path}});
    }
  }
  if (request.update_mask().paths().empty()) {
    return engine::InvalidArgument(
        reason::kFieldMaskInvalid,
        "update_mask: name the fields to change: display_name, quota or one of quota's",
        {{"field", "update_mask"}});
  }
  return update;
}

absl::StatusOr<engine::UploadHeader> ToUploadHeader(const v1::UploadDocumentRequest::Header& header,
                                                    std::string_view tenant) {
  engine::UploadHeader out;
  LECTERN_ASSIGN_OR_RETURN(out.corpus, ParseCorpusName(header.parent(), tenant, "header.parent"));
  LECTERN_RETURN_IF_ERROR(CheckNewId(header.document_id(), "header.document_id"));
  LECTERN_RETURN_IF_ERROR(CheckDisplayName(header.display_name(), "header.display_name"));
  out.document_id = header.document_id();
  out.display_name = header.display_name();
  out.media_type = header.media_type();
  if (!header.sha256().empty()) {
    if (header.sha256().size() != kSha256Bytes) {
      return FieldInvalid("header.sha256", fmt::format("has {} bytes; a SHA-256 has 32 (not hex)",
                                                       header.sha256().size()));
    }
    std::copy(header.sha256().begin(), header.sha256().end(), out.sha256.emplace().begin());
  }
  return out;
}

absl::StatusOr<engine::AskRequest> ToAskRequest(const v1::AskRequest& request,
                                                std::string_view tenant, int64_t deadline_us) {
  engine::AskRequest out;
  LECTERN_ASSIGN_OR_RETURN(out.target, ToTarget(request, tenant));
  LECTERN_RETURN_IF_ERROR(CheckRange(request.max_tokens(), kMaxAnswerTokens, "max_tokens"));
  LECTERN_RETURN_IF_ERROR(CheckRange(request.evidence_limit(), kMaxEvidence, "evidence_limit"));
  LECTERN_RETURN_IF_ERROR(CheckRange(request.contexts(), kMaxAnswers, "contexts"));
  LECTERN_ASSIGN_OR_RETURN(out.sampling, ToSampling(request.sampling()));
  LECTERN_ASSIGN_OR_RETURN(out.adaptive_coverage, ToAdaptiveCoverage(request));
  LECTERN_ASSIGN_OR_RETURN(out.priority, ToPriority(request.priority()));
  out.question = request.question();
  out.max_tokens = request.max_tokens();
  out.evidence_limit = request.evidence_limit();
  out.contexts = request.contexts();
  out.deadline_us = deadline_us;
  return out;
}

absl::StatusOr<engine::RetrieveRequest> ToRetrieveRequest(const v1::RetrieveRequest& request,
                                                          std::string_view tenant,
                                                          int64_t deadline_us) {
  engine::RetrieveRequest out;
  LECTERN_ASSIGN_OR_RETURN(out.target, ToTarget(request, tenant));
  LECTERN_RETURN_IF_ERROR(CheckRange(request.limit(), kMaxEvidence, "limit"));
  LECTERN_ASSIGN_OR_RETURN(out.adaptive_coverage, ToAdaptiveCoverage(request));
  LECTERN_ASSIGN_OR_RETURN(out.priority, ToPriority(request.priority()));
  out.query = request.query();
  out.limit = request.limit();
  out.deadline_us = deadline_us;
  return out;
}

}  // namespace lectern::services
