#include "services/cluster/replica_follower.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kTick{100};
// At once, of all replicas.
constexpr int kRoundsAtOnce = 4;
constexpr size_t kRoundsQueued = 1 << 16;
// Of caches in one round: how long a document may have to wait behind them.
constexpr int64_t kCacheRoundBytes = 64 << 20;
// Documents that keep coming let a round of the cache through that often.
constexpr std::chrono::seconds kCacheAtLeastEvery{5};
// While nothing is heard of changes.
constexpr std::chrono::milliseconds kShortestInterval{1000};
constexpr std::chrono::milliseconds kLongestInterval{60'000};
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{5000};
constexpr std::chrono::milliseconds kCatchUp{2000};

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

std::pair<std::string, uint64_t> KeyOf(const engine::CorpusOrigin& origin) {
  return {origin.store_id, origin.corpus_uid};
}

absl::Status NotHere(const engine::CorpusName& name) {
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kNotOwner,
      fmt::format("this group does not have the second copy of the corpus \"{}\"", name.corpus),
      {{"corpus", name.corpus}});
}

}  // namespace

void ReplicaFollower::Start() {
  executor_ = std::make_unique<Executor>(kRoundsAtOnce, kRoundsQueued);
  thread_ = std::thread([this] { Run(); });
}

void ReplicaFollower::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [key, job] : jobs_) {
      if (job.pull != nullptr) job.pull->Cancel();
    }
  }
  changed_.notify_all();
  thread_.join();
  executor_.reset();
  RefuseWaiters();
}

void ReplicaFollower::RefuseWaiters() {
  std::vector<Replication::Done> waiters;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [key, job] : jobs_) {
      std::move(job.waiters.begin(), job.waiters.end(), std::back_inserter(waiters));
      job.waiters.clear();
    }
  }
  for (const Replication::Done& done : waiters) {
    done(engine::Error(absl::StatusCode::kUnavailable, reason::kLeaseExpired,
                       "this group stores nothing at present; try again"));
  }
}

// ---- what is here

absl::Status ReplicaFollower::AgreeOnJoining() {
  LECTERN_ASSIGN_OR_RETURN(const std::vector<engine::ImportedCorpus> imports, engine_.Imports());
  {
    const std::lock_guard lock(mutex_);
    for (const engine::ImportedCorpus& import : imports) {
      if (import.kept && !import.published) kept_[KeyOf(import.origin)] = import.name;
    }
  }
  for (ReplicaRecord& record : directory_.ReplicasOn(member_.group().name)) {
    {
      const std::lock_guard lock(mutex_);
      if (!record.ready || kept_.contains(KeyOf(record.origin))) continue;
    }
    Log(LogLevel::kWarning, "replica_lost",
        {{"tenant", record.name.tenant}, {"corpus", record.name.corpus}});
    record.ready = false;
    LECTERN_RETURN_IF_ERROR(directory_.UpdateReplica(record));
  }
  return absl::OkStatus();
}

bool ReplicaFollower::IsArriving(const engine::CorpusName& name) const {
  const std::optional<Placement> placed = directory_.Known(name);
  if (!placed || placed->origin.store_id.empty() || placed->group != member_.group().name) {
    return false;
  }
  const std::lock_guard lock(mutex_);
  return kept_.contains(KeyOf(placed->origin));
}

bool ReplicaFollower::Needs(const engine::ImportedCorpus& import) const {
  const std::string& own = member_.group().name;
  const std::optional<Placement> placed = directory_.Known(import.name);
  if (placed && !placed->deleted && placed->group == own && placed->origin == import.origin) {
    return true;
  }
  {
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(TableKey(import.name));
    if (job != jobs_.end() && (job->second.running || job->second.pull != nullptr)) return true;
  }
  const std::optional<ReplicaRecord> record = directory_.KnownReplica(import.name);
  return record && record->group == own && (!record->ready || record->origin == import.origin);
}

void ReplicaFollower::Sync(const Caller& caller, int64_t revision, Replication::Done done) {
  const engine::CorpusName name = {caller.tenant, caller.corpus};
  directory_.WaitRevision(std::max(revision, caller.epoch),
                          std::chrono::steady_clock::now() + kCatchUp);
  const std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  if (!record || record->group != member_.group().name) {
    done(NotHere(name));
    return;
  }
  bool stopping = false;
  {
    const std::lock_guard lock(mutex_);
    stopping = stopping_;
    if (!stopping) {
      Job& job = jobs_[TableKey(name)];
      job.name = name;
      job.waiters.push_back(std::move(done));
      job.again = {};
      poked_ = true;
    }
  }
  if (stopping) {
    done(NotHere(name));
    return;
  }
  changed_.notify_all();
}

// ---- what is to be done

void ReplicaFollower::Run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kTick, [this] { return stopping_ || poked_; });
      poked_ = false;
      if (stopping_) return;
    }
    if (!member_.answering()) {
      RefuseWaiters();
      // What is seen of other groups meanwhile may be old.
      const std::lock_guard lock(mutex_);
      away_.clear();
      continue;
    }
    for (auto& [name, task] : Due()) {
      std::vector<Replication::Done> waiters;
      {
        const std::lock_guard lock(mutex_);
        Job& job = jobs_[TableKey(name)];
        job.name = name;
        job.running = true;
        if (task == Task::kDocuments || task == Task::kCache) std::swap(waiters, job.waiters);
      }
      executor_->MustSubmit(
          [this, name = name, task = task, waiters = std::move(waiters)]() mutable {
            Perform(name, task, std::move(waiters));
          });
    }
  }
}

std::vector<std::pair<engine::CorpusName, ReplicaFollower::Task>> ReplicaFollower::Due() {
  const std::string& own = member_.group().name;
  const std::vector<ReplicaRecord> records = directory_.ReplicasOn(own);
  std::vector<std::pair<engine::CorpusName, Task>> due;
  std::vector<Replication::Done> strangers;
  {
    const std::lock_guard lock(mutex_);
    std::set<std::string> followed;
    for (const ReplicaRecord& record : records) {
      const std::string key = TableKey(record.name);
      followed.insert(key);
      Job& job = jobs_[key];
      job.name = record.name;
      if (job.running) continue;
      if (const std::optional<Task> task = DueOf(job, record)) due.emplace_back(record.name, *task);
    }
    for (const auto& [origin, name] : kept_) {
      const std::optional<Placement> placed = directory_.Known(name);
      if (!placed || placed->deleted || placed->group != own || KeyOf(placed->origin) != origin) {
        continue;
      }
      followed.insert(TableKey(name));
      Job& job = jobs_[TableKey(name)];
      if (!job.running && Clock::now() >= job.again) due.emplace_back(name, Task::kPublish);
    }
    for (auto it = jobs_.begin(); it != jobs_.end();) {
      Job& job = it->second;
      if (followed.contains(it->first) || job.running) {
        ++it;
        continue;
      }
      std::move(job.waiters.begin(), job.waiters.end(), std::back_inserter(strangers));
      it = jobs_.erase(it);
    }
  }
  for (const Replication::Done& done : strangers) done(NotHere({}));
  return due;
}

std::optional<ReplicaFollower::Task> ReplicaFollower::DueOf(Job& job, const ReplicaRecord& record) {
  const Clock::time_point now = Clock::now();
  const std::optional<Placement> placed = directory_.Known(job.name);
  if (!placed || placed->deleted || placed->group == record.group) return std::nullopt;
  const int64_t registration = directory_.RegistrationOf(placed->group);
  if (registration == 0) {
    const auto since = away_.try_emplace(placed->group, now).first->second;
    const bool lost = now - since >= options_.failover_after;
    if (lost && record.ready && now >= job.again) return Task::kTakeOver;
    return std::nullopt;
  }
  away_.erase(placed->group);
  if (now < job.again || options_.moves_here(job.name)) return std::nullopt;
  // A new life of the owner may have lost everything, or have what nobody was told of.
  const bool reborn = registration != job.owner_registration;
  const bool cache = now >= job.next_cache || reborn;
  if (!job.waiters.empty() || !record.ready) {
    return cache && record.ready && now - job.last_cache > kCacheAtLeastEvery ? Task::kCache
                                                                              : Task::kDocuments;
  }
  return cache ? std::optional(Task::kCache) : std::nullopt;
}

void ReplicaFollower::Perform(const engine::CorpusName& name, Task task,
                              std::vector<Replication::Done> waiters) {
  absl::Status status;
  switch (task) {
    case Task::kDocuments:
    case Task::kCache:
      status = Round(name, task == Task::kCache);
      if (engine::ReasonOf(status) == reason::kCorpusLost) {
        status = TakeOver(name, /*owner_is_there=*/true);
      }
      break;
    case Task::kTakeOver:
      status = TakeOver(name, /*owner_is_there=*/false);
      break;
    case Task::kPublish:
      status = Publish(name);
      break;
  }
  {
    const std::lock_guard lock(mutex_);
    Job& job = jobs_.at(TableKey(name));
    job.running = false;
    if (status.ok()) {
      job.pause = {};
      // What came with documents may have changed the cache as well.
      if (task == Task::kDocuments) {
        job.whole = false;
        job.interval = {};
        job.next_cache = {};
      }
    } else {
      ++failures_;
      job.pull.reset();
      job.pause = job.pause.count() == 0 ? kFirstPause : std::min(job.pause * 2, kLongestPause);
      // What has changed while it was read is read again at once.
      const bool changed = engine::ReasonOf(status) == reason::kCorpusChanged;
      job.again = Clock::now() + (changed ? kFirstPause : job.pause);
    }
    poked_ = true;
  }
  changed_.notify_all();
  if (!status.ok()) {
    Log(LogLevel::kWarning, "replica_attempt_failed",
        {{"tenant", name.tenant},
         {"corpus", name.corpus},
         {"reason", engine::ReasonOf(status)},
         {"message", Message(status)}});
  }
  for (const Replication::Done& done : waiters) done(status);
}

// ---- rounds

absl::StatusOr<std::shared_ptr<CorpusPull>> ReplicaFollower::PullOf(const engine::CorpusName& name,
                                                                    const std::string& address) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return NotHere(name);
  Job& job = jobs_.at(TableKey(name));
  if (job.pull == nullptr || job.address != address) {
    std::shared_ptr<grpc::Channel>& channel = channels_[address];
    if (channel == nullptr) channel = options_.connect(address);
    job.address = address;
    job.pull = std::make_shared<CorpusPull>(
        engine_, channel,
        [this, counted = int64_t{0}](const CorpusPull::Progress& progress) mutable {
          bytes_ += progress.bytes - std::exchange(counted, progress.bytes);
          return member_.answering() ? absl::OkStatus()
                                     : absl::AbortedError("this group has no lease");
        });
  }
  return job.pull;
}

absl::Status ReplicaFollower::Round(const engine::CorpusName& name, bool cache) {
  const std::string& own = member_.group().name;
  std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  const std::optional<Placement> placed = directory_.Known(name);
  if (!record || record->group != own || !placed || placed->deleted || placed->group == own) {
    return NotHere(name);
  }
  std::string address;
  for (const Group& group : directory_.Groups()) {
    if (group.name == placed->group) address = group.address;
  }
  const int64_t registration = directory_.RegistrationOf(placed->group);
  if (address.empty()) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kGroupUnreachable,
                         fmt::format("the group {}, which has the corpus, is away", placed->group));
  }
  LECTERN_ASSIGN_OR_RETURN(const std::shared_ptr<CorpusPull> pull, PullOf(name, address));
  LECTERN_ASSIGN_OR_RETURN(const CorpusPull::Replicated round,
                           pull->Replicate({.request_id = MakeRequestId(),
                                            .tenant = name.tenant,
                                            .corpus = name.corpus,
                                            .epoch = placed->epoch},
                                           cache ? kCacheRoundBytes : 0));
  {
    const std::lock_guard lock(mutex_);
    kept_[KeyOf(round.origin)] = name;
  }
  // Whoever is told that it is here relies on it that it can be taken over from here.
  if (!record->ready || record->origin != round.origin) {
    record->ready = true;
    record->origin = round.origin;
    LECTERN_RETURN_IF_ERROR(directory_.UpdateReplica(*record));
    Log(LogLevel::kInfo, "replica_ready", {{"tenant", name.tenant}, {"corpus", name.corpus}});
  }
  const std::lock_guard lock(mutex_);
  Job& job = jobs_.at(TableKey(name));
  job.owner_registration = registration;
  if (!cache) return absl::OkStatus();
  const Clock::time_point now = Clock::now();
  job.last_cache = now;
  job.whole = !round.more && !round.busy;
  job.bytes_left = round.left;
  job.interval = round.busy ? kShortestInterval
                            : std::clamp(job.interval * 2, kShortestInterval, kLongestInterval);
  job.next_cache = round.more ? now : now + job.interval;
  return absl::OkStatus();
}

// ---- the owner is lost

absl::Status ReplicaFollower::TakeOver(const engine::CorpusName& name, bool owner_is_there) {
  const std::string& own = member_.group().name;
  const int64_t registration = member_.registration();
  std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  LECTERN_ASSIGN_OR_RETURN(const Placement placed, directory_.Find(name));
  if (!record || record->group != own || !record->ready || placed.group == own) {
    return NotHere(name);
  }
  {
    const std::lock_guard lock(mutex_);
    if (!kept_.contains(KeyOf(record->origin))) return NotHere(name);
    jobs_.at(TableKey(name)).pull.reset();
  }
  const int64_t owner = directory_.RegistrationOf(placed.group);
  if ((owner != 0) != owner_is_there) return NotHere(name);
  LECTERN_ASSIGN_OR_RETURN(const bool ours,
                           directory_.TakeOver(*record, placed, owner, registration));
  if (!ours) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kClusterContended,
                         "the cluster changed while the corpus was taken over");
  }
  ++failovers_;
  Log(LogLevel::kWarning, "corpus_taken_over",
      {{"tenant", name.tenant},
       {"corpus", name.corpus},
       {"from", placed.group},
       {"to", own},
       {"owner_there", owner_is_there}});
  return Publish(name);
}

absl::Status ReplicaFollower::Publish(const engine::CorpusName& name) {
  const std::optional<Placement> placed = directory_.Known(name);
  if (!placed || placed->deleted || placed->group != member_.group().name) return NotHere(name);
  {
    const std::lock_guard lock(mutex_);
    if (!kept_.contains(KeyOf(placed->origin))) return absl::OkStatus();
  }
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<engine::CorpusImport> import,
                           engine_.ImportCorpus(name, placed->origin));
  LECTERN_RETURN_IF_ERROR(import->PublishKept());
  {
    const std::lock_guard lock(mutex_);
    kept_.erase(KeyOf(placed->origin));
  }
  Log(LogLevel::kInfo, "replica_published", {{"tenant", name.tenant}, {"corpus", name.corpus}});
  return absl::OkStatus();
}

ReplicaFollower::Counts ReplicaFollower::Count() const {
  Counts counts = {.bytes = bytes_, .failures = failures_, .failovers = failovers_};
  for (const ReplicaRecord& record : directory_.ReplicasOn(member_.group().name)) {
    ++counts.followed;
    const std::lock_guard lock(mutex_);
    const auto job = jobs_.find(TableKey(record.name));
    counts.behind += job == jobs_.end() || !job->second.whole;
    if (job != jobs_.end()) counts.bytes_left += job->second.bytes_left;
  }
  return counts;
}

}  // namespace lectern::services
