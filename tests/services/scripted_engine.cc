#include "tests/services/scripted_engine.h"

#include <utility>

namespace lectern::testing {

using engine::CorpusName;
using engine::PageRequest;
using engine::ResourceName;

namespace {

absl::Status NotScripted() { return absl::UnimplementedError("not in this test's script"); }

class QuestionTicket final : public engine::Ticket {
 public:
  explicit QuestionTicket(std::shared_ptr<ScriptedEngine::Question> question)
      : question_(std::move(question)) {}
  void Cancel() override {
    question_->cancelled = true;
    question_->Finish(absl::CancelledError("cancelled"));
  }

 private:
  const std::shared_ptr<ScriptedEngine::Question> question_;
};

class NoTicket final : public engine::Ticket {
 public:
  void Cancel() override {}
};

}  // namespace

class ScriptedUpload final : public engine::DocumentUpload {
 public:
  ScriptedUpload(ScriptedEngine& engine, engine::UploadHeader header)
      : engine_(engine), header_(std::move(header)) {}
  ~ScriptedUpload() override {
    const std::lock_guard lock(engine_.mutex_);
    if (!finished_) ++engine_.uploads_dropped;
    engine_.changed_.notify_all();
  }
  absl::Status Append(std::string_view bytes) override {
    bytes_ += bytes;
    return engine_.append_error;
  }
  absl::StatusOr<engine::Document> Finish() override {
    finished_ = true;
    const std::lock_guard lock(engine_.mutex_);
    engine_.documents[header_.document_id] = bytes_;
    engine_.changed_.notify_all();
    engine::Document document;
    document.name = {header_.corpus, header_.document_id};
    document.size_bytes = static_cast<int64_t>(bytes_.size());
    return document;
  }

 private:
  ScriptedEngine& engine_;
  const engine::UploadHeader header_;
  std::string bytes_;
  bool finished_ = false;
};

std::shared_ptr<ScriptedEngine::Question> ScriptedEngine::WaitForQuestion(size_t n) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return questions_.size() > n; });
  return questions_[n];
}

void ScriptedEngine::WaitUntil(const std::function<bool()>& predicate) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, predicate);
}

void ScriptedEngine::Drain(int64_t) {
  std::vector<std::shared_ptr<Question>> questions;
  {
    const std::lock_guard lock(mutex_);
    questions = questions_;
  }
  for (const auto& question : questions) question->Finish(absl::CancelledError("draining"));
}

absl::StatusOr<engine::Tenant> ScriptedEngine::CreateTenant(std::string_view id,
                                                            std::string_view display_name,
                                                            const engine::TenantQuota& quota) {
  return engine::Tenant{
      .id = std::string(id), .display_name = std::string(display_name), .quota = quota};
}

absl::StatusOr<engine::Tenant> ScriptedEngine::GetTenant(std::string_view id) {
  return engine::Tenant{.id = std::string(id)};
}

absl::StatusOr<engine::Corpus> ScriptedEngine::CreateCorpus(const CorpusName& name,
                                                            std::string_view, int64_t) {
  return engine::Corpus{.name = name};
}

absl::StatusOr<engine::Corpus> ScriptedEngine::GetCorpus(const CorpusName& name) {
  if (on_get_corpus) on_get_corpus();
  if (!corpus_error.ok()) return corpus_error;
  return engine::Corpus{.name = name, .create_time_us = 1'500'000, .current_generation = "g1"};
}

absl::StatusOr<std::unique_ptr<engine::DocumentUpload>> ScriptedEngine::BeginUpload(
    const engine::UploadHeader& header) {
  if (!corpus_error.ok()) return corpus_error;
  const std::lock_guard lock(mutex_);
  ++uploads_begun;
  changed_.notify_all();
  return std::make_unique<ScriptedUpload>(*this, header);
}

absl::StatusOr<engine::Operation> ScriptedEngine::GetOperation(const ResourceName& name) {
  return engine::Operation{
      .name = name, .phase = engine::IngestPhase::kPrefilling, .tokens_done = 7};
}

absl::StatusOr<std::unique_ptr<engine::Ticket>> ScriptedEngine::WatchOperation(
    const ResourceName& name, std::function<void(engine::Operation)> done) {
  const std::lock_guard lock(mutex_);
  ++watches;
  watchers[name.id] = std::move(done);
  changed_.notify_all();
  return std::make_unique<NoTicket>();
}

absl::StatusOr<std::unique_ptr<engine::Ticket>> ScriptedEngine::Ask(
    const engine::AskRequest& request, engine::AnswerSink sink) {
  if (!ask_error.ok()) return ask_error;
  auto question = std::make_shared<Question>();
  question->request = request;
  question->sink = std::move(sink);
  const std::lock_guard lock(mutex_);
  questions_.push_back(question);
  changed_.notify_all();
  return std::make_unique<QuestionTicket>(question);
}

engine::ModelInfo ScriptedEngine::GetModel() { return {.display_name = "scripted"}; }
absl::StatusOr<engine::Stats> ScriptedEngine::GetStats() {
  return engine::Stats{.generated_tokens = 12,
                       .drafted_tokens = 9,
                       .accepted_tokens = 7,
                       .pool_blocks = 10,
                       .pool_blocks_used = 4};
}

// What no test here scripts.
absl::StatusOr<engine::Backup> ScriptedEngine::CreateBackup(std::string_view) {
  return NotScripted();
}
absl::StatusOr<engine::Backup> ScriptedEngine::GetBackup(std::string_view) { return NotScripted(); }
absl::StatusOr<engine::Page<engine::Backup>> ScriptedEngine::ListBackups(const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Backup> ScriptedEngine::CancelBackup(std::string_view) {
  return NotScripted();
}
absl::StatusOr<engine::Page<engine::Tenant>> ScriptedEngine::ListTenants(const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Tenant> ScriptedEngine::UpdateTenant(std::string_view,
                                                            const engine::TenantUpdate&) {
  return NotScripted();
}
absl::Status ScriptedEngine::DeleteTenant(std::string_view, bool) { return NotScripted(); }
absl::StatusOr<engine::Page<engine::Corpus>> ScriptedEngine::ListCorpora(std::string_view,
                                                                         const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Corpus> ScriptedEngine::UpdateCorpus(const CorpusName&,
                                                            const engine::CorpusUpdate&) {
  return NotScripted();
}
absl::Status ScriptedEngine::DeleteCorpus(const CorpusName&) { return NotScripted(); }
absl::StatusOr<engine::Document> ScriptedEngine::GetDocument(const ResourceName&) {
  return NotScripted();
}
absl::StatusOr<engine::Page<engine::Document>> ScriptedEngine::ListDocuments(const CorpusName&,
                                                                             const PageRequest&) {
  return NotScripted();
}
absl::Status ScriptedEngine::DeleteDocument(const ResourceName&) { return NotScripted(); }
absl::StatusOr<engine::Operation> ScriptedEngine::IngestCorpus(const CorpusName&, bool) {
  return NotScripted();
}
absl::StatusOr<engine::Operation> ScriptedEngine::RebuildCorpus(const CorpusName&,
                                                                std::string_view) {
  return NotScripted();
}
absl::StatusOr<engine::Generation> ScriptedEngine::GetGeneration(const ResourceName&) {
  return NotScripted();
}
absl::StatusOr<engine::Page<engine::Generation>> ScriptedEngine::ListGenerations(
    const CorpusName&, const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Page<engine::Operation>> ScriptedEngine::ListOperations(const CorpusName&,
                                                                               const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Operation> ScriptedEngine::CancelOperation(const ResourceName&) {
  return NotScripted();
}
absl::StatusOr<engine::Session> ScriptedEngine::CreateSession(const ResourceName&, std::string_view,
                                                              int64_t, std::optional<int>) {
  return NotScripted();
}
absl::StatusOr<engine::Session> ScriptedEngine::GetSession(const ResourceName&) {
  return NotScripted();
}
absl::StatusOr<engine::Page<engine::Session>> ScriptedEngine::ListSessions(const CorpusName&,
                                                                           const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<engine::Session> ScriptedEngine::ForkSession(const ResourceName&, std::optional<int>,
                                                            std::string_view) {
  return NotScripted();
}
absl::Status ScriptedEngine::DeleteSession(const ResourceName&) { return NotScripted(); }
absl::StatusOr<engine::Page<engine::Turn>> ScriptedEngine::ListTurns(const ResourceName&,
                                                                     const PageRequest&) {
  return NotScripted();
}
absl::StatusOr<std::unique_ptr<engine::Ticket>> ScriptedEngine::Retrieve(
    const engine::RetrieveRequest&, std::function<void(absl::StatusOr<engine::Retrieval>)>) {
  return NotScripted();
}
absl::StatusOr<engine::TokenCount> ScriptedEngine::CountTextTokens(std::string_view) {
  return NotScripted();
}
absl::StatusOr<engine::TokenCount> ScriptedEngine::CountQuestionTokens(std::string_view) {
  return NotScripted();
}

absl::StatusOr<std::unique_ptr<engine::CorpusExport>> ScriptedEngine::ExportCorpus(
    const CorpusName&, const engine::CorpusOrigin&, const engine::CorpusParts&,
    const engine::TransferRound&) {
  return NotScripted();
}
absl::StatusOr<std::unique_ptr<engine::CorpusImport>> ScriptedEngine::ImportCorpus(
    const CorpusName&, const engine::CorpusOrigin&) {
  return NotScripted();
}
absl::StatusOr<std::vector<engine::ImportedCorpus>> ScriptedEngine::Imports() {
  return std::vector<engine::ImportedCorpus>();
}
absl::Status ScriptedEngine::FinishImport(uint64_t) { return NotScripted(); }
absl::Status ScriptedEngine::AbandonImport(uint64_t) { return NotScripted(); }

}  // namespace lectern::testing
