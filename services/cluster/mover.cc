#include "services/cluster/mover.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

// At once, in each direction: a move reads and writes as fast as disks and the network go.
constexpr size_t kMovesAtOnce = 2;
constexpr std::chrono::milliseconds kLook{500};
constexpr std::chrono::milliseconds kSettleEvery{2000};
constexpr std::chrono::milliseconds kFirstPause{200};
constexpr std::chrono::milliseconds kLongestPause{5000};
constexpr std::chrono::milliseconds kTellEvery{1000};
// Damage on the way passes; damage at the source does not.
constexpr int64_t kDamagedAttempts = 3;
// A corpus that could not be moved away is tried again after this time, while its group drains.
constexpr std::chrono::microseconds kEmptyAgain = std::chrono::minutes(1);

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

absl::Status Ended() { return absl::AbortedError("the move is not to go on"); }

}  // namespace

void Mover::Start() {
  dispatcher_ = std::thread([this] { Dispatch(); });
}

void Mover::Stop() {
  if (!dispatcher_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [key, job] : jobs_) {
      if (job.pull != nullptr) job.pull->Cancel();
    }
  }
  changed_.notify_all();
  dispatcher_.join();
  for (auto& [key, job] : jobs_) job.thread.join();
  jobs_.clear();
}

Mover::Counts Mover::Count() const {
  return {.done = done_,
          .failed = failed_,
          .cancelled = cancelled_,
          .failed_attempts = failed_attempts_,
          .bytes = bytes_};
}

bool Mover::Pause(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopping_; });
}

void Mover::Dispatch() {
  while (true) {
    const int64_t seen = directory_.revision();
    ReapJobs();
    // Only then what is known of the cluster is new enough to act on.
    if (member_.answering()) {
      SettleImports();
      StartJobs();
      Empty();
    }
    directory_.WaitNewer(seen, std::chrono::steady_clock::now() + kLook);
    if (!Pause(std::chrono::milliseconds(1))) return;
  }
}

bool Mover::Active(const engine::CorpusName& name) const {
  const std::lock_guard lock(mutex_);
  return jobs_.contains(TableKey(name));
}

void Mover::ReapJobs() {
  std::vector<std::thread> over;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = jobs_.begin(); it != jobs_.end();) {
      if (it->second.over) {
        over.push_back(std::move(it->second.thread));
        it = jobs_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (std::thread& thread : over) thread.join();
}

absl::Status Mover::SettleImport(const engine::ImportedCorpus& import) {
  if (!import.published && options_.of_replica(import)) return absl::OkStatus();
  // What is known here may be older than the switch that made the corpus ours.
  const absl::StatusOr<Placement> placed = directory_.Find(import.name);
  if (!placed.ok() && placed.status().code() != absl::StatusCode::kNotFound) {
    return placed.status();
  }
  const bool ours = placed.ok() && placed->group == member_.group().name;
  return import.published && ours ? engine_.FinishImport(import.uid)
                                  : engine_.AbandonImport(import.uid);
}

void Mover::SettleImports() {
  const auto now = std::chrono::steady_clock::now();
  if (now - settled_ < kSettleEvery) return;
  settled_ = now;
  const absl::StatusOr<std::vector<engine::ImportedCorpus>> imports = engine_.Imports();
  if (!imports.ok()) return;
  for (const engine::ImportedCorpus& import : *imports) {
    if (Active(import.name)) continue;
    // One that is not published serves the move that goes on with it.
    const std::optional<MoveRecord> move = directory_.KnownMove(import.name);
    if (!import.published && move && move->state == MoveState::kRunning &&
        move->to == member_.group().name) {
      continue;
    }
    if (const absl::Status settled = SettleImport(import); !settled.ok()) {
      Log(LogLevel::kWarning, "import_not_settled",
          {{"corpus", import.name.corpus}, {"message", Message(settled)}});
    }
  }
}

void Mover::StartJobs() {
  for (const MoveRecord& move : directory_.Moves()) {
    if (move.state != MoveState::kRunning || move.to != member_.group().name) continue;
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= kMovesAtOnce) return;
    const auto [job, inserted] = jobs_.try_emplace(TableKey(move.name));
    if (!inserted) continue;
    job->second.thread = std::thread([this, name = move.name] {
      Move(name);
      const std::lock_guard over(mutex_);
      jobs_.at(TableKey(name)).over = true;
    });
  }
}

void Mover::Empty() {
  const std::string& group = member_.group().name;
  if (!directory_.Draining(group)) return;
  size_t running = 0;
  for (const MoveRecord& move : directory_.Moves()) {
    running += move.from == group && move.state == MoveState::kRunning;
  }
  for (const engine::CorpusName& name : directory_.CorporaOn(group)) {
    if (running >= kMovesAtOnce) return;
    const std::optional<MoveRecord> known = directory_.KnownMove(name);
    if (known && known->state == MoveState::kRunning) continue;
    if (known && known->from == group && NowMicros() - known->end_time_us < kEmptyAgain.count()) {
      continue;
    }
    const absl::StatusOr<MoveRecord> begun = directory_.BeginMove(name, "");
    if (begun.ok()) {
      ++running;
    } else if (begun.status().code() != absl::StatusCode::kNotFound) {
      Log(LogLevel::kWarning, "drain_waits",
          {{"group", group}, {"corpus", name.corpus}, {"message", Message(begun.status())}});
      return;
    }
  }
}

void Mover::SetPull(const engine::CorpusName& name, std::shared_ptr<CorpusPull> pull) {
  const std::lock_guard lock(mutex_);
  if (stopping_ && pull != nullptr) pull->Cancel();
  jobs_.at(TableKey(name)).pull = std::move(pull);
}

void Mover::Move(const engine::CorpusName& name) {
  std::chrono::milliseconds pause = kFirstPause;
  while (true) {
    std::optional<MoveRecord> move = directory_.KnownMove(name);
    if (!move || move->state != MoveState::kRunning || move->to != member_.group().name) return;
    if (!member_.answering()) {
      if (!Pause(kLook)) return;
      continue;
    }
    const absl::Status status = move->cancel ? Ended() : Attempt(*move);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    if (Judge(*move, status) != Outcome::kAgain) return;
    if (!Pause(pause)) return;
    pause = std::min(pause * 2, kLongestPause);
  }
}

Mover::Outcome Mover::Judge(MoveRecord& move, const absl::Status& status) {
  if (status.ok()) return Outcome::kDone;
  const std::optional<Placement> placed = directory_.Known(move.name);
  const std::optional<MoveRecord> now = directory_.KnownMove(move.name);
  if (now && now->create_time_us == move.create_time_us && now->revision > move.revision) {
    move = *now;
  }
  const std::string why = engine::ReasonOf(status);
  if (!placed || placed->deleted || why == "CORPUS_NOT_FOUND" || why == reason::kMoveNotFound) {
    EndMove(move, MoveState::kCancelled,
            engine::Error(absl::StatusCode::kCancelled, "CORPUS_DELETED",
                          "the corpus was deleted while it moved"));
    return Outcome::kEnded;
  }
  if (move.cancel) {
    EndMove(
        move, MoveState::kCancelled,
        engine::Error(absl::StatusCode::kCancelled, reason::kCancelled, "the move was cancelled"));
    return Outcome::kEnded;
  }
  ++failed_attempts_;
  Log(LogLevel::kWarning, "move_attempt_failed",
      {{"tenant", move.name.tenant},
       {"corpus", move.name.corpus},
       {"attempt", move.attempts},
       {"reason", why},
       {"message", Message(status)}});
  const bool damaged = status.code() == absl::StatusCode::kDataLoss;
  const bool passes = status.code() == absl::StatusCode::kUnavailable ||
                      status.code() == absl::StatusCode::kAborted ||
                      status.code() == absl::StatusCode::kCancelled ||
                      status.code() == absl::StatusCode::kDeadlineExceeded ||
                      why == "INGEST_RUNNING" || why == reason::kTenantNotFound ||
                      (damaged && move.attempts < kDamagedAttempts);
  if (!passes) {
    EndMove(move, MoveState::kFailed, status);
    return Outcome::kEnded;
  }
  if (status.code() != absl::StatusCode::kAborted) {
    move.error = status;
    // Only how it looks to others depends on it.
    directory_.UpdateMove(move).IgnoreError();
    directory_.WaitRevision(move.revision, std::chrono::steady_clock::now() + kLook);
  }
  return Outcome::kAgain;
}

void Mover::EndMove(MoveRecord& move, MoveState state, const absl::Status& error) {
  AbandonImports(move.name);
  move.state = state;
  move.error = error;
  const absl::Status written = directory_.UpdateMove(move);
  if (!written.ok()) return;  // found running again, and ended again
  ++(state == MoveState::kFailed ? failed_ : cancelled_);
  directory_.WaitRevision(move.revision, std::chrono::steady_clock::now() + kLook);
  Log(state == MoveState::kFailed ? LogLevel::kError : LogLevel::kInfo, "move_ended",
      {{"tenant", move.name.tenant},
       {"corpus", move.name.corpus},
       {"reason", engine::ReasonOf(error)},
       {"message", Message(error)}});
}

void Mover::AbandonImports(const engine::CorpusName& name) {
  const absl::StatusOr<std::vector<engine::ImportedCorpus>> imports = engine_.Imports();
  if (!imports.ok()) return;  // SettleImports finds them
  for (const engine::ImportedCorpus& import : *imports) {
    if (import.name.tenant == name.tenant && import.name.corpus == name.corpus) {
      SettleImport(import).IgnoreError();
    }
  }
}

absl::Status Mover::Tell(MoveRecord& move, const CorpusPull::Progress& progress,
                         int64_t bytes_before, int64_t records_before) {
  move.bytes_done = bytes_before + progress.bytes;
  move.records_done = records_before + progress.records;
  move.bytes_total = std::max(move.bytes_done, bytes_before + progress.left);
  return directory_.UpdateMove(move);
}

absl::Status Mover::Attempt(MoveRecord& move) {
  const std::string& own = member_.group().name;
  const int64_t registration = member_.registration();
  LECTERN_ASSIGN_OR_RETURN(const Placement placed, directory_.Find(move.name));
  if (placed.group != move.from) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kMoveNeedless,
                         fmt::format("the corpus is on the group {}", placed.group));
  }
  if (const auto replica = directory_.KnownReplica(move.name); replica && replica->group == own) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kReplicaThere,
                         "this group has the corpus's second copy", {{"group", own}});
  }
  for (const auto& [name, revision] : directory_.PurgesOf(own)) {
    if (name.tenant == move.name.tenant && name.corpus == move.name.corpus) {
      return engine::Error(absl::StatusCode::kUnavailable, reason::kClusterContended,
                           "what this group had of the corpus before is not deleted yet");
    }
  }
  std::string address;
  for (const Group& group : directory_.Groups()) {
    if (group.name == move.from) address = group.address;
  }
  if (address.empty()) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kGroupUnreachable,
                         fmt::format("the group {}, which has the corpus, is away", move.from),
                         {{"group", move.from}});
  }
  ++move.attempts;
  LECTERN_RETURN_IF_ERROR(directory_.UpdateMove(move));
  const int64_t bytes_before = move.bytes_done;
  const int64_t records_before = move.records_done;
  auto told = std::chrono::steady_clock::now();
  int64_t counted = 0;
  int64_t records = 0;
  const auto pull = std::make_shared<CorpusPull>(
      engine_, options_.connect(address), [&](const CorpusPull::Progress& progress) {
        bytes_ += progress.bytes - std::exchange(counted, progress.bytes);
        records = progress.records;
        const auto now = std::chrono::steady_clock::now();
        if (now - told < kTellEvery) return absl::OkStatus();
        told = now;
        if (!member_.answering()) return Ended();
        return Tell(move, progress, bytes_before, records_before);
      });
  SetPull(move.name, pull);
  absl::StatusOr<CorpusPull::Pulled> pulled =
      pull->Run({.request_id = MakeRequestId(),
                 .tenant = move.name.tenant,
                 .corpus = move.name.corpus,
                 .epoch = placed.epoch},
                [&](int64_t hold) -> absl::Status {
                  directory_.WaitRevision(hold, std::chrono::steady_clock::now() + kLook);
                  if (directory_.Holds(move.name, hold).value_or(true)) return absl::OkStatus();
                  return engine::Error(absl::StatusCode::kUnavailable, reason::kCorpusChanged,
                                       "the last round took longer than the corpus could be held");
                });
  SetPull(move.name, nullptr);
  LECTERN_RETURN_IF_ERROR(pulled.status());
  move.bytes_done = move.bytes_total = bytes_before + counted;
  move.records_done = records_before + records;
  return Switch(move, placed.epoch, *pulled, registration);
}

absl::Status Mover::Switch(MoveRecord& move, int64_t epoch, const CorpusPull::Pulled& pulled,
                           int64_t registration) {
  absl::StatusOr<bool> ours =
      directory_.SwitchOwner(move, epoch, pulled.hold_revision, registration);
  while (!ours.ok()) {
    // etcd has not said. The copy stays as it is until it does.
    if (!Pause(kFirstPause)) return ours.status();
    ours = directory_.AfterSwitch(move, epoch);
  }
  if (!*ours) {
    LECTERN_RETURN_IF_ERROR(engine_.AbandonImport(pulled.import));
    return engine::Error(absl::StatusCode::kUnavailable, reason::kClusterContended,
                         "the cluster changed while the corpus moved; it moves again");
  }
  directory_.WaitRevision(move.revision, std::chrono::steady_clock::now() + kLook);
  ++done_;
  Log(LogLevel::kInfo, "move_done",
      {{"tenant", move.name.tenant},
       {"corpus", move.name.corpus},
       {"from", move.from},
       {"to", move.to},
       {"bytes", move.bytes_done},
       {"attempts", move.attempts}});
  // Should this fail, it is found again.
  engine_.FinishImport(pulled.import).IgnoreError();
  return absl::OkStatus();
}

}  // namespace lectern::services
