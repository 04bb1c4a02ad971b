// Lectern without sockets: documents in, answers out. The one header that services include (with
// types.h and error/reason.h).
//
// One Engine owns one data directory and one model. Every method may be called from any thread.
// Methods that return a value read or write storage before they return (milliseconds; a sync for
// writes); Ask, Retrieve and IngestCorpus only enqueue, and the engine's own threads do the work.
// The life of a document is told in ingest/ingest.cc, that of a question in answer/answer.cc.
//
// Every error is an absl::Status that carries a reason (error/error.h): NOT_FOUND for names that do
// not exist (another tenant's included), RESOURCE_EXHAUSTED for a full queue or disk, UNAVAILABLE
// once Drain was called, DATA_LOSS for stored bytes that fail their checksum; RESOURCE_EXHAUSTED
// DISK_QUOTA_EXCEEDED, TOKEN_QUOTA_EXCEEDED or REQUEST_QUOTA_EXCEEDED where a tenant's quota ends.
// What a method adds to these is said at the method.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/transfer.h"
#include "engine/types.h"

namespace lectern::engine {

enum class AttentionMode {
  kSparse,  // as the model's configuration says per layer
  kDense,   // the same weights with full attention in every layer; a fingerprint of its own
};

enum class ComputeDevice {
  kCpu,
  kCuda,  // the first GPU; Open fails where there is none, or it does not serve the model
  kAuto,  // the GPU if it can, else the CPU: ModelInfo says which, and why
};

struct EngineOptions {
  std::string data_dir;   // created if absent; empty: everything in memory, gone with the Engine
  std::string model_dir;  // Hugging Face layout
  AttentionMode attention = AttentionMode::kSparse;
  // Bytes for K/V blocks held in memory. At least what one step needs; Open says how much if it is
  // too little.
  int64_t pool_bytes = int64_t{2} << 30;
  // Bytes for index keys of open contexts. A context that does not fit is refused with
  // RESOURCE_EXHAUSTED.
  int64_t index_bytes = int64_t{4} << 30;
  ComputeDevice device = ComputeDevice::kCpu;
  // Bytes of the GPU's memory that weights, cache and a step may take; 0: most of what is free.
  int64_t device_memory_bytes = 0;
  bool device_graphs = true;  // replay decode steps as CUDA graphs instead of call by call
  int threads = 0;            // 0: all cores
  // Of one ingest in one step, when nobody waits for an answer. 0: 1024 on the CPU, 8192 on a GPU.
  int prefill_chunk_tokens = 0;
  // Tokens of a context, at most; what a corpus has beyond goes into further contexts. 0: as many
  // as the model reads, less its reserve for questions and answers.
  int64_t context_tokens = 0;
  int queue_limit = 256;  // questions waiting or running; one more is refused with QUEUE_FULL
  int batch_limit = 32;   // answers decoded in one step
  int64_t document_limit_bytes = int64_t{1} << 30;
  // Bytes that the data directory stays under, logs and headroom for compaction included; 0: no
  // limit. Ingests, uploads and session turns that would exceed it evict caches or are refused with
  // DISK_CAP_EXCEEDED (room/disk_room.h).
  int64_t disk_cap_bytes = 0;
  // How long a read of the disk is waited for; 0: as long as it takes.
  int64_t read_timeout_ms = 30'000;
  // How fast everything stored is read and verified while the engine runs; what fails is taken out
  // of use and rebuilt (care/store_care.h). 0: only what a question stumbled on is.
  int64_t scrub_bytes_per_second = int64_t{16} << 20;
  // Where backups go that are made while the engine runs; empty: none can be made. Made if absent
  // (its parent must exist).
  std::string backup_dir;
  // How fast they are copied; 0: as fast as it goes.
  int64_t backup_bytes_per_second = int64_t{64} << 20;
  // Memory that requests may hold between them besides the pool and the index keys. What needs more
  // waits, or is refused with MEMORY_LIMIT_EXCEEDED.
  int64_t request_bytes = int64_t{4} << 30;
  // For questions that do not say: coverage below which a token's selection in a layer and group
  // widens to twice, then four times the model's blocks; 0: never, 1: always.
  double adaptive_coverage = 0;
  // Guess at the tokens that a greedy answer copies, and compute several in one step
  // (answer/draft.h); answers are the same either way.
  bool drafts = true;
};

// Receives the answers to one question. Called on the engine's step thread, one call at a time, in
// the order started, text*, answered for each but the last of them and then started, text*, done;
// must return soon and must not call back into the engine. `done` is the last call, with the last
// answer or an error.
struct AnswerSink {
  std::function<void(const AnswerStarted&)> started;
  std::function<void(std::string_view text)> text;
  std::function<void(const Answer&)> answered;
  std::function<void(absl::StatusOr<Answer>)> done;
};

// A running question. Cancel may be called any number of times from any thread; `done` then comes
// with CANCELLED within one step, unless the answer was complete already. Destroying the ticket
// does not cancel.
class Ticket {
 public:
  virtual ~Ticket() = default;
  virtual void Cancel() = 0;
};

// An upload in progress; destroying it before Finish leaves nothing stored. Not thread-safe.
class DocumentUpload {
 public:
  virtual ~DocumentUpload() = default;
  // INVALID_ARGUMENT DOCUMENT_TOO_LARGE.
  virtual absl::Status Append(std::string_view bytes) = 0;
  // Checks, syncs and makes the document visible. INVALID_ARGUMENT CHECKSUM_MISMATCH,
  // DOCUMENT_EMPTY, DOCUMENT_BINARY, DOCUMENT_NOT_UTF8; ALREADY_EXISTS DOCUMENT_EXISTS.
  virtual absl::StatusOr<Document> Finish() = 0;
};

class Engine {
 public:
  // Opens the model and the data directory, purges what crashes left, and resumes unfinished
  // ingests.
  //   NOT_FOUND / INVALID_ARGUMENT    MODEL_NOT_FOUND, MODEL_INVALID: names the file, tensor or key
  //   FAILED_PRECONDITION             DATA_DIR_LOCKED, DATA_DIR_FOREIGN, DATA_DIR_FORMAT
  //   INVALID_ARGUMENT                OPTION_INVALID
  //   UNAVAILABLE / UNIMPLEMENTED / RESOURCE_EXHAUSTED  NO_GPU, DEVICE_UNSUPPORTED,
  //     DEVICE_MEMORY_TOO_SMALL: of ComputeDevice::kCuda
  static absl::StatusOr<std::unique_ptr<Engine>> Open(const EngineOptions& options);

  // Drains as Drain(0) does.
  virtual ~Engine() = default;

  // Stops accepting questions and ingests, lets running questions finish for up to `grace_us`, then
  // cancels them. Ingests stop after the step at hand; they resume at the next Open. Idempotent.
  virtual void Drain(int64_t grace_us) = 0;

  // ---- tenants (their meaning: proto/lectern/v1/tenants.proto) ----
  // ALREADY_EXISTS TENANT_EXISTS; INVALID_ARGUMENT QUOTA_INVALID. An empty id is made here.
  virtual absl::StatusOr<Tenant> CreateTenant(std::string_view id, std::string_view display_name,
                                              const TenantQuota& quota) = 0;
  virtual absl::StatusOr<Tenant> GetTenant(std::string_view id) = 0;
  virtual absl::StatusOr<Page<Tenant>> ListTenants(const PageRequest& page) = 0;
  virtual absl::StatusOr<Tenant> UpdateTenant(std::string_view id, const TenantUpdate& update) = 0;
  // FAILED_PRECONDITION TENANT_NOT_EMPTY unless `force`, TENANT_PROTECTED.
  virtual absl::Status DeleteTenant(std::string_view id, bool force) = 0;

  // ---- corpora ----
  virtual absl::StatusOr<Corpus> CreateCorpus(
      const CorpusName& name, std::string_view display_name,
      int64_t expire_time_us) = 0;  // empty corpus id: made here
  virtual absl::StatusOr<Corpus> GetCorpus(const CorpusName& name) = 0;
  virtual absl::StatusOr<Page<Corpus>> ListCorpora(std::string_view tenant,
                                                   const PageRequest& page) = 0;
  virtual absl::StatusOr<Corpus> UpdateCorpus(const CorpusName& name,
                                              const CorpusUpdate& update) = 0;
  virtual absl::Status DeleteCorpus(const CorpusName& name) = 0;

  // ---- documents ----
  virtual absl::StatusOr<std::unique_ptr<DocumentUpload>> BeginUpload(
      const UploadHeader& header) = 0;
  virtual absl::StatusOr<Document> GetDocument(const ResourceName& name) = 0;
  virtual absl::StatusOr<Page<Document>> ListDocuments(const CorpusName& name,
                                                       const PageRequest& page) = 0;
  virtual absl::Status DeleteDocument(const ResourceName& name) = 0;

  // ---- generations and operations ----
  virtual absl::StatusOr<Operation> IngestCorpus(const CorpusName& name, bool validate_only) = 0;
  // Brings back the cache of a generation (id; empty: the current one) from its documents, or makes
  // a new generation of them if the current one is of another model.
  // FAILED_PRECONDITION CORPUS_NOT_INGESTED, INGEST_RUNNING (operation); MODEL_MISMATCH of a
  // generation that is not the current one.
  virtual absl::StatusOr<Operation> RebuildCorpus(const CorpusName& name,
                                                  std::string_view generation) = 0;
  virtual absl::StatusOr<Generation> GetGeneration(const ResourceName& name) = 0;
  virtual absl::StatusOr<Page<Generation>> ListGenerations(const CorpusName& name,
                                                           const PageRequest& page) = 0;
  virtual absl::StatusOr<Operation> GetOperation(const ResourceName& name) = 0;
  virtual absl::StatusOr<Page<Operation>> ListOperations(const CorpusName& name,
                                                         const PageRequest& page) = 0;
  // Calls `done` once the operation has ended, at once if it has; from the thread that ends it. The
  // returned ticket stops the watch (then `done` is not called after Cancel returns).
  virtual absl::StatusOr<std::unique_ptr<Ticket>> WatchOperation(
      const ResourceName& name, std::function<void(Operation)> done) = 0;
  virtual absl::StatusOr<Operation> CancelOperation(const ResourceName& name) = 0;

  // ---- sessions ----
  // Empty id: made here. `context`: of the generation; absent: its only one.
  //   INVALID_ARGUMENT CONTEXT_MISSING (contexts); NOT_FOUND CONTEXT_NOT_FOUND (contexts)
  virtual absl::StatusOr<Session> CreateSession(const ResourceName& name,
                                                std::string_view generation, int64_t expire_time_us,
                                                std::optional<int> context = std::nullopt) = 0;
  virtual absl::StatusOr<Session> GetSession(const ResourceName& name) = 0;
  virtual absl::StatusOr<Page<Session>> ListSessions(const CorpusName& name,
                                                     const PageRequest& page) = 0;
  // `turn`: turns to share; absent: all.
  virtual absl::StatusOr<Session> ForkSession(const ResourceName& name, std::optional<int> turn,
                                              std::string_view new_session_id) = 0;
  virtual absl::Status DeleteSession(const ResourceName& name) = 0;
  virtual absl::StatusOr<Page<Turn>> ListTurns(const ResourceName& name,
                                               const PageRequest& page) = 0;

  // ---- questions ----
  // Returns an error at once for what can be seen at once (names, limits, queue); `sink.done` is
  // then never called. What is asked of a generation of several contexts is read in each of them,
  // and answered from the best ones (answer/corpus_run.h).
  virtual absl::StatusOr<std::unique_ptr<Ticket>> Ask(const AskRequest& request,
                                                      AnswerSink sink) = 0;
  // `done` is called exactly once, from the engine's step thread, unless an error is returned at
  // once.
  virtual absl::StatusOr<std::unique_ptr<Ticket>> Retrieve(
      const RetrieveRequest& request, std::function<void(absl::StatusOr<Retrieval>)> done) = 0;
  virtual absl::StatusOr<TokenCount> CountTextTokens(std::string_view text) = 0;
  virtual absl::StatusOr<TokenCount> CountQuestionTokens(std::string_view question) = 0;

  // ---- backups of everything (backup/store_backups.h) ----
  // FAILED_PRECONDITION BACKUP_DIR_MISSING of each of them without EngineOptions::backup_dir.
  // Begins one and returns; `id` empty: made here. FAILED_PRECONDITION BACKUP_RUNNING;
  // ALREADY_EXISTS BACKUP_EXISTS.
  virtual absl::StatusOr<Backup> CreateBackup(std::string_view id) = 0;
  virtual absl::StatusOr<Backup> GetBackup(std::string_view id) = 0;
  virtual absl::StatusOr<Page<Backup>> ListBackups(const PageRequest& page) = 0;
  // Returns when it has ended.
  virtual absl::StatusOr<Backup> CancelBackup(std::string_view id) = 0;

  // ---- corpora on their way to and from other engines (transfer.h) ----
  // `have` is heeded if it is of `origin`, and that is this corpus. FAILED_PRECONDITION
  // INGEST_RUNNING (operation): it is to be the last round. UNAVAILABLE CORPUS_CHANGED: try again.
  virtual absl::StatusOr<std::unique_ptr<CorpusExport>> ExportCorpus(
      const CorpusName& name, const CorpusOrigin& origin, const CorpusParts& have,
      const TransferRound& round) = 0;
  // Begins, or goes on where an earlier import of that corpus was interrupted. One at a time for a
  // name.
  virtual absl::StatusOr<std::unique_ptr<CorpusImport>> ImportCorpus(
      const CorpusName& name, const CorpusOrigin& origin) = 0;
  virtual absl::StatusOr<std::vector<ImportedCorpus>> Imports() = 0;
  // NOT_FOUND IMPORT_NOT_FOUND of both. A finished one is a corpus like others; an abandoned one is
  // deleted, published or not.
  virtual absl::Status FinishImport(uint64_t uid) = 0;
  virtual absl::Status AbandonImport(uint64_t uid) = 0;

  // ---- the server itself ----
  virtual ModelInfo GetModel() = 0;
  virtual absl::StatusOr<Stats> GetStats() = 0;
};

}  // namespace lectern::engine
