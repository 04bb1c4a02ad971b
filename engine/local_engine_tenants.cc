// Tenants: who they are, what they may use, and what their quotas let in.
#include <fmt/format.h>

#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "engine/quota/disk_quota.h"
#include "engine/quota/share_weight.h"
#include "engine/storage_page.h"

namespace lectern::engine {
namespace {

absl::StatusOr<storage::TenantQuota> ToStorage(const TenantQuota& quota) {
  if (quota.disk_bytes < 0 || quota.tokens_per_minute < 0 || quota.concurrent_requests < 0) {
    return InvalidArgument("QUOTA_INVALID",
                           "a quota must not be negative; 0 means that there is none",
                           {{"field", "quota"}});
  }
  if (quota.weight < 0 || quota.weight > kMaxTenantWeight) {
    return InvalidArgument("QUOTA_INVALID",
                           fmt::format("a weight is 1 to {}; 0 means 1", kMaxTenantWeight),
                           {{"field", "quota.weight"}});
  }
  return storage::TenantQuota{
      static_cast<uint64_t>(quota.disk_bytes), static_cast<uint64_t>(quota.tokens_per_minute),
      static_cast<uint64_t>(quota.concurrent_requests), static_cast<uint64_t>(quota.weight)};
}

Tenant PresentTenant(const storage::Tenant& tenant) {
  return {.id = tenant.id,
          .display_name = tenant.display_name,
          .create_time_us = tenant.create_time,
          .quota = {.disk_bytes = static_cast<int64_t>(tenant.quota.disk_bytes),
                    .tokens_per_minute = static_cast<int64_t>(tenant.quota.tokens_per_minute),
                    .concurrent_requests = static_cast<int64_t>(tenant.quota.concurrent_requests),
                    .weight = static_cast<int64_t>(tenant.quota.weight)}};
}

// An upload that counts against its tenant's quotas for as long as it lives.
class MeteredUpload final : public DocumentUpload {
 public:
  MeteredUpload(std::unique_ptr<DocumentUpload> upload, TenantMeters::Permit permit,
                const storage::Catalog* catalog, const storage::Tenant& tenant,
                std::optional<int64_t> disk_left, std::mutex* finishing)
      : upload_(std::move(upload)),
        permit_(std::move(permit)),
        catalog_(catalog),
        tenant_(tenant),
        disk_left_(disk_left),
        finishing_(finishing) {}

  // Early, so that nobody sends gigabytes to be refused; Finish has the last word.
  absl::Status Append(std::string_view bytes) override {
    size_ += static_cast<int64_t>(bytes.size());
    LECTERN_RETURN_IF_ERROR(CheckDiskQuota(tenant_, disk_left_, size_));
    return upload_->Append(bytes);
  }

  absl::StatusOr<Document> Finish() override {
    if (!disk_left_.has_value()) return upload_->Finish();
    // Two uploads that end at once must not both find room for one.
    const std::lock_guard lock(*finishing_);
    absl::StatusOr<std::optional<int64_t>> left = DiskQuotaLeft(*catalog_, tenant_);
    if (!left.ok()) return WithReason(left.status());
    LECTERN_RETURN_IF_ERROR(CheckDiskQuota(tenant_, *left, size_));
    return upload_->Finish();
  }

 private:
  const std::unique_ptr<DocumentUpload> upload_;
  const TenantMeters::Permit permit_;
  const storage::Catalog* const catalog_;
  const storage::Tenant tenant_;
  const std::optional<int64_t> disk_left_;
  std::mutex* const finishing_;
  int64_t size_ = 0;
};

}  // namespace

absl::StatusOr<storage::Tenant> LocalEngine::FindTenant(std::string_view id) {
  absl::StatusOr<storage::Tenant> tenant = store_->catalog().GetTenant(id);
  if (!tenant.ok()) return WithReason(tenant.status(), "TENANT_NOT_FOUND");
  return tenant;
}

absl::StatusOr<Tenant> LocalEngine::CreateTenant(std::string_view id, std::string_view display_name,
                                                 const TenantQuota& quota) {
  const std::string tenant_id = id.empty() ? NewId() : std::string(id);
  LECTERN_RETURN_IF_ERROR(CheckId("tenant", tenant_id));
  LECTERN_RETURN_IF_ERROR(CheckDisplayName(display_name));
  LECTERN_ASSIGN_OR_RETURN(const storage::TenantQuota limits, ToStorage(quota));
  absl::StatusOr<storage::Tenant> tenant = store_->catalog().CreateTenant(
      {.id = tenant_id, .display_name = std::string(display_name), .quota = limits}, NowUs());
  if (!tenant.ok()) return WithReason(tenant.status(), "TENANT_NOT_FOUND", "TENANT_EXISTS");
  return PresentTenant(*tenant);
}

absl::StatusOr<Tenant> LocalEngine::GetTenant(std::string_view id) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(id));
  absl::StatusOr<storage::TenantUsage> stored = store_->catalog().MeasureTenant(tenant.uid);
  if (!stored.ok()) return WithReason(stored.status(), "TENANT_NOT_FOUND");
  const TenantMeters::Usage now = counters_.tenants.Get(tenant);
  Tenant result = PresentTenant(tenant);
  result.usage = TenantUsage{.corpora = static_cast<int64_t>(stored->corpora),
                             .document_bytes = static_cast<int64_t>(stored->document_bytes),
                             .cache_bytes = static_cast<int64_t>(stored->cache_bytes),
                             .requests = now.requests,
                             .tokens_available = now.tokens_available,
                             .tokens_total = now.tokens_total};
  return result;
}

absl::StatusOr<Page<Tenant>> LocalEngine::ListTenants(const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Tenant>> tenants = store_->catalog().ListTenants(request);
  if (!tenants.ok()) return PageError(tenants.status());
  Page<Tenant> result = {.next_page_token = tenants->next_token};
  for (const storage::Tenant& tenant : tenants->items)
    result.items.push_back(PresentTenant(tenant));
  return result;
}

absl::StatusOr<Tenant> LocalEngine::UpdateTenant(std::string_view id, const TenantUpdate& update) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(id));
  storage::TenantUpdate changes;
  if (update.display_name.has_value()) {
    LECTERN_RETURN_IF_ERROR(CheckDisplayName(*update.display_name));
    changes.display_name = *update.display_name;
  }
  TenantQuota quota = PresentTenant(tenant).quota;
  if (update.disk_bytes.has_value()) quota.disk_bytes = *update.disk_bytes;
  if (update.tokens_per_minute.has_value()) quota.tokens_per_minute = *update.tokens_per_minute;
  if (update.concurrent_requests.has_value()) {
    quota.concurrent_requests = *update.concurrent_requests;
  }
  if (update.weight.has_value()) quota.weight = *update.weight;
  LECTERN_ASSIGN_OR_RETURN(changes.quota, ToStorage(quota));
  absl::StatusOr<storage::Tenant> updated = store_->catalog().UpdateTenant(tenant.uid, changes);
  if (!updated.ok()) return WithReason(updated.status(), "TENANT_NOT_FOUND");
  return PresentTenant(*updated);
}

absl::Status LocalEngine::DeleteTenant(std::string_view id, bool force) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(id));
  if (tenant.id == storage::kDefaultTenantId) {
    return Error(absl::StatusCode::kFailedPrecondition, "TENANT_PROTECTED",
                 "the default tenant cannot be deleted; delete its corpora instead");
  }
  absl::StatusOr<storage::TenantUsage> usage = store_->catalog().MeasureTenant(tenant.uid);
  if (!usage.ok()) return WithReason(usage.status(), "TENANT_NOT_FOUND");
  if (usage->corpora > 0 && !force) {
    return Error(absl::StatusCode::kFailedPrecondition, "TENANT_NOT_EMPTY",
                 fmt::format("tenant {} has {} corpora: delete them first, or force the deletion",
                             tenant.id, usage->corpora),
                 {{"corpora", fmt::to_string(usage->corpora)}});
  }
  // One corpus after the other: should the process end in between, the tenant is there to be
  // deleted again. A corpus that is made meanwhile is found in the next round.
  for (;;) {
    absl::StatusOr<storage::Page<storage::Corpus>> corpora =
        store_->catalog().ListCorpora(tenant.uid, {.size = storage::kMaxPageSize});
    if (!corpora.ok()) return WithReason(corpora.status(), "TENANT_NOT_FOUND");
    for (const storage::Corpus& corpus : corpora->items) {
      ingest_->CancelCorpus(corpus.uid);
      const absl::Status deleted = store_->catalog().DeleteCorpus(corpus.uid, NowUs());
      if (!deleted.ok() && !absl::IsNotFound(deleted)) return WithReason(deleted);
    }
    const absl::Status deleted = store_->catalog().DeleteTenant(tenant.uid);
    if (deleted.ok()) break;
    if (!absl::IsFailedPrecondition(deleted)) return WithReason(deleted, "TENANT_NOT_FOUND");
  }
  counters_.tenants.Forget(tenant.uid);
  LECTERN_RETURN_IF_ERROR(WithReason(CountAll()));
  WakeMaintenance();
  return absl::OkStatus();
}

absl::StatusOr<LocalEngine::Admission> LocalEngine::AdmitQuestion(const storage::Corpus& corpus,
                                                                  const Target& target) {
  absl::StatusOr<storage::Tenant> tenant = store_->catalog().GetTenantByUid(corpus.tenant_uid);
  if (!tenant.ok()) return WithReason(tenant.status(), "TENANT_NOT_FOUND");
  LECTERN_RETURN_IF_ERROR(counters_.tenants.CheckTokens(*tenant));
  if (!target.session.empty()) {  // its turn is going to be stored
    absl::StatusOr<std::optional<int64_t>> left = DiskQuotaLeft(store_->catalog(), *tenant);
    if (!left.ok()) return WithReason(left.status());
    LECTERN_RETURN_IF_ERROR(CheckDiskQuota(*tenant, *left, /*bytes=*/1));
  }
  LECTERN_ASSIGN_OR_RETURN(TenantMeters::Permit permit, counters_.tenants.Enter(*tenant));
  return Admission{*std::move(tenant), std::move(permit)};
}

absl::StatusOr<std::unique_ptr<DocumentUpload>> LocalEngine::BeginUpload(
    const UploadHeader& header) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(header.corpus));
  absl::StatusOr<storage::Tenant> tenant = store_->catalog().GetTenantByUid(corpus.tenant_uid);
  if (!tenant.ok()) return WithReason(tenant.status(), "TENANT_NOT_FOUND");
  absl::StatusOr<std::optional<int64_t>> left = DiskQuotaLeft(store_->catalog(), *tenant);
  if (!left.ok()) return WithReason(left.status());
  LECTERN_ASSIGN_OR_RETURN(TenantMeters::Permit permit, counters_.tenants.Enter(*tenant));
  LECTERN_ASSIGN_OR_RETURN(
      std::unique_ptr<DocumentUpload> upload,
      BeginDocumentUpload(&store_->catalog(), corpus, header, options_.document_limit_bytes,
                          room_.get(), &documents_));
  return std::make_unique<MeteredUpload>(std::move(upload), std::move(permit), &store_->catalog(),
                                         *tenant, *left, &finishing_uploads_);
}

}  // namespace lectern::engine
