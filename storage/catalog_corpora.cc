// Tenants and corpora.
#include "storage/catalog_store.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

// Tenants' ids are unique in the store.
constexpr uint64_t kNoParent = 0;

}  // namespace

absl::StatusOr<Tenant> CatalogStore::CreateTenant(const NewTenant& request, int64_t now) {
  Transaction transaction(state_);
  if (absl::Status status = CheckFree(KeySpace::kTenantIds, kNoParent, request.id, "tenant");
      !status.ok()) {
    return status;
  }
  const Tenant tenant = {transaction.NewUid(), request.id, request.display_name, now,
                         request.quota};
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kTenant, tenant.uid), tenant);
  PutRecord(&transaction.batch(), NameKey(KeySpace::kTenantIds, kNoParent, tenant.id),
            Link{tenant.uid});
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return tenant;
}

absl::Status CatalogStore::CreateDefaultTenant(int64_t now) {
  const absl::Status status = CreateTenant({.id = kDefaultTenantId}, now).status();
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::StatusOr<Tenant> CatalogStore::GetTenant(std::string_view id) const {
  return LoadNamed<Tenant>(KeySpace::kTenantIds, kNoParent, id, KeySpace::kTenant, "tenant");
}

absl::StatusOr<Tenant> CatalogStore::GetTenantByUid(uint64_t tenant_uid) const {
  return Load<Tenant>(KeySpace::kTenant, tenant_uid, "tenant");
}

absl::StatusOr<Page<Tenant>> CatalogStore::ListTenants(const PageRequest& request) const {
  // Tenant records themselves are the list: their keys ascend by uid.
  absl::StatusOr<uint64_t> start = PageStart(KeySpace::kTenant, kNoParent, request);
  if (!start.ok()) return start.status();
  Page<Tenant> page;
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, ObjectKey(KeySpace::kTenant, *start),
                                  PrefixEnd(std::string(1, static_cast<char>(KeySpace::kTenant))));
  for (; cursor->Valid(); cursor->Next()) {
    if (page.items.size() == PageSize(request)) {
      page.next_token = PageToken(KeySpace::kTenant, kNoParent, page.items.back().uid);
      break;
    }
    absl::StatusOr<Tenant> tenant = ParseRecord<Tenant>(cursor->key(), cursor->value());
    if (!tenant.ok()) return tenant.status();
    page.items.push_back(*std::move(tenant));
  }
  if (!cursor->status().ok()) return cursor->status();
  return page;
}

absl::StatusOr<Tenant> CatalogStore::UpdateTenant(uint64_t tenant_uid, const TenantUpdate& update) {
  Transaction transaction(state_);
  absl::StatusOr<Tenant> tenant = GetTenantByUid(tenant_uid);
  if (!tenant.ok()) return tenant.status();
  if (update.display_name.has_value()) tenant->display_name = *update.display_name;
  if (update.quota.has_value()) tenant->quota = *update.quota;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kTenant, tenant_uid), *tenant);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return tenant;
}

absl::StatusOr<TenantUsage> CatalogStore::MeasureTenant(uint64_t tenant_uid) const {
  TenantUsage usage;
  absl::StatusOr<std::vector<uint64_t>> corpora = Children(KeySpace::kTenantCorpora, tenant_uid);
  if (!corpora.ok()) return corpora.status();
  for (const uint64_t uid : *corpora) {
    absl::StatusOr<Corpus> corpus = GetCorpusByUid(uid);
    if (absl::IsNotFound(corpus.status())) continue;  // deleted meanwhile
    if (!corpus.ok()) return corpus.status();
    ++usage.corpora;
    usage.document_bytes += corpus->document_bytes;
  }
  const std::string space(1, static_cast<char>(KeySpace::kLineage));
  const auto cursor = store().NewCursor(ColumnFamily::kCatalog, space, PrefixEnd(space));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Lineage> lineage = ParseRecord<Lineage>(cursor->key(), cursor->value());
    if (!lineage.ok()) return lineage.status();
    if (lineage->tenant_uid == tenant_uid) usage.cache_bytes += lineage->bytes;
  }
  if (!cursor->status().ok()) return cursor->status();
  return usage;
}

absl::Status CatalogStore::DeleteTenant(uint64_t tenant_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Tenant> tenant = GetTenantByUid(tenant_uid);
  if (!tenant.ok()) return tenant.status();
  if (tenant->id == kDefaultTenantId) {
    return absl::FailedPreconditionError("the default tenant cannot be deleted");
  }
  absl::StatusOr<std::vector<uint64_t>> corpora = Children(KeySpace::kTenantCorpora, tenant_uid);
  if (!corpora.ok()) return corpora.status();
  if (!corpora->empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "tenant \"{}\" has {} corpora: delete them first", tenant->id, corpora->size()));
  }
  // Without corpora no operation runs.
  absl::StatusOr<std::vector<uint64_t>> operations =
      Children(KeySpace::kTenantOperations, tenant_uid);
  if (!operations.ok()) return operations.status();
  Batch& batch = transaction.batch();
  for (const uint64_t uid : *operations) {
    batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kOperation, uid));
    batch.Delete(ColumnFamily::kCatalog, ChildKey(KeySpace::kTenantOperations, tenant_uid, uid));
  }
  batch.Delete(ColumnFamily::kCatalog, NameKey(KeySpace::kTenantIds, kNoParent, tenant->id));
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kTenant, tenant_uid));
  return transaction.Commit();
}

absl::StatusOr<Corpus> CatalogStore::CreateCorpus(uint64_t tenant_uid, const NewCorpus& request,
                                                  int64_t now) {
  Transaction transaction(state_);
  if (absl::Status status = GetTenantByUid(tenant_uid).status(); !status.ok()) return status;
  if (absl::Status status = CheckFree(KeySpace::kCorpusIds, tenant_uid, request.id, "corpus");
      !status.ok()) {
    return status;
  }
  Corpus corpus;
  corpus.uid = transaction.NewUid();
  corpus.tenant_uid = tenant_uid;
  corpus.id = request.id;
  corpus.display_name = request.display_name;
  corpus.create_time = now;
  corpus.update_time = now;
  corpus.expire_time = request.expire_time;
  corpus.pinned = request.pinned;
  corpus.last_used_time = now;
  Batch& batch = transaction.batch();
  PutRecord(&batch, ObjectKey(KeySpace::kCorpus, corpus.uid), corpus);
  PutRecord(&batch, NameKey(KeySpace::kCorpusIds, tenant_uid, corpus.id), Link{corpus.uid});
  PutRecord(&batch, ChildKey(KeySpace::kTenantCorpora, tenant_uid, corpus.uid), Link{corpus.uid});
  LECTERN_FAIL_POINT(kCorpusCreate);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return corpus;
}

absl::StatusOr<Corpus> CatalogStore::GetCorpus(uint64_t tenant_uid, std::string_view id) const {
  return LoadNamed<Corpus>(KeySpace::kCorpusIds, tenant_uid, id, KeySpace::kCorpus, "corpus");
}

absl::StatusOr<Corpus> CatalogStore::GetCorpusByUid(uint64_t corpus_uid) const {
  return Load<Corpus>(KeySpace::kCorpus, corpus_uid, "corpus");
}

absl::StatusOr<Page<Corpus>> CatalogStore::ListCorpora(uint64_t tenant_uid,
                                                       const PageRequest& page) const {
  return ListChildren<Corpus>(KeySpace::kTenantCorpora, tenant_uid, KeySpace::kCorpus, page);
}

absl::StatusOr<Corpus> CatalogStore::UpdateCorpus(uint64_t corpus_uid, const CorpusUpdate& update,
                                                  int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (update.display_name.has_value()) corpus->display_name = *update.display_name;
  if (update.expire_time.has_value()) corpus->expire_time = *update.expire_time;
  if (update.pinned.has_value()) corpus->pinned = *update.pinned;
  corpus->update_time = now;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kCorpus, corpus_uid), *corpus);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return corpus;
}

absl::Status CatalogStore::DeleteCorpus(uint64_t corpus_uid, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();

  absl::StatusOr<std::vector<uint64_t>> sessions = Children(KeySpace::kCorpusSessions, corpus_uid);
  if (!sessions.ok()) return sessions.status();
  for (const uint64_t uid : *sessions) {
    absl::StatusOr<Session> session = GetSessionByUid(uid);
    if (!session.ok()) return session.status();
    if (absl::Status status = RemoveSession(&transaction, *session); !status.ok()) return status;
  }
  absl::StatusOr<std::vector<uint64_t>> generations =
      Children(KeySpace::kCorpusGenerations, corpus_uid);
  if (!generations.ok()) return generations.status();
  for (const uint64_t uid : *generations) {
    absl::StatusOr<Generation> generation = GetGeneration(uid);
    if (!generation.ok()) return generation.status();
    RemoveGeneration(&transaction, *generation);
  }
  if (absl::Status status = EndCorpusOperations(&transaction, *corpus, now); !status.ok()) {
    return status;
  }
  if (absl::Status status = RemoveCorpusDocuments(&transaction, *corpus); !status.ok())
    return status;
  if (absl::Status status = RemoveNumbers(&transaction, *corpus); !status.ok()) return status;
  Batch& batch = transaction.batch();
  batch.Delete(ColumnFamily::kCatalog,
               NameKey(KeySpace::kCorpusIds, corpus->tenant_uid, corpus->id));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kTenantCorpora, corpus->tenant_uid, corpus_uid));
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kCorpus, corpus_uid));
  LECTERN_FAIL_POINT(kCorpusDelete);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kCorpusDeleted);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> CatalogStore::PublicNumber(uint64_t uid) const {
  absl::StatusOr<Link> number = LoadRecord<Link>(store(), ObjectKey(KeySpace::kPublicNumber, uid));
  if (absl::IsNotFound(number.status())) return uid;
  if (!number.ok()) return number.status();
  return number->uid;
}

absl::StatusOr<uint64_t> CatalogStore::FindByNumber(uint64_t corpus_uid, uint64_t number) const {
  absl::StatusOr<Link> found =
      LoadRecord<Link>(store(), ChildKey(KeySpace::kCorpusNumbered, corpus_uid, number));
  if (found.ok()) return found->uid;
  if (!absl::IsNotFound(found.status())) return found.status();
  absl::StatusOr<uint64_t> own = PublicNumber(number);
  if (!own.ok()) return own.status();
  if (*own != number) return absl::NotFoundError(fmt::format("nothing has the number {}", number));
  return number;
}

absl::Status CatalogStore::RemoveNumbers(Transaction* transaction, const Corpus& corpus) {
  const std::string prefix = ObjectKey(KeySpace::kCorpusNumbered, corpus.uid);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Link> link = ParseRecord<Link>(cursor->key(), cursor->value());
    if (!link.ok()) return link.status();
    transaction->batch().Delete(ColumnFamily::kCatalog, std::string(cursor->key()));
    transaction->batch().Delete(ColumnFamily::kCatalog,
                                ObjectKey(KeySpace::kPublicNumber, link->uid));
  }
  return cursor->status();
}

absl::StatusOr<std::vector<Corpus>> CatalogStore::ExpiredCorpora(int64_t now, size_t limit) const {
  return Expired<Corpus>(KeySpace::kCorpus, now, limit);
}

}  // namespace lectern::storage
