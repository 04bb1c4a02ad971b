// The life of a document, from top to bottom:
//
//   uploaded     storage::DocumentWriter (engine/documents.cc) has checked and synced the bytes
//   Begin        an operation record; from here on a crash loses nothing
//   Prepare      text, layout in one or several contexts, tokens, hashes (ingest_plan.cc);
//                BeginIngest writes the intent and takes references on stored prefixes
//   IngestRun    chunks through the model, one context after the other (ingest_run.cc); each commit
//                makes whole blocks visible with the intent's progress
//   Publish      the manifest of all contexts, the corpus's current generation and the operation's
//                success in one batch
#include "engine/ingest/ingest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"
#include "engine/quota/disk_quota.h"
#include "engine/room/disk_bytes.h"
#include "storage/fail_point.h"

namespace lectern::engine {
namespace {

// What reading documents takes at its highest, an estimate from above: their bytes, text, source
// map, and tokens with their places.
constexpr int64_t kPlanBytesPerByte = 12;
constexpr int64_t kPlanFixedBytes = 1 << 20;

int64_t PlanMemoryBytes(const std::vector<storage::Document>& documents) {
  int64_t bytes = 0;
  for (const storage::Document& document : documents) {
    bytes += static_cast<int64_t>(document.byte_length);
  }
  return kPlanFixedBytes + bytes * kPlanBytesPerByte;
}

int64_t LayoutBytes(const IngestPlan& plan) {
  int64_t bytes = 0;
  for (const ContextPlan& context : plan.contexts) bytes += LayoutDiskBytes(context.token_count());
  for (const auto& [document, text] : plan.texts) bytes += static_cast<int64_t>(text.size());
  return bytes;
}

}  // namespace

std::string IngestDetail::Serialize() const {
  return nlohmann::json{{"tokens_cached", tokens_cached},
                        {"documents", documents},
                        {"contexts", contexts},
                        {"cache_bytes", cache_bytes},
                        {"resumed", resumed},
                        {"source_generation", source_generation},
                        {"error_metadata", error_metadata}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

IngestDetail IngestDetail::Parse(const std::string& bytes) {
  IngestDetail detail;
  const nlohmann::json json = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return detail;
  const auto number = [&](const char* key) {
    return json.contains(key) && json[key].is_number_integer() ? json[key].get<int64_t>() : 0;
  };
  detail.tokens_cached = number("tokens_cached");
  detail.documents = number("documents");
  detail.contexts = number("contexts");
  detail.cache_bytes = number("cache_bytes");
  detail.resumed = static_cast<int>(number("resumed"));
  detail.source_generation = static_cast<uint64_t>(number("source_generation"));
  if (json.contains("error_metadata") && json["error_metadata"].is_object()) {
    for (const auto& [key, value] : json["error_metadata"].items()) {
      if (value.is_string()) detail.error_metadata[key] = value.get<std::string>();
    }
  }
  return detail;
}

Ingest::Ingest(const Surroundings& surroundings)
    : around_(surroundings), thread_([this] { Loop(); }) {}

Ingest::~Ingest() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    // Whoever prepares stops at the next look at its flag; the operations stay running in storage.
    for (auto& [uid, job] : running_) job.cancel->Cancel();
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status Ingest::Resume() {
  absl::StatusOr<std::vector<storage::Operation>> operations =
      around_.store->catalog().RunningOperations();
  if (!operations.ok()) return operations.status();
  for (const storage::Operation& operation : *operations) {
    IngestDetail detail = IngestDetail::Parse(operation.detail);
    ++detail.resumed;
    absl::StatusOr<storage::Operation> updated = around_.store->catalog().UpdateOperation(
        operation.uid, {.phase = "queued", .detail = detail.Serialize()}, around_.clock_us());
    if (!updated.ok()) return updated.status();
    std::lock_guard lock(mutex_);
    const Job job = {.operation_uid = operation.uid,
                     .corpus_uid = operation.corpus_uid,
                     .cancel = std::make_shared<CancelFlag>(),
                     .use = around_.uses->Begin(operation.corpus_uid)};
    running_[operation.uid] = job;
    queue_.push_back(job);
  }
  wake_.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<storage::Operation> Ingest::Begin(const storage::Corpus& corpus) {
  if (corpus.document_count == 0) {
    return Error(absl::StatusCode::kFailedPrecondition, "CORPUS_EMPTY",
                 fmt::format("corpus {} has no documents: upload some first", corpus.id));
  }
  return Enqueue(corpus, {.kind = "ingest", .phase = "queued"});
}

absl::StatusOr<storage::Operation> Ingest::BeginRebuild(const storage::Corpus& corpus,
                                                        uint64_t generation_uid) {
  IngestDetail detail;
  detail.source_generation = generation_uid;
  return Enqueue(corpus, {.kind = "rebuild", .phase = "queued", .detail = detail.Serialize()});
}

absl::StatusOr<storage::Operation> Ingest::Enqueue(const storage::Corpus& corpus,
                                                   const storage::NewOperation& request) {
  std::lock_guard lock(mutex_);
  for (const auto& [uid, job] : running_) {
    if (job.corpus_uid != corpus.uid) continue;
    // One whose outcome can be read already is only putting its things away: whoever waited for it
    // may go on.
    absl::StatusOr<storage::Operation> other = around_.store->catalog().GetOperation(uid);
    if (!other.ok() && !absl::IsNotFound(other.status())) return other.status();
    if (other.ok() && other->state == storage::OperationState::kRunning) {
      return Error(absl::StatusCode::kFailedPrecondition, "INGEST_RUNNING",
                   fmt::format("corpus {} is being ingested: wait for operation op{} or cancel it",
                               corpus.id, uid),
                   {{"operation", UidName("op", uid)}});
    }
  }
  absl::StatusOr<storage::Operation> operation =
      around_.store->catalog().CreateOperation(corpus.uid, request, around_.clock_us());
  if (!operation.ok()) return operation.status();
  const Job job = {.operation_uid = operation->uid,
                   .corpus_uid = corpus.uid,
                   .cancel = std::make_shared<CancelFlag>(),
                   .use = around_.uses->Begin(corpus.uid)};
  running_[operation->uid] = job;
  queue_.push_back(job);
  wake_.notify_all();
  return operation;
}

void Ingest::Loop() {
  for (;;) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      job = queue_.front();
      queue_.pop_front();
    }
    const absl::Status status = WithReason(Prepare(job));
    if (status.ok()) continue;  // the step thread has it now
    const bool stopping = [this] {
      std::lock_guard lock(mutex_);
      return stop_;
    }();
    // A server that drains leaves it to be resumed.
    if (!stopping && ReasonOf(status) != "DRAINING") {
      End(job.operation_uid, status);
    }
    Ended(job.operation_uid);
  }
}

void Ingest::End(uint64_t operation_uid, const absl::Status& status) {
  if (TryEnd(operation_uid, status)) return;
  std::lock_guard lock(mutex_);
  unended_[operation_uid] = status;
}

bool Ingest::TryEnd(uint64_t operation_uid, const absl::Status& status) {
  storage::Catalog& catalog = around_.store->catalog();
  if (absl::StatusOr<storage::Operation> operation = catalog.GetOperation(operation_uid);
      operation.ok()) {
    IngestDetail detail = IngestDetail::Parse(operation->detail);
    detail.error_metadata = MetadataOf(status);
    // Only the numbers of its error are lost if this fails.
    catalog.UpdateOperation(operation_uid, {.detail = detail.Serialize()}, around_.clock_us())
        .status()
        .IgnoreError();
  }
  const absl::Status ended =
      catalog
          .EndOperation(operation_uid,
                        {.state = absl::IsCancelled(status) ? storage::OperationState::kCancelled
                                                            : storage::OperationState::kFailed,
                         .error_code = static_cast<int32_t>(status.code()),
                         .error_reason = ReasonOf(status),
                         .error_message = std::string(status.message())},
                        around_.clock_us())
          .status();
  // Refused when the corpus is gone, and its operation has ended with it.
  return ended.ok() || absl::IsNotFound(ended) || absl::IsFailedPrecondition(ended);
}

void Ingest::RetryEnds() {
  std::map<uint64_t, absl::Status> unended;
  {
    std::lock_guard lock(mutex_);
    unended = unended_;
  }
  for (const auto& [uid, status] : unended) {
    if (!TryEnd(uid, status)) continue;
    std::lock_guard lock(mutex_);
    unended_.erase(uid);
  }
}

absl::Status Ingest::Prepare(const Job& job) {
  storage::Catalog& catalog = around_.store->catalog();
  const auto cancelled = [&] {
    return job.cancel->cancelled()
               ? Error(absl::StatusCode::kCancelled, "CANCELLED", "the ingest was cancelled")
               : absl::OkStatus();
  };
  LECTERN_RETURN_IF_ERROR(cancelled());
  absl::StatusOr<storage::Operation> operation =
      catalog.UpdateOperation(job.operation_uid, {.phase = "preparing"}, around_.clock_us());
  if (!operation.ok()) return operation.status();

  // An intent from an earlier process fixes the documents; else they are what the corpus holds now.
  absl::StatusOr<storage::IngestIntent> intent = catalog.GetIngest(job.operation_uid);
  if (!intent.ok() && !absl::IsNotFound(intent.status())) return intent.status();
  Source source;
  if (intent.ok()) {
    PlanKey key = PlanKey::Parse(intent->plan);
    source.sizes = std::move(key.sizes);
    // Earlier versions knew one context, of the model's length.
    if (source.sizes.empty()) source.sizes = {around_.model->config().max_positions};
    if (key.fingerprint != ToHex(around_.model->fingerprint())) {
      return Error(
          absl::StatusCode::kFailedPrecondition, "MODEL_MISMATCH",
          "the ingest was begun with another model or attention mode: ingest the corpus again");
    }
    LECTERN_ASSIGN_OR_RETURN(source.documents, Load(intent->documents));
  } else {
    LECTERN_ASSIGN_OR_RETURN(source, FindSource(*operation));
    if (source.complete) {
      absl::StatusOr<storage::Operation> succeeded =
          catalog.SucceedOperation(job.operation_uid, source.generation, around_.clock_us());
      if (!succeeded.ok()) return succeeded.status();
      Ended(job.operation_uid);
      return absl::OkStatus();
    }
  }
  LECTERN_ASSIGN_OR_RETURN(
      const RequestMemory::Hold hold,
      around_.request_memory->Acquire(PlanMemoryBytes(source.documents), "reading the documents",
                                      [&] { return Stopping(job); }));
  LECTERN_ASSIGN_OR_RETURN(IngestPlan plan,
                           Plan(operation->tenant_uid, source.documents, source.sizes));
  LECTERN_RETURN_IF_ERROR(cancelled());

  LECTERN_CHECK(!intent.ok() || intent->contexts.size() == plan.contexts.size());
  LECTERN_FAIL_POINT(kIngestPlanned);
  if (!intent.ok()) {
    PlanKey key = {.fingerprint = ToHex(around_.model->fingerprint())};
    for (const ContextPlan& context : plan.contexts) key.sizes.push_back(context.token_count());
    storage::IngestRequest request = {.operation_uid = job.operation_uid,
                                      .geometry = around_.memory->shape().geometry(),
                                      .hashes = plan.FullBlockHashes(),
                                      .plan = key.Serialize(),
                                      .source_generation = source.generation,
                                      .restore = source.restore};
    for (const storage::Document& document : source.documents) {
      request.documents.push_back(document.uid);
    }
    intent = catalog.BeginIngest(request, around_.clock_us());
    if (!intent.ok()) return intent.status();
    std::vector<int64_t> cached_blocks;
    for (const storage::IngestContext& context : intent->contexts) {
      cached_blocks.push_back(context.first_block);
    }
    IngestDetail detail = Measure(plan, cached_blocks, source.documents.size());
    const IngestDetail before = IngestDetail::Parse(operation->detail);
    detail.resumed = before.resumed;
    detail.source_generation = before.source_generation;
    const int64_t new_tokens = plan.token_count() - detail.tokens_cached;
    LECTERN_RETURN_IF_ERROR(PromiseDisk(job, operation->tenant_uid,
                                        detail.cache_bytes / plan.token_count() * new_tokens));
    operation = catalog.UpdateOperation(
        job.operation_uid,
        {.tokens_total = static_cast<uint64_t>(plan.token_count()), .detail = detail.Serialize()},
        around_.clock_us());
    if (!operation.ok()) return operation.status();
  }
  LECTERN_ASSIGN_OR_RETURN(DiskPromise promise, PromiseRoom(job, plan, *intent));
  // Written again on resume: the parts are buffered, and the same bytes do no harm.
  LECTERN_RETURN_IF_ERROR(WriteLayout(job, plan));
  promise.Written(LayoutBytes(plan));
  LECTERN_FAIL_POINT(kLayoutWritten);
  // The prefill needs tokens and hashes only.
  for (ContextPlan& context : plan.contexts) context.layout = {};
  plan.texts.clear();

  absl::StatusOr<storage::Tenant> tenant = catalog.GetTenantByUid(operation->tenant_uid);
  if (!tenant.ok()) return tenant.status();
  return around_.scheduler->Submit(std::make_unique<IngestRun>(
      IngestRun::Surroundings{
          .catalog = &catalog,
          .model = around_.model,
          .memory = around_.memory,
          .counters = around_.counters,
          .clock_us = around_.clock_us,
          .chunk_tokens = around_.chunk_tokens,
          .failed = [this](uint64_t operation_uid,
                           const absl::Status& status) { End(operation_uid, status); },
          .ended = [this](uint64_t operation_uid) { Ended(operation_uid); }},
      *tenant, *std::move(intent), std::move(plan), std::move(promise), job.cancel));
}

absl::Status Ingest::PromiseDisk(const Job& job, uint64_t tenant_uid, int64_t bytes) {
  absl::StatusOr<storage::Tenant> tenant = around_.store->catalog().GetTenantByUid(tenant_uid);
  if (!tenant.ok()) return tenant.status();
  absl::StatusOr<std::optional<int64_t>> left = DiskQuotaLeft(around_.store->catalog(), *tenant);
  if (!left.ok()) return left.status();
  std::lock_guard lock(mutex_);
  // What a running ingest has stored counts twice, as stored and as promised: the error is on the
  // safe side and ends with it.
  int64_t promised = 0;
  for (const auto& [uid, other] : running_) {
    if (other.tenant_uid == tenant_uid) promised += other.promised_bytes;
  }
  LECTERN_RETURN_IF_ERROR(CheckDiskQuota(*tenant, *left, promised + bytes));
  if (const auto found = running_.find(job.operation_uid); found != running_.end()) {
    found->second.tenant_uid = tenant_uid;
    found->second.promised_bytes = bytes;
  }
  return absl::OkStatus();
}

bool Ingest::Stopping(const Job& job) const {
  std::lock_guard lock(mutex_);
  return stop_ || job.cancel->cancelled();
}

absl::StatusOr<DiskPromise> Ingest::PromiseRoom(const Job& job, const IngestPlan& plan,
                                                const storage::IngestIntent& intent) const {
  int64_t bytes = LayoutBytes(plan);
  for (size_t i = 0; i < plan.contexts.size(); ++i) {
    bytes += BlockDiskBytes(
        around_.memory->shape().geometry(),
        plan.contexts[i].token_count() - static_cast<int64_t>(intent.contexts[i].token_count));
  }
  return around_.room->Reserve(bytes, "the cache of the corpus", [&] { return Stopping(job); });
}

absl::StatusOr<std::vector<storage::Document>> Ingest::Load(
    const std::vector<uint64_t>& uids) const {
  std::vector<storage::Document> documents;
  for (const uint64_t uid : uids) {
    absl::StatusOr<storage::Document> document = around_.store->catalog().GetDocumentByUid(uid);
    if (!document.ok()) return document.status();
    documents.push_back(*std::move(document));
  }
  return documents;
}

absl::StatusOr<Ingest::Source> Ingest::FindSource(const storage::Operation& operation) const {
  Source source;
  source.generation = IngestDetail::Parse(operation.detail).source_generation;
  if (source.generation == 0) {
    LECTERN_ASSIGN_OR_RETURN(source.documents, Documents(operation.corpus_uid));
    if (source.documents.empty()) {
      return Error(absl::StatusCode::kFailedPrecondition, "CORPUS_EMPTY",
                   "the corpus has no documents any more: upload some first");
    }
    return source;
  }
  absl::StatusOr<storage::Generation> generation =
      around_.store->catalog().GetGeneration(source.generation);
  if (!generation.ok()) return WithReason(generation.status(), "GENERATION_NOT_FOUND");
  source.restore = generation->model_fingerprint == around_.model->fingerprint();
  source.complete = source.restore && generation->residency == storage::Residency::kComplete;
  std::vector<uint64_t> uids;
  for (const storage::GenerationDocument& document : generation->documents) {
    uids.push_back(document.uid);
  }
  LECTERN_ASSIGN_OR_RETURN(source.documents, Load(uids));
  // What stands on its contexts, sessions above all, finds them as they were.
  if (source.restore) {
    for (const storage::GenerationContext& context : generation->contexts) {
      source.sizes.push_back(static_cast<int64_t>(context.token_count));
    }
  }
  return source;
}

absl::Status Ingest::WriteLayout(const Job& job, const IngestPlan& plan) {
  storage::Catalog& catalog = around_.store->catalog();
  for (uint32_t i = 0; i < plan.contexts.size(); ++i) {
    const ContextPlan& context = plan.contexts[i];
    const int64_t parts =
        (BlocksOf(context.token_count()) + kLayoutPartBlocks - 1) / kLayoutPartBlocks;
    for (int64_t part = 0; part < parts; ++part) {
      LECTERN_RETURN_IF_ERROR(catalog.PutLayoutPart(
          job.operation_uid, i, static_cast<uint32_t>(part),
          context.layout.Part(part * kLayoutPartBlocks, kLayoutPartBlocks, kBlockTokens)
              .Serialize()));
    }
  }
  for (const auto& [document, text] : plan.texts) {
    LECTERN_RETURN_IF_ERROR(
        catalog.PutLayoutPart(job.operation_uid, /*context=*/0, kTextPartBase + document, text));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<storage::Document>> Ingest::Documents(uint64_t corpus_uid) const {
  std::vector<storage::Document> documents;
  storage::PageRequest page = {.size = storage::kMaxPageSize};
  do {
    absl::StatusOr<storage::Page<storage::Document>> found =
        around_.store->catalog().ListDocuments(corpus_uid, page);
    if (!found.ok()) return found.status();
    documents.insert(documents.end(), found->items.begin(), found->items.end());
    page.token = found->next_token;
  } while (!page.token.empty());
  return documents;
}

absl::StatusOr<IngestPlan> Ingest::Plan(uint64_t tenant_uid,
                                        const std::vector<storage::Document>& documents,
                                        std::span<const int64_t> sizes) const {
  return PlanIngest(around_.store->catalog(), documents, sizes, around_.model->layout(),
                    PrefixChain(around_.model->fingerprint(), around_.store->secret(), tenant_uid));
}

IngestDetail Ingest::Measure(const IngestPlan& plan, std::span<const int64_t> cached_blocks,
                             size_t documents) const {
  const storage::Geometry& geometry = around_.memory->shape().geometry();
  const int64_t bytes_per_token = static_cast<int64_t>(
      geometry.layers * geometry.KvBytes(1) + geometry.IndexedLayers() * geometry.IndexBytes(1));
  IngestDetail detail = {.documents = static_cast<int64_t>(documents),
                         .contexts = static_cast<int64_t>(plan.contexts.size()),
                         .cache_bytes = plan.token_count() * bytes_per_token};
  for (size_t i = 0; i < plan.contexts.size(); ++i) {
    detail.tokens_cached +=
        std::min(cached_blocks[i] * kBlockTokens, plan.contexts[i].token_count());
  }
  return detail;
}

absl::StatusOr<Ingest::Estimate> Ingest::Validate(const storage::Corpus& corpus) {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<storage::Document> documents, Documents(corpus.uid));
  if (documents.empty()) {
    return Error(absl::StatusCode::kFailedPrecondition, "CORPUS_EMPTY",
                 fmt::format("corpus {} has no documents: upload some first", corpus.id));
  }
  LECTERN_ASSIGN_OR_RETURN(
      const RequestMemory::Hold hold,
      around_.request_memory->Acquire(PlanMemoryBytes(documents), "counting the documents"));
  LECTERN_ASSIGN_OR_RETURN(const IngestPlan plan, Plan(corpus.tenant_uid, documents, {}));
  std::vector<int64_t> cached_blocks;
  for (const ContextPlan& context : plan.contexts) {
    absl::StatusOr<std::vector<storage::Segment>> stored =
        around_.store->blocks().LookupPrefix(corpus.tenant_uid, context.FullBlockHashes());
    if (!stored.ok()) return stored.status();
    cached_blocks.push_back(stored->empty() ? 0 : stored->back().end_block());
  }
  return Estimate{.tokens_total = plan.token_count(),
                  .detail = Measure(plan, cached_blocks, documents.size())};
}

void Ingest::Cancel(uint64_t operation_uid) {
  {
    std::lock_guard lock(mutex_);
    if (auto it = running_.find(operation_uid); it != running_.end()) it->second.cancel->Cancel();
  }
  around_.scheduler->Wake();
}

void Ingest::CancelCorpus(uint64_t corpus_uid) {
  {
    std::lock_guard lock(mutex_);
    for (auto& [uid, job] : running_) {
      if (job.corpus_uid == corpus_uid) job.cancel->Cancel();
    }
  }
  around_.scheduler->Wake();
}

void Ingest::Ended(uint64_t operation_uid) {
  std::vector<std::function<void()>> done;
  {
    std::lock_guard lock(mutex_);
    running_.erase(operation_uid);
    for (auto it = watchers_.begin(); it != watchers_.end();) {
      if (it->second.operation_uid == operation_uid) {
        done.push_back(std::move(it->second.done));
        it = watchers_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const std::function<void()>& call : done) call();
}

bool Ingest::Watch(uint64_t operation_uid, std::function<void()> done, uint64_t* watch) {
  std::lock_guard lock(mutex_);
  if (!running_.contains(operation_uid)) return false;
  *watch = next_watch_++;
  watchers_.emplace(*watch, Watcher{.operation_uid = operation_uid, .done = std::move(done)});
  return true;
}

void Ingest::Unwatch(uint64_t watch) {
  std::lock_guard lock(mutex_);
  watchers_.erase(watch);
}

}  // namespace lectern::engine
