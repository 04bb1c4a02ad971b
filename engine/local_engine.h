// The Engine of one process: one store, one model, one step thread. The rooms do the work; this
// class wires them together and answers what needs no model (corpora, documents, sessions) from the
// catalog.
//
// Split over files by what a caller asks for: local_engine.cc (life of the engine, questions),
// local_engine_tenants.cc (tenants, what their quotas let in), local_engine_corpora.cc (corpora,
// documents, ingests), local_engine_sessions.cc, local_engine_transfer.cc (to and from other
// engines).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "engine/answer/answer.h"
#include "engine/backup/store_backups.h"
#include "engine/care/read_watch.h"
#include "engine/care/store_care.h"
#include "engine/engine.h"
#include "engine/ingest/ingest.h"
#include "engine/kv/kv_memory.h"
#include "engine/model/serving_model.h"
#include "engine/room/corpus_uses.h"
#include "engine/room/disk_room.h"
#include "engine/room/request_memory.h"
#include "engine/schedule/counters.h"
#include "engine/schedule/scheduler.h"
#include "storage/store.h"

namespace lectern::engine {

class LocalEngine final : public Engine {
 public:
  // `open_device` opens the GPU if the options want one; empty: the one of engine/cuda.
  static absl::StatusOr<std::unique_ptr<LocalEngine>> Open(const EngineOptions& options,
                                                           DeviceOpener open_device = {});
  ~LocalEngine() override;

  void Drain(int64_t grace_us) override;

  absl::StatusOr<Tenant> CreateTenant(std::string_view id, std::string_view display_name,
                                      const TenantQuota& quota) override;
  absl::StatusOr<Tenant> GetTenant(std::string_view id) override;
  absl::StatusOr<Page<Tenant>> ListTenants(const PageRequest& page) override;
  absl::StatusOr<Tenant> UpdateTenant(std::string_view id, const TenantUpdate& update) override;
  absl::Status DeleteTenant(std::string_view id, bool force) override;

  absl::StatusOr<Corpus> CreateCorpus(const CorpusName& name, std::string_view display_name,
                                      int64_t expire_time_us) override;
  absl::StatusOr<Corpus> GetCorpus(const CorpusName& name) override;
  absl::StatusOr<Page<Corpus>> ListCorpora(std::string_view tenant,
                                           const PageRequest& page) override;
  absl::StatusOr<Corpus> UpdateCorpus(const CorpusName& name, const CorpusUpdate& update) override;
  absl::Status DeleteCorpus(const CorpusName& name) override;

  absl::StatusOr<std::unique_ptr<DocumentUpload>> BeginUpload(const UploadHeader& header) override;
  absl::StatusOr<Document> GetDocument(const ResourceName& name) override;
  absl::StatusOr<Page<Document>> ListDocuments(const CorpusName& name,
                                               const PageRequest& page) override;
  absl::Status DeleteDocument(const ResourceName& name) override;

  absl::StatusOr<Operation> IngestCorpus(const CorpusName& name, bool validate_only) override;
  absl::StatusOr<Operation> RebuildCorpus(const CorpusName& name,
                                          std::string_view generation) override;
  absl::StatusOr<Generation> GetGeneration(const ResourceName& name) override;
  absl::StatusOr<Page<Generation>> ListGenerations(const CorpusName& name,
                                                   const PageRequest& page) override;
  absl::StatusOr<Operation> GetOperation(const ResourceName& name) override;
  absl::StatusOr<Page<Operation>> ListOperations(const CorpusName& name,
                                                 const PageRequest& page) override;
  absl::StatusOr<std::unique_ptr<Ticket>> WatchOperation(
      const ResourceName& name, std::function<void(Operation)> done) override;
  absl::StatusOr<Operation> CancelOperation(const ResourceName& name) override;

  absl::StatusOr<Session> CreateSession(const ResourceName& name, std::string_view generation,
                                        int64_t expire_time_us,
                                        std::optional<int> context) override;
  absl::StatusOr<Session> GetSession(const ResourceName& name) override;
  absl::StatusOr<Page<Session>> ListSessions(const CorpusName& name,
                                             const PageRequest& page) override;
  absl::StatusOr<Session> ForkSession(const ResourceName& name, std::optional<int> turn,
                                      std::string_view new_session_id) override;
  absl::Status DeleteSession(const ResourceName& name) override;
  absl::StatusOr<Page<Turn>> ListTurns(const ResourceName& name, const PageRequest& page) override;

  absl::StatusOr<std::unique_ptr<Ticket>> Ask(const AskRequest& request, AnswerSink sink) override;
  absl::StatusOr<std::unique_ptr<Ticket>> Retrieve(
      const RetrieveRequest& request, std::function<void(absl::StatusOr<Retrieval>)> done) override;
  absl::StatusOr<TokenCount> CountTextTokens(std::string_view text) override;
  absl::StatusOr<TokenCount> CountQuestionTokens(std::string_view question) override;

  absl::StatusOr<Backup> CreateBackup(std::string_view id) override;
  absl::StatusOr<Backup> GetBackup(std::string_view id) override;
  absl::StatusOr<Page<Backup>> ListBackups(const PageRequest& page) override;
  absl::StatusOr<Backup> CancelBackup(std::string_view id) override;

  absl::StatusOr<std::unique_ptr<CorpusExport>> ExportCorpus(const CorpusName& name,
                                                             const CorpusOrigin& origin,
                                                             const CorpusParts& have,
                                                             const TransferRound& round) override;
  absl::StatusOr<std::unique_ptr<CorpusImport>> ImportCorpus(const CorpusName& name,
                                                             const CorpusOrigin& origin) override;
  absl::StatusOr<std::vector<ImportedCorpus>> Imports() override;
  absl::Status FinishImport(uint64_t uid) override;
  absl::Status AbandonImport(uint64_t uid) override;

  ModelInfo GetModel() override;
  absl::StatusOr<Stats> GetStats() override;

 private:
  explicit LocalEngine(const EngineOptions& options) : options_(options) {}

  // The records behind names; NOT_FOUND (TENANT_, CORPUS_, SESSION_NOT_FOUND), also for what has
  // expired but is not yet deleted.
  absl::StatusOr<storage::Tenant> FindTenant(std::string_view id);
  absl::StatusOr<storage::Corpus> FindCorpus(const CorpusName& name);
  // The corpus, in use from before it was read: what it names as current stays while `use` lives.
  absl::StatusOr<storage::Corpus> FindCorpusToUse(const CorpusName& name, CorpusUses::Use* use);
  absl::StatusOr<storage::Generation> FindGeneration(const storage::Corpus& corpus,
                                                     std::string_view id);
  absl::StatusOr<storage::Session> FindSession(const storage::Corpus& corpus, std::string_view id);
  absl::StatusOr<storage::Operation> FindOperation(const ResourceName& name);

  // What a question's tenant must have left: tokens, a place, and room for the turn of a session.
  // The permit is held until the question has ended.
  struct Admission {
    storage::Tenant tenant;
    TenantMeters::Permit permit;
  };
  absl::StatusOr<Admission> AdmitQuestion(const storage::Corpus& corpus, const Target& target);

  // What eviction will do, once for any number of corpora that are shown.
  struct CacheView {
    std::map<uint64_t, int64_t> corpus_bytes;
    std::map<uint64_t, int64_t> generation_bytes;
    std::map<uint64_t, int32_t> ranks;  // by corpus, among its tenant's
  };
  absl::StatusOr<std::shared_ptr<const CacheView>> ViewCaches();
  // What a call has just changed shows in the next view.
  void ForgetCacheView();
  absl::StatusOr<Corpus> Present(const storage::Corpus& corpus, const std::string& tenant,
                                 const CacheView& view);
  absl::StatusOr<Corpus> Present(const storage::Corpus& corpus, const std::string& tenant);
  absl::StatusOr<Operation> Present(const storage::Operation& operation, const CorpusName& corpus);
  absl::StatusOr<Generation> Present(const storage::Generation& generation,
                                     const CorpusName& corpus, const CacheView& view);
  absl::StatusOr<Session> Present(const storage::Session& session, const CorpusName& corpus);

  // Deletes what has expired and gives back the bytes of what was deleted.
  void Maintain();
  void DeleteExpired();
  void WakeMaintenance();
  absl::Status CountAll();

  const EngineOptions options_;
  // In order of construction; destroyed from the bottom up.
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<CorpusUses> uses_;
  std::unique_ptr<DiskRoom> room_;
  std::unique_ptr<RequestMemory> request_memory_;
  std::unique_ptr<ServingModel> model_;
  std::unique_ptr<ReadWatch> reads_;
  std::unique_ptr<KvMemory> memory_;
  Counters counters_;
  int64_t chunk_tokens_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<Answers> answers_;
  std::unique_ptr<Ingest> ingest_;
  std::unique_ptr<StoreCare> care_;
  std::unique_ptr<StoreBackups> backups_;

  std::mutex finishing_uploads_;  // of tenants with a disk quota
  std::atomic<int64_t> documents_{0};
  std::atomic<int64_t> sessions_{0};

  // A view walks all generations. It is shown for ten times as long as it took to make, so that
  // it never takes more than a tenth of the time.
  std::mutex view_mutex_;
  std::shared_ptr<const CacheView> view_;  // guarded by view_mutex_
  int64_t view_until_us_ = 0;              // guarded by view_mutex_

  std::mutex maintenance_mutex_;
  std::condition_variable maintenance_wake_;
  bool maintenance_due_ = true;  // what an earlier process left
  bool stop_ = false;
  std::thread maintenance_;
};

// Unix microseconds.
int64_t NowUs();
// What opening the data directory failed with, as the engine says it.
absl::Status DataDirError(const absl::Status& status);

// engine/document_upload.cc
absl::StatusOr<std::unique_ptr<DocumentUpload>> BeginDocumentUpload(
    storage::Catalog* catalog, const storage::Corpus& corpus, const UploadHeader& header,
    int64_t limit_bytes, DiskRoom* room, std::atomic<int64_t>* documents);
Document PresentDocument(const storage::Document& document, const CorpusName& corpus);

}  // namespace lectern::engine
