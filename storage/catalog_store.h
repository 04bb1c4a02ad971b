// The catalog over a key-value store. One class, one file per kind of thing: catalog_corpora.cc,
// catalog_documents.cc, catalog_operations.cc, catalog_ingest.cc, catalog_eviction.cc,
// catalog_sessions.cc. Internal to storage.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog.h"
#include "storage/keys.h"
#include "storage/lineage_ledger.h"
#include "storage/records.h"
#include "storage/transaction.h"

namespace lectern::storage {

// Document bytes and layout parts are stored in pieces of this size.
inline constexpr size_t kPieceBytes = 1 << 20;

class CatalogStore final : public Catalog {
 public:
  CatalogStore(StoreState* state, LineageLedger* ledger) : state_(state), ledger_(ledger) {}

  // Purges uploads that no process is writing any more. At open only.
  absl::StatusOr<uint64_t> PurgeUploads();
  absl::Status CreateDefaultTenant(int64_t now);

  absl::StatusOr<Tenant> CreateTenant(const NewTenant& tenant, int64_t now) override;
  absl::StatusOr<Tenant> GetTenant(std::string_view id) const override;
  absl::StatusOr<Tenant> GetTenantByUid(uint64_t tenant_uid) const override;
  absl::StatusOr<Page<Tenant>> ListTenants(const PageRequest& page) const override;
  absl::StatusOr<Tenant> UpdateTenant(uint64_t tenant_uid, const TenantUpdate& update) override;
  absl::StatusOr<TenantUsage> MeasureTenant(uint64_t tenant_uid) const override;
  absl::Status DeleteTenant(uint64_t tenant_uid) override;

  absl::StatusOr<Corpus> CreateCorpus(uint64_t tenant_uid, const NewCorpus& corpus,
                                      int64_t now) override;
  absl::StatusOr<Corpus> GetCorpus(uint64_t tenant_uid, std::string_view id) const override;
  absl::StatusOr<Corpus> GetCorpusByUid(uint64_t corpus_uid) const override;
  absl::StatusOr<Page<Corpus>> ListCorpora(uint64_t tenant_uid,
                                           const PageRequest& page) const override;
  absl::StatusOr<Corpus> UpdateCorpus(uint64_t corpus_uid, const CorpusUpdate& update,
                                      int64_t now) override;
  absl::Status DeleteCorpus(uint64_t corpus_uid, int64_t now) override;
  absl::StatusOr<std::vector<Corpus>> ExpiredCorpora(int64_t now, size_t limit) const override;
  absl::Status UseCorpus(uint64_t corpus_uid, int64_t time) override;

  absl::StatusOr<std::unique_ptr<DocumentWriter>> WriteDocument(
      uint64_t corpus_uid, const NewDocument& document) override;
  absl::StatusOr<Document> GetDocument(uint64_t corpus_uid, std::string_view id) const override;
  absl::StatusOr<Document> GetDocumentByUid(uint64_t document_uid) const override;
  absl::StatusOr<Page<Document>> ListDocuments(uint64_t corpus_uid,
                                               const PageRequest& page) const override;
  absl::StatusOr<std::string> ReadDocument(const Document& document, uint64_t offset,
                                           uint64_t size) const override;
  absl::Status DeleteDocument(uint64_t corpus_uid, std::string_view id, int64_t now) override;

  absl::StatusOr<Operation> CreateOperation(uint64_t corpus_uid, const NewOperation& operation,
                                            int64_t now) override;
  absl::StatusOr<Operation> GetOperation(uint64_t operation_uid) const override;
  absl::StatusOr<Page<Operation>> ListOperations(uint64_t tenant_uid, uint64_t corpus_uid,
                                                 const PageRequest& page) const override;
  absl::StatusOr<std::vector<Operation>> RunningOperations() const override;
  absl::StatusOr<Operation> UpdateOperation(uint64_t operation_uid, const OperationUpdate& update,
                                            int64_t now) override;
  absl::StatusOr<Operation> EndOperation(uint64_t operation_uid, const OperationEnd& end,
                                         int64_t now) override;
  absl::Status DeleteOperation(uint64_t operation_uid) override;

  absl::StatusOr<IngestIntent> BeginIngest(const IngestRequest& request, int64_t now) override;
  absl::StatusOr<IngestIntent> GetIngest(uint64_t operation_uid) const override;
  absl::Status UpdateIngestPlan(uint64_t operation_uid, std::string_view plan) override;
  absl::StatusOr<IngestIntent> CommitIngestBlocks(uint64_t operation_uid, uint32_t context,
                                                  const BlockBatch& batch) override;
  absl::StatusOr<Generation> PublishGeneration(uint64_t operation_uid, const GenerationSpec& spec,
                                               int64_t now) override;
  absl::StatusOr<uint64_t> PublicNumber(uint64_t uid) const override;
  absl::StatusOr<uint64_t> FindByNumber(uint64_t corpus_uid, uint64_t number) const override;
  absl::Status PutLayoutPart(uint64_t operation_uid, uint32_t context, uint32_t part,
                             std::string_view bytes) override;
  absl::StatusOr<std::string> GetLayoutPart(uint64_t generation_uid, uint32_t context,
                                            uint32_t part) const override;

  absl::StatusOr<Generation> GetGeneration(uint64_t generation_uid) const override;
  absl::StatusOr<Page<Generation>> ListGenerations(uint64_t corpus_uid,
                                                   const PageRequest& page) const override;
  absl::Status DeleteGeneration(uint64_t generation_uid) override;
  absl::StatusOr<Generation> EvictGeneration(uint64_t generation_uid) override;
  absl::StatusOr<Generation> QuarantineGeneration(uint64_t generation_uid) override;
  absl::StatusOr<std::vector<Generation>> QuarantineBlocks(const Segment& blocks) override;
  absl::Status DropDamagedHashes() override;
  absl::StatusOr<std::vector<CachedGeneration>> CachedGenerations() const override;
  absl::StatusOr<Operation> SucceedOperation(uint64_t operation_uid, uint64_t generation_uid,
                                             int64_t now) override;

  absl::StatusOr<Session> CreateSession(uint64_t generation_uid, uint32_t context_index,
                                        const NewSession& session, int64_t now) override;
  absl::StatusOr<Session> GetSession(uint64_t corpus_uid, std::string_view id) const override;
  absl::StatusOr<Session> GetSessionByUid(uint64_t session_uid) const override;
  absl::StatusOr<Page<Session>> ListSessions(uint64_t corpus_uid,
                                             const PageRequest& page) const override;
  absl::StatusOr<Session> ForkSession(uint64_t parent_uid, uint32_t turn_count,
                                      const NewSession& session, int64_t now) override;
  absl::StatusOr<Session> CommitTurn(uint64_t session_uid, const Turn& turn,
                                     const BlockBatch& batch, int64_t now) override;
  absl::StatusOr<Session> UpdateSessionExpiry(uint64_t session_uid,
                                              std::optional<int64_t> expire_time,
                                              int64_t now) override;
  absl::StatusOr<Turn> GetTurn(uint64_t session_uid, uint32_t number) const override;
  absl::StatusOr<Page<Turn>> ListTurns(uint64_t session_uid,
                                       const PageRequest& page) const override;
  absl::Status DeleteSession(uint64_t session_uid) override;
  absl::StatusOr<std::vector<Session>> ExpiredSessions(int64_t now, size_t limit) const override;

  KeyValueStore& store() const { return state_->store(); }
  StoreState* state() const { return state_; }

  // kNotFound "<what> <uid> does not exist".
  template <typename T>
  absl::StatusOr<T> Load(KeySpace space, uint64_t uid, std::string_view what) const;
  // Through a name; kNotFound "<what> "<id>" does not exist".
  template <typename T>
  absl::StatusOr<T> LoadNamed(KeySpace names, uint64_t parent, std::string_view id,
                              KeySpace objects, std::string_view what) const;
  // kInvalidArgument for an id that cannot be one, kAlreadyExists for one that is taken.
  absl::Status CheckFree(KeySpace names, uint64_t parent, std::string_view id,
                         std::string_view what) const;

 private:
  friend class PieceDocumentWriter;
  friend class StoredCorpusExport;

  template <typename T>
  absl::StatusOr<Page<T>> ListChildren(KeySpace list, uint64_t parent, KeySpace objects,
                                       const PageRequest& page) const;
  // The same, newest first, of a list whose order is the uid.
  template <typename T>
  absl::StatusOr<Page<T>> ListChildrenNewestFirst(KeySpace list, uint64_t parent, KeySpace objects,
                                                  const PageRequest& page) const;
  // Uids in a list, ascending by order.
  absl::StatusOr<std::vector<uint64_t>> Children(KeySpace list, uint64_t parent) const;
  template <typename T>
  absl::StatusOr<std::vector<T>> Expired(KeySpace objects, int64_t now, size_t limit) const;

  // Removals within a transaction; edges are dropped, bytes queued for reclaim.
  // corpus_goes: what the intent was restoring goes in the same transaction.
  absl::Status RemoveIntent(Transaction* transaction, const IngestIntent& intent, bool corpus_goes);
  void RemoveGeneration(Transaction* transaction, const Generation& generation);
  absl::Status RemoveSession(Transaction* transaction, const Session& session);
  absl::Status RemoveCorpusDocuments(Transaction* transaction, const Corpus& corpus);
  absl::Status EndCorpusOperations(Transaction* transaction, const Corpus& corpus, int64_t now);
  absl::Status RemoveNumbers(Transaction* transaction, const Corpus& corpus);
  void CloseOperation(Transaction* transaction, Operation* operation, OperationState state,
                      int64_t now);
  // References of a generation and of the sessions on it to the generation's blocks go, and it says
  // why.
  absl::Status DropBlocks(Transaction* transaction, Residency residency, Generation* generation);
  absl::Status BeginRestore(Transaction* transaction, const IngestRequest& request,
                            Generation generation);
  absl::Status RestoreSessions(Transaction* transaction, const Generation& generation);
  absl::StatusOr<std::vector<Session>> SessionsOn(uint64_t generation_uid) const;
  absl::StatusOr<HeldLineage> Hold(uint64_t lineage, const Generation& generation,
                                   const std::vector<Session>& sessions) const;
  absl::StatusOr<Session> InsertSession(Transaction* transaction, Session session,
                                        const NewSession& request, const Geometry& geometry,
                                        int64_t now);

  StoreState* const state_;
  LineageLedger* const ledger_;
};

// Distinct lineages of segments, and `own` if not 0.
std::set<uint64_t> LineagesOf(std::span<const Segment> segments, uint64_t own);
// The part of `segments` below block `end`.
std::vector<Segment> FirstBlocks(std::span<const Segment> segments, uint32_t end);

// Page tokens: the order of the last item seen, bound to its list.
std::string PageToken(KeySpace list, uint64_t parent, uint64_t order);
absl::StatusOr<uint64_t> ParsePageToken(KeySpace list, uint64_t parent, std::string_view token);
// The first order of the next page, from a request.
absl::StatusOr<uint64_t> PageStart(KeySpace list, uint64_t parent, const PageRequest& page);
uint32_t PageSize(const PageRequest& page);

// ---- Templates.

template <typename T>
absl::StatusOr<T> CatalogStore::Load(KeySpace space, uint64_t uid, std::string_view what) const {
  absl::StatusOr<T> record = LoadRecord<T>(store(), ObjectKey(space, uid));
  if (absl::IsNotFound(record.status())) {
    return absl::NotFoundError(fmt::format("{} {} does not exist", what, uid));
  }
  return record;
}

template <typename T>
absl::StatusOr<T> CatalogStore::LoadNamed(KeySpace names, uint64_t parent, std::string_view id,
                                          KeySpace objects, std::string_view what) const {
  absl::StatusOr<Link> link = LoadRecord<Link>(store(), NameKey(names, parent, id));
  absl::StatusOr<T> record = link.ok() ? LoadRecord<T>(store(), ObjectKey(objects, link->uid))
                                       : absl::StatusOr<T>(link.status());
  if (absl::IsNotFound(record.status())) {
    return absl::NotFoundError(fmt::format("{} \"{}\" does not exist", what, id));
  }
  return record;
}

template <typename T>
absl::StatusOr<Page<T>> CatalogStore::ListChildren(KeySpace list, uint64_t parent, KeySpace objects,
                                                   const PageRequest& request) const {
  constexpr size_t kOrderOffset = 1 + sizeof(uint64_t);
  absl::StatusOr<uint64_t> start = PageStart(list, parent, request);
  if (!start.ok()) return start.status();
  Page<T> page;
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, ChildKey(list, parent, *start),
                                  PrefixEnd(ObjectKey(list, parent)));
  uint64_t last_order = 0;
  for (; cursor->Valid(); cursor->Next()) {
    if (page.items.size() == PageSize(request)) {
      page.next_token = PageToken(list, parent, last_order);
      break;
    }
    absl::StatusOr<Link> link = ParseRecord<Link>(cursor->key(), cursor->value());
    if (!link.ok()) return link.status();
    absl::StatusOr<T> record = LoadRecord<T>(store(), ObjectKey(objects, link->uid));
    if (absl::IsNotFound(record.status())) continue;  // deleted since the cursor was made
    if (!record.ok()) return record.status();
    page.items.push_back(*std::move(record));
    last_order = KeyNumber64(cursor->key(), kOrderOffset);
  }
  if (!cursor->status().ok()) return cursor->status();
  return page;
}

template <typename T>
absl::StatusOr<Page<T>> CatalogStore::ListChildrenNewestFirst(KeySpace list, uint64_t parent,
                                                              KeySpace objects,
                                                              const PageRequest& request) const {
  uint64_t end = std::numeric_limits<uint64_t>::max();
  if (!request.token.empty()) {
    absl::StatusOr<uint64_t> last = ParsePageToken(list, parent, request.token);
    if (!last.ok()) return last.status();
    end = *last;
  }
  absl::StatusOr<std::vector<uint64_t>> uids = Children(list, parent);
  if (!uids.ok()) return uids.status();
  Page<T> page;
  for (auto uid = uids->rbegin(); uid != uids->rend(); ++uid) {
    if (*uid >= end) continue;
    if (page.items.size() == PageSize(request)) {
      page.next_token = PageToken(list, parent, page.items.back().uid);
      break;
    }
    absl::StatusOr<T> record = LoadRecord<T>(store(), ObjectKey(objects, *uid));
    if (absl::IsNotFound(record.status())) continue;  // deleted since
    if (!record.ok()) return record.status();
    page.items.push_back(*std::move(record));
  }
  return page;
}

template <typename T>
absl::StatusOr<std::vector<T>> CatalogStore::Expired(KeySpace objects, int64_t now,
                                                     size_t limit) const {
  std::vector<T> expired;
  const std::string prefix(1, static_cast<char>(objects));
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid() && expired.size() < limit; cursor->Next()) {
    absl::StatusOr<T> record = ParseRecord<T>(cursor->key(), cursor->value());
    if (!record.ok()) return record.status();
    if (record->expire_time.has_value() && *record->expire_time <= now) {
      expired.push_back(*std::move(record));
    }
  }
  if (!cursor->status().ok()) return cursor->status();
  return expired;
}

}  // namespace lectern::storage
