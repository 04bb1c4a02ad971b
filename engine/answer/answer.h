// The life of a question before and after the model: who is asked, whether it may be asked now, and
// in which session. The middle is question_run.h. All public methods may be called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/answer/question_run.h"
#include "engine/engine.h"
#include "engine/room/disk_room.h"
#include "engine/schedule/scheduler.h"
#include "storage/store.h"

namespace lectern::engine {

// Limits of the API (proto/lectern/v1/answers.proto).
inline constexpr int32_t kDefaultAnswerTokens = 256;
inline constexpr int32_t kMaxAnswerTokens = 4096;
inline constexpr int32_t kDefaultEvidence = 5;
inline constexpr int32_t kDefaultRetrieved = 10;
inline constexpr int32_t kMaxEvidence = 64;
inline constexpr int32_t kMaxAnswers = 8;  // to one question, from as many contexts

class Answers {
 public:
  struct Surroundings {
    storage::Store* store = nullptr;
    ServingModel* model = nullptr;
    KvMemory* memory = nullptr;
    Scheduler* scheduler = nullptr;
    Counters* counters = nullptr;
    DiskRoom* room = nullptr;
    double adaptive_coverage = 0;  // of questions that do not say
    bool drafts = true;
    std::function<int64_t()> clock_us;
  };

  explicit Answers(const Surroundings& surroundings) : around_(surroundings) {}

  // `corpus` is the target's, `tenant` the corpus's, already looked up. Errors beside the
  // scheduler's: QUESTION_EMPTY, QUESTION_TOO_LONG, ARGUMENT_OUT_OF_RANGE, CORPUS_NOT_INGESTED,
  // MODEL_MISMATCH, SESSION_BUSY (ABORTED), SESSION_FULL, GENERATION_NOT_FOUND, SESSION_NOT_FOUND,
  // CACHE_EVICTED (FAILED_PRECONDITION; generation); of a session's question, whose turn is going
  // to be stored, also those of DiskRoom::Reserve. The caller holds a use of the corpus
  // (CorpusUses) from before the call until the answer's end.
  absl::StatusOr<std::unique_ptr<Ticket>> Ask(const storage::Tenant& tenant,
                                              const storage::Corpus& corpus,
                                              const AskRequest& request, AnswerSink sink);
  absl::StatusOr<std::unique_ptr<Ticket>> Retrieve(
      const storage::Tenant& tenant, const storage::Corpus& corpus, const RetrieveRequest& request,
      std::function<void(absl::StatusOr<Retrieval>)> done);

 private:
  // Marks a session as busy for as long as it lives or until Release.
  class SessionLock {
   public:
    SessionLock(Answers* answers, uint64_t uid) : answers_(answers), uid_(uid) {}
    ~SessionLock() { Release(); }
    SessionLock(const SessionLock&) = delete;
    SessionLock& operator=(const SessionLock&) = delete;
    void Release();

   private:
    Answers* const answers_;
    uint64_t uid_;
  };

  // The coverage below which a question widens its selection.
  absl::StatusOr<float> WidenBelow(std::optional<double> adaptive_coverage) const;
  absl::StatusOr<Question> Resolve(const storage::Tenant& tenant, const storage::Corpus& corpus,
                                   const Target& target, const std::string& text);
  absl::StatusOr<std::shared_ptr<SessionLock>> LockSession(const storage::Corpus& corpus,
                                                           const std::string& session_id);
  // `retrieved` is called instead of the sink where several contexts are to be retrieved from.
  absl::StatusOr<std::unique_ptr<Ticket>> Submit(
      Question question, int32_t answers, AnswerSink sink,
      std::function<void(absl::StatusOr<Retrieval>)> retrieved,
      std::shared_ptr<SessionLock> session_lock);

  const Surroundings around_;
  std::mutex mutex_;
  std::set<uint64_t> busy_sessions_;
};

}  // namespace lectern::engine
