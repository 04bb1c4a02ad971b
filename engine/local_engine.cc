#include "engine/local_engine.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "engine/cuda/cuda_backend.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"

namespace lectern::engine {
namespace {

// How often expiry is looked at.
constexpr std::chrono::seconds kMaintenanceInterval(2);
// Expired resources deleted at a time.
constexpr size_t kExpiredBatch = 100;
// K/V slots per layer that no run may hold, so that every attention call can fetch: the selected
// blocks of a decode row, twice over.
constexpr int64_t kFetchSlots = 32;
// Of prefill. A GPU wants many rows at once: a step of 1,024 is all launches.
constexpr int kCpuChunkTokens = 1024;
constexpr int kDeviceChunkTokens = 8192;

// Rows of guesses beside one answer's row. On a CPU a row more takes about a sixth of the time of a
// step of one.
constexpr int32_t kCpuSpareRows = 15;
constexpr int32_t kDeviceSpareRows = 31;

int ChunkTokens(const EngineOptions& options, bool on_device) {
  if (options.prefill_chunk_tokens > 0) return options.prefill_chunk_tokens;
  return on_device ? kDeviceChunkTokens : kCpuChunkTokens;
}

absl::Status InvalidOption(std::string_view option, std::string message) {
  return InvalidArgument("OPTION_INVALID", fmt::format("--{}: {}", option, message),
                         {{"option", std::string(option)}});
}

// The kinds add up to DiskUsage::total(), whichever moments the parts were measured at.
std::map<std::string, int64_t> DiskBytesByKind(const storage::DiskUsage& disk) {
  using storage::ColumnFamily;
  const auto tables = [&](ColumnFamily family) {
    return static_cast<int64_t>(disk.family_table_bytes[static_cast<size_t>(family)]);
  };
  std::map<std::string, int64_t> kinds = {
      {"keys_values", tables(ColumnFamily::kKv)},
      {"index_keys", tables(ColumnFamily::kIndexKeys)},
      {"documents", tables(ColumnFamily::kDocument)},
      {"catalog", tables(ColumnFamily::kCatalog) + tables(ColumnFamily::kHash)},
      {"log", static_cast<int64_t>(disk.log_bytes)},
      {"loading", static_cast<int64_t>(disk.loading_bytes)},
      {"other", static_cast<int64_t>(disk.other_bytes)}};
  int64_t sum = 0;
  for (const auto& [kind, bytes] : kinds) sum += bytes;
  kinds["dropped"] = std::max<int64_t>(0, static_cast<int64_t>(disk.total()) - sum);
  return kinds;
}

}  // namespace

absl::Status DataDirError(const absl::Status& status) {
  const std::optional<storage::OpenFailure> failure = storage::OpenFailureOf(status);
  if (!failure) return WithReason(status, "DATA_DIR_NOT_FOUND");
  const std::string_view reason = *failure == storage::OpenFailure::kLocked    ? "DATA_DIR_LOCKED"
                                  : *failure == storage::OpenFailure::kForeign ? "DATA_DIR_FOREIGN"
                                                                               : "DATA_DIR_FORMAT";
  return Error(status.code(), reason,
               std::string_view(status.message().data(), status.message().size()));
}

int64_t NowUs() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(const EngineOptions& options) {
  return LocalEngine::Open(options);
}

absl::StatusOr<std::unique_ptr<LocalEngine>> LocalEngine::Open(const EngineOptions& options,
                                                               DeviceOpener open_device) {
  if (options.threads < 0) return InvalidOption("threads", "must be 0 (all cores) or more");
  if (options.prefill_chunk_tokens < 0)
    return InvalidOption("prefill_chunk_tokens", "must be 0 or more");
  if (options.context_tokens != 0 && options.context_tokens < kLeastContextTokens) {
    return InvalidOption(
        "context_tokens",
        fmt::format("must be 0 (as the model allows) or at least {}", kLeastContextTokens));
  }
  if (options.queue_limit < 1) return InvalidOption("queue_limit", "must be at least 1");
  if (options.batch_limit < 1 || options.batch_limit > kMaxDecodeRows) {
    return InvalidOption("batch_limit", fmt::format("must be 1 to {}", kMaxDecodeRows));
  }
  if (options.disk_cap_bytes != 0 && options.disk_cap_bytes < DiskRoom::kLeastCapBytes) {
    return InvalidOption("disk_cap", fmt::format("must be 0 (none) or at least {}: the log and its "
                                                 "headroom take a part of it",
                                                 DiskRoom::kLeastCapBytes));
  }
  if (options.read_timeout_ms < 0)
    return InvalidOption("read_timeout_seconds", "must be 0 or more");
  if (options.request_bytes < 1) return InvalidOption("request_bytes", "must be at least 1");
  auto engine = std::unique_ptr<LocalEngine>(new LocalEngine(options));
  if (options.threads > 0) omp_set_num_threads(options.threads);
  if (options.device_memory_bytes < 0) return InvalidOption("device_memory", "must be 0 or more");
  BackendOptions backend;
  if (options.device != ComputeDevice::kCpu) {
    if (!open_device) open_device = OpenCudaDevice;
    // A question may be read while the answers before it are decoded.
    backend = {.open_device = std::move(open_device),
               .or_cpu = options.device == ComputeDevice::kAuto,
               .sizes = {.memory_bytes = options.device_memory_bytes,
                         .step_tokens = ChunkTokens(options, /*on_device=*/true),
                         .step_contexts = options.batch_limit + 1,
                         .replay = options.device_graphs}};
  }
  LECTERN_ASSIGN_OR_RETURN(
      engine->model_,
      ServingModel::Load(options.model_dir, options.attention == AttentionMode::kDense, backend,
                         options.context_tokens));

  const storage::StoreOptions store_options = {
      .directory = options.data_dir,
      .reader_threads = options.threads,
      .read_timeout = std::chrono::milliseconds(options.read_timeout_ms),
      .disk_cap = static_cast<uint64_t>(options.disk_cap_bytes),
      .now = NowUs()};
  absl::StatusOr<std::unique_ptr<storage::Store>> store =
      options.data_dir.empty() ? storage::Store::OpenInMemory(store_options)
                               : storage::Store::Open(store_options);
  if (!store.ok()) return DataDirError(store.status());
  engine->store_ = *std::move(store);
  engine->uses_ = std::make_unique<CorpusUses>(&engine->store_->catalog(), NowUs);
  engine->room_ = std::make_unique<DiskRoom>(
      DiskRoom::Surroundings{.store = engine->store_.get(),
                             .uses = engine->uses_.get(),
                             .cap_bytes = options.disk_cap_bytes,
                             .delete_expired = [raw = engine.get()] { raw->DeleteExpired(); }});
  engine->request_memory_ = std::make_unique<RequestMemory>(options.request_bytes);

  const KvShape shape(engine->model_->decoder().geometry());
  // A chunk takes at most a quarter of the pool: small pools get small chunks, and answers their
  // share.
  const int64_t pool_slots = options.pool_bytes / shape.kv_slot_bytes();
  const int64_t affordable = pool_slots / shape.layers() / 4;
  const bool on_device = engine->model_->decoder().device_use().has_value();
  engine->chunk_tokens_ = std::min<int64_t>(ChunkTokens(options, on_device),
                                            std::max<int64_t>(1, affordable) * kBlockTokens);
  const int64_t needed_slots =
      (BlocksOf(engine->chunk_tokens_) + 10) * shape.layers() + kFetchSlots;
  if (pool_slots < needed_slots) {
    return InvalidOption("pool_bytes",
                         fmt::format("{} is too little for this model: at least {} are needed",
                                     options.pool_bytes, needed_slots * shape.kv_slot_bytes()));
  }
  engine->reads_ = std::make_unique<ReadWatch>(&engine->store_->blocks());
  engine->memory_ = std::make_unique<KvMemory>(
      shape, engine->reads_.get(),
      KvMemory::Options{.pool_bytes = options.pool_bytes, .index_bytes = options.index_bytes});
  // The index keys of open contexts stay in memory, and on the GPU if there is one.
  int64_t index_slots = engine->memory_->index_pool().capacity_slots();
  if (const std::optional<DeviceUse> use = engine->model_->decoder().device_use()) {
    index_slots = std::min(index_slots, use->index_pages);
  }
  engine->scheduler_ = std::make_unique<Scheduler>(
      &engine->model_->decoder(),
      SchedulerOptions{
          .limits = {.questions = options.queue_limit,
                     .active_questions = options.batch_limit,
                     .decode_rows = options.batch_limit,
                     .spare_rows = !options.drafts ? 0
                                   : on_device     ? kDeviceSpareRows
                                                   : kCpuSpareRows,
                     .chunk_tokens = engine->chunk_tokens_,
                     .shared_chunk_tokens = std::min<int64_t>(256, engine->chunk_tokens_),
                     .memory = {.kv_slots = pool_slots - kFetchSlots, .index_slots = index_slots}},
          .pool_slot_bytes = shape.kv_slot_bytes(),
          .index_slot_bytes = engine->memory_->index_pool().slot_bytes()},
      NowUs);
  engine->answers_ = std::make_unique<Answers>(
      Answers::Surroundings{.store = engine->store_.get(),
                            .model = engine->model_.get(),
                            .memory = engine->memory_.get(),
                            .scheduler = engine->scheduler_.get(),
                            .counters = &engine->counters_,
                            .room = engine->room_.get(),
                            .adaptive_coverage = options.adaptive_coverage,
                            .drafts = options.drafts,
                            .clock_us = NowUs});
  engine->ingest_ =
      std::make_unique<Ingest>(Ingest::Surroundings{.store = engine->store_.get(),
                                                    .model = engine->model_.get(),
                                                    .memory = engine->memory_.get(),
                                                    .scheduler = engine->scheduler_.get(),
                                                    .counters = &engine->counters_,
                                                    .uses = engine->uses_.get(),
                                                    .room = engine->room_.get(),
                                                    .request_memory = engine->request_memory_.get(),
                                                    .clock_us = NowUs,
                                                    .chunk_tokens = engine->chunk_tokens_});
  LECTERN_RETURN_IF_ERROR(WithReason(engine->CountAll()));
  LECTERN_RETURN_IF_ERROR(WithReason(engine->ingest_->Resume()));
  engine->care_ = std::make_unique<StoreCare>(
      StoreCare::Surroundings{.store = engine->store_.get(),
                              .ingest = engine->ingest_.get(),
                              .reads = engine->reads_.get(),
                              .prefill_rate = &engine->counters_.prefill_rate,
                              .bytes_per_second = options.scrub_bytes_per_second});
  LECTERN_ASSIGN_OR_RETURN(
      engine->backups_,
      StoreBackups::Open({.store = engine->store_.get(),
                          .directory = options.backup_dir,
                          .staging = options.data_dir.empty() ? "" : options.data_dir + "/backup",
                          .bytes_per_second = options.backup_bytes_per_second,
                          .clock_us = NowUs}));
  engine->maintenance_ = std::thread([raw = engine.get()] { raw->Maintain(); });
  return engine;
}

LocalEngine::~LocalEngine() {
  if (scheduler_ != nullptr) scheduler_->Drain(0);
  backups_.reset();
  care_.reset();  // it begins ingests
  if (maintenance_.joinable()) {
    {
      std::lock_guard lock(maintenance_mutex_);
      stop_ = true;
    }
    maintenance_wake_.notify_all();
    maintenance_.join();
  }
  // The preparing thread submits to the scheduler, the scheduler's runs call back into Ingest: with
  // the scheduler drained, both are still.
  ingest_.reset();
  answers_.reset();
  scheduler_.reset();
  // What cannot be saved costs the order of eviction its last seconds, and nothing else.
  if (uses_ != nullptr) uses_->Save().IgnoreError();
}

void LocalEngine::Drain(int64_t grace_us) { scheduler_->Drain(grace_us); }

void LocalEngine::WakeMaintenance() {
  {
    std::lock_guard lock(maintenance_mutex_);
    maintenance_due_ = true;
  }
  maintenance_wake_.notify_all();
}

void LocalEngine::Maintain() {
  bool again = false;  // what was in use the last time is looked at once more after the interval
  for (;;) {
    bool due;
    {
      std::unique_lock lock(maintenance_mutex_);
      maintenance_wake_.wait_for(lock, kMaintenanceInterval,
                                 [this] { return stop_ || maintenance_due_; });
      if (stop_) return;
      due = std::exchange(maintenance_due_, false);
    }
    DeleteExpired();
    ingest_->RetryEnds();
    // Tried again after the interval, whatever went wrong.
    uses_->Save().IgnoreError();
    room_->ShrinkToCap().IgnoreError();
    if (!due && !again) continue;
    const absl::StatusOr<storage::GarbageReport> report = store_->CollectGarbage();
    again = !report.ok() || report->lineages_in_use > 0 || report->ranges_deferred > 0;
  }
}

void LocalEngine::DeleteExpired() {
  const int64_t now = NowUs();
  if (absl::StatusOr<std::vector<storage::Corpus>> corpora =
          store_->catalog().ExpiredCorpora(now, kExpiredBatch);
      corpora.ok()) {
    for (const storage::Corpus& corpus : *corpora) {
      ingest_->CancelCorpus(corpus.uid);
      if (store_->catalog().DeleteCorpus(corpus.uid, now).ok()) {
        documents_.fetch_sub(static_cast<int64_t>(corpus.document_count),
                             std::memory_order_relaxed);
        WakeMaintenance();
      }
    }
  }
  if (absl::StatusOr<std::vector<storage::Session>> sessions =
          store_->catalog().ExpiredSessions(now, kExpiredBatch);
      sessions.ok()) {
    for (const storage::Session& session : *sessions) {
      if (store_->catalog().DeleteSession(session.uid).ok()) {
        sessions_.fetch_sub(1, std::memory_order_relaxed);
        WakeMaintenance();
      }
    }
  }
}

absl::StatusOr<std::unique_ptr<Ticket>> LocalEngine::Ask(const AskRequest& request,
                                                         AnswerSink sink) {
  CorpusUses::Use use;
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus,
                           FindCorpusToUse(request.target.corpus, &use));
  LECTERN_ASSIGN_OR_RETURN(Admission admission, AdmitQuestion(corpus, request.target));
  sink.done = [this, corpus_uid = corpus.uid, use = std::move(use),
               permit = std::move(admission.permit),
               done = std::move(sink.done)](absl::StatusOr<Answer> answer) mutable {
    if (absl::IsDataLoss(answer.status())) care_->Suspect(corpus_uid);
    use.reset();
    permit.reset();  // before the caller can ask again
    done(std::move(answer));
  };
  auto ticket = answers_->Ask(admission.tenant, corpus, request, std::move(sink));
  if (!ticket.ok()) return WithReason(ticket.status());
  return ticket;
}

absl::StatusOr<std::unique_ptr<Ticket>> LocalEngine::Retrieve(
    const RetrieveRequest& request, std::function<void(absl::StatusOr<Retrieval>)> done) {
  CorpusUses::Use use;
  LECTERN_ASSIGN_OR_RETURN(const storage::Corpus corpus,
                           FindCorpusToUse(request.target.corpus, &use));
  LECTERN_ASSIGN_OR_RETURN(Admission admission, AdmitQuestion(corpus, request.target));
  auto ticket = answers_->Retrieve(
      admission.tenant, corpus, request,
      [this, corpus_uid = corpus.uid, use = std::move(use), permit = std::move(admission.permit),
       done = std::move(done)](absl::StatusOr<Retrieval> retrieval) mutable {
        if (absl::IsDataLoss(retrieval.status())) care_->Suspect(corpus_uid);
        use.reset();
        permit.reset();
        done(std::move(retrieval));
      });
  if (!ticket.ok()) return WithReason(ticket.status());
  return ticket;
}

absl::StatusOr<TokenCount> LocalEngine::CountTextTokens(std::string_view text) {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<TokenId> ids, model_->tokenizer().EncodeIds(text));
  return TokenCount{.tokens = static_cast<int64_t>(ids.size()),
                    .limit_tokens = model_->layout().limits().max_context_tokens()};
}

absl::StatusOr<TokenCount> LocalEngine::CountQuestionTokens(std::string_view question) {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<TokenId> ids, model_->layout().Question(question));
  return TokenCount{.tokens = static_cast<int64_t>(ids.size()),
                    .limit_tokens = model_->layout().limits().max_question_tokens};
}

absl::StatusOr<Backup> LocalEngine::CreateBackup(std::string_view id) {
  return backups_->Create(id);
}

absl::StatusOr<Backup> LocalEngine::GetBackup(std::string_view id) { return backups_->Get(id); }

absl::StatusOr<Page<Backup>> LocalEngine::ListBackups(const PageRequest& page) {
  return backups_->List(page);
}

absl::StatusOr<Backup> LocalEngine::CancelBackup(std::string_view id) {
  return backups_->Cancel(id);
}

ModelInfo LocalEngine::GetModel() {
  const ModelConfig& config = model_->config();
  const storage::Geometry& geometry = memory_->shape().geometry();
  const DeviceUse use = model_->decoder().device_use().value_or(DeviceUse{});
  return {.display_name = model_->name(),
          .fingerprint = ToHex(model_->fingerprint()),
          .backend = model_->provenance(),
          .attention = model_->dense() ? "dense" : "sparse",
          .prompt_layout = std::string(kPromptLayoutName),
          .context_limit_tokens = model_->layout().limits().max_context_tokens(),
          .contexts_limit = kMaxContexts,
          .question_limit_tokens = model_->layout().limits().max_question_tokens,
          .answer_limit_tokens = kMaxAnswerTokens,
          .document_limit_bytes = options_.document_limit_bytes,
          .layers = config.num_layers,
          .query_heads = config.num_heads,
          .kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .index_dim = geometry.index_dim,
          .block_tokens = static_cast<int>(kBlockTokens),
          .selected_blocks = model_->dense() ? 0 : config.sparse.topk_blocks,
          .parameters = model_->parameters(),
          .kv_bytes_per_token = static_cast<int64_t>(geometry.layers * geometry.KvBytes(1)),
          .index_bytes_per_token =
              static_cast<int64_t>(geometry.IndexedLayers() * geometry.IndexBytes(1)),
          .device = use.name,
          .device_memory_bytes = use.memory_bytes,
          .device_context_tokens = use.context_tokens,
          .device_note = model_->fallback()};
}

absl::StatusOr<Stats> LocalEngine::GetStats() {
  absl::StatusOr<storage::Stats> stored = store_->GetStats();
  if (!stored.ok()) return WithReason(stored.status());
  const storage::BlockCounters blocks = store_->blocks().Counters();
  const BlockPool::Usage pool = memory_->kv_pool().GetUsage();
  const BlockPool::Usage index = memory_->index_pool().GetUsage();
  const DiskRoom::Evictions evictions = room_->evictions();
  const DeviceUse device = model_->decoder().device_use().value_or(DeviceUse{});
  const StoreCare::Counters care = care_->counters();
  return Stats{
      .queued_requests = scheduler_->queued(),
      .running_requests = scheduler_->running(),
      .open_contexts = counters_.open_contexts.load(),
      .prefill_tokens = counters_.prefill_tokens.load(),
      .corpus_prefill_tokens = counters_.corpus_prefill_tokens.load(),
      .cached_tokens = counters_.cached_tokens.load(),
      .generated_tokens = counters_.generated_tokens.load(),
      .drafted_tokens = counters_.drafted_tokens.load(),
      .accepted_tokens = counters_.accepted_tokens.load(),
      .pool_blocks = pool.capacity_slots,
      .pool_blocks_used = pool.used_slots,
      .pool_hits = pool.hits,
      .pool_misses = pool.misses,
      .block_lookups = static_cast<int64_t>(blocks.hash_lookups),
      .block_hits = static_cast<int64_t>(blocks.hash_hits),
      .disk_read_bytes = static_cast<int64_t>(blocks.kv_bytes_read + blocks.index_bytes_read),
      .disk_written_bytes =
          static_cast<int64_t>(blocks.kv_bytes_written + blocks.index_bytes_written),
      .disk_used_bytes = static_cast<int64_t>(stored->disk.total()),
      .memory_index_bytes = index.used_slots * memory_->shape().index_slot_bytes(),
      .corpora = static_cast<int64_t>(stored->corpora),
      .documents = documents_.load(),
      .sessions = sessions_.load(),
      .disk_cap_bytes = room_->cap_bytes(),
      .disk_reserved_bytes = room_->promised_bytes(),
      .disk_bytes = DiskBytesByKind(stored->disk),
      .evictions = {{"superseded", evictions.superseded},
                    {"least_recently_used", evictions.least_recently_used}},
      .verified_bytes = care.bytes,
      .verify_walks = care.walks,
      .damages = care.damages,
      .quarantined_generations = care.quarantined,
      .repair_rebuilds = care.rebuilds,
      .read_retries = static_cast<int64_t>(blocks.read_retries),
      .slow_reads = static_cast<int64_t>(blocks.slow_reads),
      .timed_out_reads = static_cast<int64_t>(stored->background.timed_out_reads),
      .write_outages = static_cast<int64_t>(stored->background.outages),
      .write_recoveries = static_cast<int64_t>(stored->background.recoveries),
      .recomputed = care.recomputed,
      .prefill_tokens_per_second = counters_.prefill_rate.tokens_per_second(),
      .pending_tokens = counters_.pending_tokens.load(),
      .displaced_requests = scheduler_->displaced(),
      .pool_limit_bytes = options_.pool_bytes,
      .index_limit_bytes = options_.index_bytes,
      .queue_limit = options_.queue_limit,
      .batch_limit = options_.batch_limit,
      .device_pages = device.kv_pages,
      .device_pages_used = device.kv_pages_used,
      .device_page_hits = device.page_hits,
      .device_page_misses = device.page_misses,
      .device_replayed_steps = device.replayed_steps,
      .device_launched_steps = device.launched_steps,
      .request_memory_bytes = request_memory_->held_bytes(),
      .request_memory_limit_bytes = request_memory_->limit_bytes()};
}

}  // namespace lectern::engine
