// Corpora, documents, generations and ingest operations: names to records, records to what callers
// see.
#include <fmt/format.h>

#include <algorithm>

#include "engine/answer/layout_reader.h"
#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "engine/public_name.h"
#include "engine/storage_page.h"

namespace lectern::engine {
namespace {

IngestPhase PhaseOf(const storage::Operation& operation) {
  if (operation.state != storage::OperationState::kRunning) return IngestPhase::kDone;
  if (operation.phase == "preparing") return IngestPhase::kPreparing;
  if (operation.phase == "prefilling") return IngestPhase::kPrefilling;
  if (operation.phase == "committing") return IngestPhase::kCommitting;
  return IngestPhase::kQueued;
}

}  // namespace

absl::StatusOr<storage::Corpus> LocalEngine::FindCorpus(const CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(name.tenant));
  absl::StatusOr<storage::Corpus> corpus = store_->catalog().GetCorpus(tenant.uid, name.corpus);
  if (!corpus.ok()) return WithReason(corpus.status(), "CORPUS_NOT_FOUND");
  if (corpus->expire_time.has_value() && *corpus->expire_time <= NowUs()) {
    return Error(absl::StatusCode::kNotFound, "CORPUS_NOT_FOUND",
                 fmt::format("corpus {} has expired", name.corpus));
  }
  return corpus;
}

absl::StatusOr<storage::Corpus> LocalEngine::FindCorpusToUse(const CorpusName& name,
                                                             CorpusUses::Use* use) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  *use = uses_->Begin(corpus.uid);
  return FindCorpus(name);  // as it is now that nothing of it goes
}

absl::StatusOr<storage::Operation> LocalEngine::FindOperation(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(name.corpus.tenant));
  const absl::Status missing =
      Error(absl::StatusCode::kNotFound, "OPERATION_NOT_FOUND",
            fmt::format("there is no operation {} of corpus {}", name.id, name.corpus.corpus));
  // Operations outlive their corpus; numbers from elsewhere do not.
  absl::StatusOr<storage::Corpus> named =
      store_->catalog().GetCorpus(tenant.uid, name.corpus.corpus);
  if (!named.ok() && !absl::IsNotFound(named.status())) return WithReason(named.status());
  LECTERN_ASSIGN_OR_RETURN(
      const uint64_t uid,
      FindPublicName(store_->catalog(), "op", named.ok() ? named->uid : 0, name.id));
  if (uid == 0) return missing;
  absl::StatusOr<storage::Operation> operation = store_->catalog().GetOperation(uid);
  if (absl::IsNotFound(operation.status())) return missing;
  if (!operation.ok()) return WithReason(operation.status());
  if (operation->tenant_uid != tenant.uid) return missing;
  // While the corpus is there, the name must fit.
  absl::StatusOr<storage::Corpus> corpus = store_->catalog().GetCorpusByUid(operation->corpus_uid);
  if (corpus.ok() && corpus->id != name.corpus.corpus) return missing;
  return operation;
}

absl::StatusOr<std::shared_ptr<const LocalEngine::CacheView>> LocalEngine::ViewCaches() {
  constexpr int64_t kShownFor = 10;  // times what it took
  const int64_t begin = NowUs();
  std::lock_guard lock(view_mutex_);
  if (view_ != nullptr && begin < view_until_us_) return view_;
  absl::StatusOr<std::vector<storage::CachedGeneration>> cached =
      store_->catalog().CachedGenerations();
  if (!cached.ok()) return WithReason(cached.status());
  auto view = std::make_shared<CacheView>();
  for (const storage::CachedGeneration& generation : *cached) {
    view->corpus_bytes[generation.corpus_uid] += static_cast<int64_t>(generation.bytes);
    view->generation_bytes[generation.uid] = static_cast<int64_t>(generation.bytes);
  }
  std::map<uint64_t, int32_t> next;  // by tenant
  for (const Evictable& evictable : room_->EvictionOrder(*std::move(cached))) {
    if (!evictable.generation.current) continue;
    view->ranks[evictable.generation.corpus_uid] = ++next[evictable.generation.tenant_uid];
  }
  const int64_t end = NowUs();
  view_until_us_ = end + kShownFor * (end - begin);
  view_ = std::move(view);
  return view_;
}

void LocalEngine::ForgetCacheView() {
  std::lock_guard lock(view_mutex_);
  view_.reset();
}

absl::StatusOr<Corpus> LocalEngine::Present(const storage::Corpus& corpus,
                                            const std::string& tenant) {
  LECTERN_ASSIGN_OR_RETURN(const std::shared_ptr<const CacheView> view, ViewCaches());
  return Present(corpus, tenant, *view);
}

absl::StatusOr<Corpus> LocalEngine::Present(const storage::Corpus& corpus,
                                            const std::string& tenant, const CacheView& view) {
  const auto look_up = [&](const auto& map) {
    const auto found = map.find(corpus.uid);
    return found == map.end() ? 0 : found->second;
  };
  Corpus result = {.name = {.tenant = tenant, .corpus = corpus.id},
                   .display_name = corpus.display_name,
                   .create_time_us = corpus.create_time,
                   .update_time_us = corpus.update_time,
                   .expire_time_us = corpus.expire_time.value_or(0),
                   .document_count = static_cast<int64_t>(corpus.document_count),
                   .document_bytes = static_cast<int64_t>(corpus.document_bytes),
                   .pinned = corpus.pinned,
                   .last_used_time_us = uses_->LastUsed(corpus.uid, corpus.last_used_time),
                   .eviction_rank = look_up(view.ranks),
                   .cache_bytes = look_up(view.corpus_bytes)};
  if (corpus.current_generation == 0) return result;
  LECTERN_ASSIGN_OR_RETURN(result.current_generation,
                           PublicName(store_->catalog(), "g", corpus.current_generation));
  absl::StatusOr<storage::Generation> generation =
      store_->catalog().GetGeneration(corpus.current_generation);
  if (!generation.ok()) return WithReason(generation.status(), "GENERATION_NOT_FOUND");
  result.cache_residency = static_cast<Residency>(generation->residency);
  result.context_count = static_cast<int64_t>(generation->contexts.size());
  // Up to date: the same documents in the same order.
  result.stale = generation->documents.size() != corpus.document_count;
  size_t seen = 0;
  for (storage::PageRequest page = {.size = storage::kMaxPageSize}; !result.stale;) {
    absl::StatusOr<storage::Page<storage::Document>> documents =
        store_->catalog().ListDocuments(corpus.uid, page);
    if (!documents.ok()) return WithReason(documents.status(), "CORPUS_NOT_FOUND");
    for (const storage::Document& document : documents->items) {
      result.stale = result.stale || seen >= generation->documents.size() ||
                     generation->documents[seen].uid != document.uid;
      ++seen;
    }
    if (documents->next_token.empty()) break;
    page.token = documents->next_token;
  }
  return result;
}

absl::StatusOr<Corpus> LocalEngine::CreateCorpus(const CorpusName& name,
                                                 std::string_view display_name,
                                                 int64_t expire_time_us) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(name.tenant));
  const std::string id = name.corpus.empty() ? NewId() : name.corpus;
  LECTERN_RETURN_IF_ERROR(CheckId("corpus", id));
  LECTERN_RETURN_IF_ERROR(CheckDisplayName(display_name));
  const int64_t now = NowUs();
  if (expire_time_us != 0 && expire_time_us <= now) {
    return InvalidArgument("EXPIRE_TIME_PAST", "expire_time has passed already",
                           {{"field", "expire_time"}});
  }
  storage::NewCorpus corpus = {.id = id, .display_name = std::string(display_name)};
  if (expire_time_us != 0) corpus.expire_time = expire_time_us;
  absl::StatusOr<storage::Corpus> created = store_->catalog().CreateCorpus(tenant.uid, corpus, now);
  if (!created.ok()) return WithReason(created.status(), "TENANT_NOT_FOUND", "CORPUS_EXISTS");
  return Present(*created, name.tenant);
}

absl::StatusOr<Corpus> LocalEngine::GetCorpus(const CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  return Present(corpus, name.tenant);
}

absl::StatusOr<Page<Corpus>> LocalEngine::ListCorpora(std::string_view tenant_id,
                                                      const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Tenant tenant, FindTenant(tenant_id));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Corpus>> corpora =
      store_->catalog().ListCorpora(tenant.uid, request);
  if (!corpora.ok()) return PageError(corpora.status());
  Page<Corpus> result = {.next_page_token = corpora->next_token};
  const int64_t now = NowUs();
  LECTERN_ASSIGN_OR_RETURN(const std::shared_ptr<const CacheView> view, ViewCaches());
  for (const storage::Corpus& corpus : corpora->items) {
    if (corpus.expire_time.has_value() && *corpus.expire_time <= now) continue;
    absl::StatusOr<Corpus> presented = Present(corpus, tenant.id, *view);
    if (absl::IsNotFound(presented.status())) continue;  // deleted while the page was made
    if (!presented.ok()) return presented.status();
    result.items.push_back(*std::move(presented));
  }
  return result;
}

absl::StatusOr<Corpus> LocalEngine::UpdateCorpus(const CorpusName& name,
                                                 const CorpusUpdate& update) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  const int64_t now = NowUs();
  storage::CorpusUpdate changes;
  if (update.display_name.has_value()) {
    LECTERN_RETURN_IF_ERROR(CheckDisplayName(*update.display_name));
    changes.display_name = *update.display_name;
  }
  if (update.expire_time_us.has_value()) {
    if (*update.expire_time_us != 0 && *update.expire_time_us <= now) {
      return InvalidArgument("EXPIRE_TIME_PAST",
                             "expire_time has passed already: delete the corpus instead",
                             {{"field", "expire_time"}});
    }
    changes.expire_time =
        *update.expire_time_us == 0 ? std::nullopt : std::optional<int64_t>(*update.expire_time_us);
  }
  changes.pinned = update.pinned;
  absl::StatusOr<storage::Corpus> updated =
      store_->catalog().UpdateCorpus(corpus.uid, changes, now);
  if (!updated.ok()) return WithReason(updated.status(), "CORPUS_NOT_FOUND");
  ForgetCacheView();
  return Present(*updated, name.tenant);
}

absl::Status LocalEngine::DeleteCorpus(const CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  ingest_->CancelCorpus(corpus.uid);
  if (absl::Status status = store_->catalog().DeleteCorpus(corpus.uid, NowUs()); !status.ok()) {
    return WithReason(status, "CORPUS_NOT_FOUND");
  }
  LECTERN_RETURN_IF_ERROR(WithReason(CountAll()));
  WakeMaintenance();
  return absl::OkStatus();
}

absl::Status LocalEngine::CountAll() {
  int64_t documents = 0;
  int64_t sessions = 0;
  const auto count_sessions = [&](const storage::Corpus& corpus) {
    storage::PageRequest page = {.size = storage::kMaxPageSize};
    do {
      absl::StatusOr<storage::Page<storage::Session>> found =
          store_->catalog().ListSessions(corpus.uid, page);
      if (absl::IsNotFound(found.status())) return absl::OkStatus();  // deleted meanwhile
      if (!found.ok()) return found.status();
      sessions += static_cast<int64_t>(found->items.size());
      page.token = found->next_token;
    } while (!page.token.empty());
    return absl::OkStatus();
  };
  storage::PageRequest tenant_page = {.size = storage::kMaxPageSize};
  do {
    absl::StatusOr<storage::Page<storage::Tenant>> tenants =
        store_->catalog().ListTenants(tenant_page);
    if (!tenants.ok()) return tenants.status();
    for (const storage::Tenant& tenant : tenants->items) {
      storage::PageRequest page = {.size = storage::kMaxPageSize};
      do {
        absl::StatusOr<storage::Page<storage::Corpus>> corpora =
            store_->catalog().ListCorpora(tenant.uid, page);
        if (!corpora.ok()) return corpora.status();
        for (const storage::Corpus& corpus : corpora->items) {
          documents += static_cast<int64_t>(corpus.document_count);
          LECTERN_RETURN_IF_ERROR(count_sessions(corpus));
        }
        page.token = corpora->next_token;
      } while (!page.token.empty());
    }
    tenant_page.token = tenants->next_token;
  } while (!tenant_page.token.empty());
  documents_.store(documents);
  sessions_.store(sessions);
  return absl::OkStatus();
}

absl::StatusOr<Document> LocalEngine::GetDocument(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  absl::StatusOr<storage::Document> document = store_->catalog().GetDocument(corpus.uid, name.id);
  if (!document.ok()) return WithReason(document.status(), "DOCUMENT_NOT_FOUND");
  return PresentDocument(*document, name.corpus);
}

absl::StatusOr<Page<Document>> LocalEngine::ListDocuments(const CorpusName& name,
                                                          const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Document>> documents =
      store_->catalog().ListDocuments(corpus.uid, request);
  if (!documents.ok()) return PageError(documents.status());
  Page<Document> result = {.next_page_token = documents->next_token};
  for (const storage::Document& document : documents->items)
    result.items.push_back(PresentDocument(document, name));
  return result;
}

absl::Status LocalEngine::DeleteDocument(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  if (absl::Status status = store_->catalog().DeleteDocument(corpus.uid, name.id, NowUs());
      !status.ok()) {
    return WithReason(status, "DOCUMENT_NOT_FOUND");
  }
  documents_.fetch_sub(1, std::memory_order_relaxed);
  WakeMaintenance();
  return absl::OkStatus();
}

absl::StatusOr<Operation> LocalEngine::Present(const storage::Operation& operation,
                                               const CorpusName& corpus) {
  const IngestDetail detail = IngestDetail::Parse(operation.detail);
  LECTERN_ASSIGN_OR_RETURN(std::string id, PublicName(store_->catalog(), "op", operation.uid));
  Operation result = {.name = {.corpus = corpus, .id = std::move(id)},
                      .done = operation.state != storage::OperationState::kRunning,
                      .phase = PhaseOf(operation),
                      .tokens_total = static_cast<int64_t>(operation.tokens_total),
                      .tokens_done = static_cast<int64_t>(operation.tokens_done),
                      .tokens_cached = detail.tokens_cached,
                      .documents = detail.documents,
                      .contexts = detail.contexts,
                      .cache_bytes_total = detail.cache_bytes,
                      .resumed = detail.resumed,
                      .create_time_us = operation.create_time,
                      .end_time_us = operation.end_time};
  if (operation.generation_uid != 0) {
    LECTERN_ASSIGN_OR_RETURN(result.generation,
                             PublicName(store_->catalog(), "g", operation.generation_uid));
  }
  if (operation.state == storage::OperationState::kFailed ||
      operation.state == storage::OperationState::kCancelled) {
    result.error = Error(static_cast<absl::StatusCode>(operation.error_code),
                         operation.error_reason, operation.error_message, detail.error_metadata);
  }
  return result;
}

absl::StatusOr<Operation> LocalEngine::IngestCorpus(const CorpusName& name, bool validate_only) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  if (validate_only) {
    absl::StatusOr<Ingest::Estimate> estimate = ingest_->Validate(corpus);
    if (!estimate.ok()) return WithReason(estimate.status());
    const int64_t now = NowUs();
    return Operation{.name = {.corpus = name},
                     .done = true,
                     .phase = IngestPhase::kDone,
                     .tokens_total = estimate->tokens_total,
                     .tokens_cached = estimate->detail.tokens_cached,
                     .documents = estimate->detail.documents,
                     .contexts = estimate->detail.contexts,
                     .cache_bytes_total = estimate->detail.cache_bytes,
                     .validate_only = true,
                     .create_time_us = now,
                     .end_time_us = now};
  }
  absl::StatusOr<storage::Tenant> tenant = store_->catalog().GetTenantByUid(corpus.tenant_uid);
  if (!tenant.ok()) return WithReason(tenant.status(), "TENANT_NOT_FOUND");
  LECTERN_RETURN_IF_ERROR(counters_.tenants.CheckTokens(*tenant));
  absl::StatusOr<storage::Operation> operation = ingest_->Begin(corpus);
  if (!operation.ok()) return WithReason(operation.status(), "CORPUS_NOT_FOUND");
  return Present(*operation, name);
}

absl::StatusOr<Operation> LocalEngine::GetOperation(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Operation operation, FindOperation(name));
  return Present(operation, name.corpus);
}

absl::StatusOr<Page<Operation>> LocalEngine::ListOperations(const CorpusName& name,
                                                            const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Operation>> operations =
      store_->catalog().ListOperations(corpus.tenant_uid, corpus.uid, request);
  if (!operations.ok()) return PageError(operations.status());
  Page<Operation> result = {.next_page_token = operations->next_token};
  for (const storage::Operation& operation : operations->items) {
    LECTERN_ASSIGN_OR_RETURN(Operation presented, Present(operation, name));
    result.items.push_back(std::move(presented));
  }
  return result;
}

namespace {

class WatchTicket final : public Ticket {
 public:
  WatchTicket(Ingest* ingest, uint64_t watch) : ingest_(ingest), watch_(watch) {}
  void Cancel() override { ingest_->Unwatch(watch_); }

 private:
  Ingest* const ingest_;
  const uint64_t watch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ticket>> LocalEngine::WatchOperation(
    const ResourceName& name, std::function<void(Operation)> done) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Operation operation, FindOperation(name));
  const auto report = [this, uid = operation.uid, corpus = name.corpus, done = std::move(done)] {
    const absl::StatusOr<storage::Operation> ended = store_->catalog().GetOperation(uid);
    if (!ended.ok()) return;
    if (absl::StatusOr<Operation> presented = Present(*ended, corpus); presented.ok()) {
      done(*std::move(presented));
    }
  };
  uint64_t watch = 0;
  if (!ingest_->Watch(operation.uid, report, &watch)) report();
  return std::make_unique<WatchTicket>(ingest_.get(), watch);
}

absl::StatusOr<Operation> LocalEngine::CancelOperation(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Operation operation, FindOperation(name));
  if (operation.state == storage::OperationState::kRunning) ingest_->Cancel(operation.uid);
  return GetOperation(name);
}

absl::StatusOr<Generation> LocalEngine::Present(const storage::Generation& generation,
                                                const CorpusName& corpus, const CacheView& view) {
  LECTERN_ASSIGN_OR_RETURN(std::string id, PublicName(store_->catalog(), "g", generation.uid));
  Generation result = {.name = {.corpus = corpus, .id = std::move(id)},
                       .create_time_us = generation.publish_time,
                       .context_count = static_cast<int64_t>(generation.contexts.size()),
                       .model_fingerprint = ToHex(generation.model_fingerprint),
                       .prompt_layout = generation.layout_version,
                       .residency = static_cast<Residency>(generation.residency)};
  if (const auto bytes = view.generation_bytes.find(generation.uid);
      bytes != view.generation_bytes.end()) {
    result.cache_bytes = bytes->second;
  }
  for (const storage::GenerationContext& context : generation.contexts) {
    result.token_count += static_cast<int64_t>(context.token_count);
  }
  for (const storage::GenerationDocument& document : generation.documents)
    result.documents.push_back(document.id);
  return result;
}

absl::StatusOr<storage::Generation> LocalEngine::FindGeneration(const storage::Corpus& corpus,
                                                                std::string_view id) {
  const absl::Status missing =
      Error(absl::StatusCode::kNotFound, "GENERATION_NOT_FOUND",
            fmt::format("there is no generation {} of corpus {}", id, corpus.id));
  LECTERN_ASSIGN_OR_RETURN(const uint64_t uid,
                           FindPublicName(store_->catalog(), "g", corpus.uid, id));
  if (uid == 0) return missing;
  absl::StatusOr<storage::Generation> generation = store_->catalog().GetGeneration(uid);
  if (absl::IsNotFound(generation.status())) return missing;
  if (!generation.ok()) return WithReason(generation.status());
  if (generation->corpus_uid != corpus.uid) return missing;
  return generation;
}

absl::StatusOr<Generation> LocalEngine::GetGeneration(const ResourceName& name) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name.corpus));
  LECTERN_ASSIGN_OR_RETURN(const storage::Generation generation, FindGeneration(corpus, name.id));
  LECTERN_ASSIGN_OR_RETURN(const std::shared_ptr<const CacheView> view, ViewCaches());
  LECTERN_ASSIGN_OR_RETURN(Generation presented, Present(generation, name.corpus, *view));
  for (uint32_t i = 0; i < generation.contexts.size(); ++i) {
    absl::StatusOr<ContextInfo> context = DescribeContext(store_->catalog(), generation, i);
    // A layout that is damaged is rebuilt, and says nothing until then.
    if (absl::IsDataLoss(context.status())) {
      context =
          ContextInfo{.index = static_cast<int>(i),
                      .count = static_cast<int>(generation.contexts.size()),
                      .token_count = static_cast<int64_t>(generation.contexts[i].token_count)};
    }
    if (!context.ok()) return WithReason(context.status());
    presented.contexts.push_back(*std::move(context));
  }
  return presented;
}

absl::StatusOr<Operation> LocalEngine::RebuildCorpus(const CorpusName& name,
                                                     std::string_view generation_id) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  uint64_t uid = corpus.current_generation;
  if (!generation_id.empty()) {
    LECTERN_ASSIGN_OR_RETURN(const storage::Generation generation,
                             FindGeneration(corpus, generation_id));
    if (generation.uid != uid && generation.model_fingerprint != model_->fingerprint()) {
      return Error(
          absl::StatusCode::kFailedPrecondition, "MODEL_MISMATCH",
          fmt::format("generation {} is neither of this server's model nor the current one "
                      "of corpus {}: rebuild the corpus",
                      generation_id, corpus.id));
    }
    uid = generation.uid;
  }
  if (uid == 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "CORPUS_NOT_INGESTED",
                 fmt::format("corpus {} has no generation to rebuild: ingest it", corpus.id));
  }
  absl::StatusOr<storage::Operation> operation = ingest_->BeginRebuild(corpus, uid);
  if (!operation.ok()) return WithReason(operation.status(), "CORPUS_NOT_FOUND");
  return Present(*operation, name);
}

absl::StatusOr<Page<Generation>> LocalEngine::ListGenerations(const CorpusName& name,
                                                              const PageRequest& page) {
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus, FindCorpus(name));
  LECTERN_ASSIGN_OR_RETURN(const storage::PageRequest request, StoragePage(page));
  absl::StatusOr<storage::Page<storage::Generation>> generations =
      store_->catalog().ListGenerations(corpus.uid, request);
  if (!generations.ok()) return PageError(generations.status());
  Page<Generation> result = {.next_page_token = generations->next_token};
  LECTERN_ASSIGN_OR_RETURN(const std::shared_ptr<const CacheView> view, ViewCaches());
  for (const storage::Generation& generation : generations->items) {
    LECTERN_ASSIGN_OR_RETURN(Generation presented, Present(generation, name, *view));
    result.items.push_back(std::move(presented));
  }
  return result;
}

}  // namespace lectern::engine
