// An engine whose answers a test writes down: for what services do around an engine, not for what
// an engine does.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace lectern::testing {

class ScriptedEngine final : public engine::Engine {
 public:
  // Questions that Ask has accepted, in order. A test answers them through the sink; a question
  // whose caller cancels ends with CANCELLED.
  struct Question {
    engine::AskRequest request;
    engine::AnswerSink sink;
    std::atomic<bool> cancelled = false;
    std::atomic<bool> done = false;
    void Finish(absl::StatusOr<engine::Answer> answer) {
      if (!done.exchange(true)) sink.done(std::move(answer));
    }
  };
  // Waits for the nth question.
  std::shared_ptr<Question> WaitForQuestion(size_t n);
  // Waits for `predicate`, which is evaluated under the engine's lock whenever something happens.
  void WaitUntil(const std::function<bool()>& predicate);

  // What the next calls return.
  absl::Status corpus_error;
  absl::Status ask_error;
  absl::Status append_error;
  std::function<void()> on_get_corpus;

  // What has happened.
  std::map<std::string, std::string> documents;
  int uploads_begun = 0;
  int uploads_dropped = 0;
  int watches = 0;
  std::map<std::string, std::function<void(engine::Operation)>> watchers;

  void Drain(int64_t grace_us) override;
  absl::StatusOr<engine::Tenant> CreateTenant(std::string_view id, std::string_view display_name,
                                              const engine::TenantQuota& quota) override;
  absl::StatusOr<engine::Tenant> GetTenant(std::string_view id) override;
  absl::StatusOr<engine::Page<engine::Tenant>> ListTenants(
      const engine::PageRequest& page) override;
  absl::StatusOr<engine::Tenant> UpdateTenant(std::string_view id,
                                              const engine::TenantUpdate& update) override;
  absl::Status DeleteTenant(std::string_view id, bool force) override;
  absl::StatusOr<engine::Corpus> CreateCorpus(const engine::CorpusName& name,
                                              std::string_view display_name,
                                              int64_t expire_time_us) override;
  absl::StatusOr<engine::Corpus> GetCorpus(const engine::CorpusName& name) override;
  absl::StatusOr<engine::Page<engine::Corpus>> ListCorpora(
      std::string_view tenant, const engine::PageRequest& page) override;
  absl::StatusOr<engine::Corpus> UpdateCorpus(const engine::CorpusName& name,
                                              const engine::CorpusUpdate& update) override;
  absl::Status DeleteCorpus(const engine::CorpusName& name) override;
  absl::StatusOr<std::unique_ptr<engine::DocumentUpload>> BeginUpload(
      const engine::UploadHeader& header) override;
  absl::StatusOr<engine::Document> GetDocument(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Page<engine::Document>> ListDocuments(
      const engine::CorpusName& name, const engine::PageRequest& page) override;
  absl::Status DeleteDocument(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Operation> IngestCorpus(const engine::CorpusName& name,
                                                 bool validate_only) override;
  absl::StatusOr<engine::Operation> RebuildCorpus(const engine::CorpusName& name,
                                                  std::string_view generation) override;
  absl::StatusOr<engine::Generation> GetGeneration(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Page<engine::Generation>> ListGenerations(
      const engine::CorpusName& name, const engine::PageRequest& page) override;
  absl::StatusOr<engine::Operation> GetOperation(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Page<engine::Operation>> ListOperations(
      const engine::CorpusName& name, const engine::PageRequest& page) override;
  absl::StatusOr<std::unique_ptr<engine::Ticket>> WatchOperation(
      const engine::ResourceName& name, std::function<void(engine::Operation)> done) override;
  absl::StatusOr<engine::Operation> CancelOperation(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Session> CreateSession(const engine::ResourceName& name,
                                                std::string_view generation, int64_t expire_time_us,
                                                std::optional<int> context) override;
  absl::StatusOr<engine::Session> GetSession(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Page<engine::Session>> ListSessions(
      const engine::CorpusName& name, const engine::PageRequest& page) override;
  absl::StatusOr<engine::Session> ForkSession(const engine::ResourceName& name,
                                              std::optional<int> turn,
                                              std::string_view new_session_id) override;
  absl::Status DeleteSession(const engine::ResourceName& name) override;
  absl::StatusOr<engine::Page<engine::Turn>> ListTurns(const engine::ResourceName& name,
                                                       const engine::PageRequest& page) override;
  absl::StatusOr<std::unique_ptr<engine::Ticket>> Ask(const engine::AskRequest& request,
                                                      engine::AnswerSink sink) override;
  absl::StatusOr<std::unique_ptr<engine::Ticket>> Retrieve(
      const engine::RetrieveRequest& request,
      std::function<void(absl::StatusOr<engine::Retrieval>)> done) override;
  absl::StatusOr<engine::TokenCount> CountTextTokens(std::string_view text) override;
  absl::StatusOr<engine::TokenCount> CountQuestionTokens(std::string_view question) override;
  absl::StatusOr<engine::Backup> CreateBackup(std::string_view id) override;
  absl::StatusOr<engine::Backup> GetBackup(std::string_view id) override;
  absl::StatusOr<engine::Page<engine::Backup>> ListBackups(
      const engine::PageRequest& page) override;
  absl::StatusOr<engine::Backup> CancelBackup(std::string_view id) override;
  absl::StatusOr<std::unique_ptr<engine::CorpusExport>> ExportCorpus(
      const engine::CorpusName& name, const engine::CorpusOrigin& origin,
      const engine::CorpusParts& have, const engine::TransferRound& round) override;
  absl::StatusOr<std::unique_ptr<engine::CorpusImport>> ImportCorpus(
      const engine::CorpusName& name, const engine::CorpusOrigin& origin) override;
  absl::StatusOr<std::vector<engine::ImportedCorpus>> Imports() override;
  absl::Status FinishImport(uint64_t uid) override;
  absl::Status AbandonImport(uint64_t uid) override;
  engine::ModelInfo GetModel() override;
  absl::StatusOr<engine::Stats> GetStats() override;

 private:
  friend class ScriptedUpload;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Question>> questions_;
};

}  // namespace lectern::testing
