#include "services/cluster/replica_sync.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::milliseconds kReconcileEvery{1000};
// A first pull may take longer; it goes on at the group that pulls, and is asked for again.
constexpr std::chrono::seconds kAskLimit{60};
constexpr std::chrono::milliseconds kFirstPause{50};
constexpr std::chrono::milliseconds kLongestPause{2000};
// So that a refusal still reaches the caller before the deadline does.
constexpr std::chrono::milliseconds kMargin{200};

absl::Status Unreachable(const engine::CorpusName& name, const std::string& group, bool done,
                         std::string_view why) {
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kReplicaUnreachable,
      fmt::format("what changes in the corpus \"{}\" must be stored on two groups, and {}{}; try "
                  "again",
                  name.corpus, why, done ? ": it is made on one, and not acknowledged" : ""),
      {{"corpus", name.corpus}, {"group", group}, {"done", done ? "true" : "false"}});
}

}  // namespace

struct ReplicaSync::PendingCall {
  grpc::ClientContext context;
  std::unique_ptr<worker::v1::Worker::Stub> stub;
  worker::v1::SyncReplicaRequest request;
  google::protobuf::Empty response;
};

void ReplicaSync::Start() {
  thread_ = std::thread([this] { Run(); });
}

void ReplicaSync::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [call, owner] : calls_) call->context.TryCancel();
  }
  changed_.notify_all();
  thread_.join();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return calls_.empty(); });
}

ReplicaSync::State& ReplicaSync::StateOf(const engine::CorpusName& name) {
  State& state = states_[TableKey(name)];
  if (state.name.corpus.empty()) state.name = name;
  if (state.changed == state.synced) state.since = Clock::now();
  return state;
}

absl::Status ReplicaSync::MayChange(const engine::CorpusName& name) const {
  if (options_.copies < 2 || options_.patience.count() > 0) return absl::OkStatus();
  const std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  if (record && directory_.RegistrationOf(record->group) != 0) return absl::OkStatus();
  if (record) {
    return Unreachable(name, record->group, false,
                       fmt::format("the group {} is away", record->group));
  }
  const std::vector<Group> groups = directory_.Groups();
  const bool other = std::any_of(groups.begin(), groups.end(), [&](const Group& group) {
    return group.name != member_.group().name && !directory_.Draining(group.name);
  });
  return other ? absl::OkStatus() : Unreachable(name, "", false, "there is no second one");
}

void ReplicaSync::Changed(const engine::CorpusName& name) {
  if (options_.copies < 2) return;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    ++StateOf(name).changed;
    poked_ = true;
  }
  changed_.notify_all();
}

void ReplicaSync::Settle(const Caller& caller, std::chrono::system_clock::time_point deadline,
                         Replication::Done done) {
  if (options_.copies < 2) {
    done(absl::OkStatus());
    return;
  }
  const auto until_deadline = deadline - std::chrono::system_clock::now() - kMargin;
  // A replica that is there answers sooner than anybody's patience ends.
  const std::chrono::milliseconds patience =
      options_.patience.count() > 0 ? options_.patience : kAskLimit;
  const Clock::time_point until =
      Clock::now() + (until_deadline < patience
                          ? std::chrono::duration_cast<Clock::duration>(until_deadline)
                          : Clock::duration(patience));
  bool waits = false;
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      State& state = StateOf({caller.tenant, caller.corpus});
      state.waiters.push_back({++state.changed, until, std::move(done)});
      state.again = {};
      poked_ = true;
      waits = true;
    }
  }
  if (!waits) {
    done(Unreachable({caller.tenant, caller.corpus}, "", true, "this one is being stopped"));
  }
  changed_.notify_all();
}

void ReplicaSync::Run() {
  Clock::time_point reconciled;
  while (true) {
    std::vector<engine::CorpusName> due;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kTick, [this] { return stopping_ || poked_; });
      poked_ = false;
      if (stopping_) break;
      const Clock::time_point now = Clock::now();
      for (auto it = states_.begin(); it != states_.end();) {
        State& state = it->second;
        if (state.changed == state.synced && state.waiters.empty() && !state.in_flight) {
          it = states_.erase(it);
          continue;
        }
        if (!state.in_flight && now >= state.again) {
          state.in_flight = true;
          state.asked = state.changed;
          due.push_back(state.name);
        }
        ++it;
      }
    }
    for (const engine::CorpusName& name : due) Ask(name);
    Refuse(/*all=*/false);
    if (Clock::now() - reconciled > kReconcileEvery) {
      reconciled = Clock::now();
      if (member_.answering()) Reconcile();
    }
  }
  Refuse(/*all=*/true);
}

void ReplicaSync::Ask(const engine::CorpusName& name) {
  const std::optional<Placement> placed = directory_.Known(name);
  if (!placed || placed->deleted || placed->group != member_.group().name) {
    // Whoever waits is told by what it asks next that it is another's.
    Answered(name, absl::OkStatus());
    return;
  }
  if (!member_.answering()) {
    Answered(name, Unreachable(name, "", true, "this one has no lease"));
    return;
  }
  std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  if (!record) {
    const absl::StatusOr<ReplicaRecord> assigned = directory_.AssignReplica(name, placed->epoch);
    if (!assigned.ok()) {
      Answered(name, assigned.status());
      return;
    }
    record = *assigned;
  }
  std::string address;
  for (const Group& group : directory_.Groups()) {
    if (group.name == record->group) address = group.address;
  }
  if (address.empty()) {
    Answered(name, Unreachable(name, record->group, true,
                               fmt::format("the group {} is away", record->group)));
    return;
  }
  const auto call = std::make_shared<PendingCall>();
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) channel = options_.connect(address);
  call->stub = worker::v1::Worker::NewStub(channel);
  SetInternalCaller({.request_id = MakeRequestId(),
                     .tenant = name.tenant,
                     .corpus = name.corpus,
                     .epoch = placed->epoch},
                    call->context);
  call->context.set_deadline(std::chrono::system_clock::now() + kAskLimit);
  call->request.set_name(CorpusResourceName(name));
  call->request.set_revision(record->revision);
  {
    const std::lock_guard lock(mutex_);
    calls_[call.get()] = call;
    if (stopping_) call->context.TryCancel();
  }
  call->stub->async()->SyncReplica(
      &call->context, &call->request, &call->response,
      [this, name, group = record->group, key = call.get()](const grpc::Status& result) {
        absl::Status status;
        if (!result.ok()) {
          const RemoteError error = ToRemoteError(result);
          status =
              Unreachable(name, group, true,
                          fmt::format("the group {} has not taken it ({})", group, error.message));
        } else if (const auto now = directory_.KnownReplica(name); !now || now->group != group) {
          status = Unreachable(name, group, true, "another group is to have it now");
        }
        Answered(name, status);
        std::shared_ptr<PendingCall> over;
        const std::lock_guard lock(mutex_);
        over = std::move(calls_[key]);
        calls_.erase(key);
        changed_.notify_all();
      });
}

void ReplicaSync::Answered(const engine::CorpusName& name, const absl::Status& status) {
  std::list<Waiter> served;
  {
    const std::lock_guard lock(mutex_);
    State& state = states_.at(TableKey(name));
    state.in_flight = false;
    state.error = status;
    if (status.ok()) {
      state.synced = state.asked;
      state.since = Clock::now();
      state.pause = {};
      for (auto it = state.waiters.begin(); it != state.waiters.end();) {
        const auto next = std::next(it);
        if (it->change <= state.synced) served.splice(served.end(), state.waiters, it);
        it = next;
      }
      poked_ = state.changed != state.synced;
    } else {
      ++failures_;
      state.pause =
          state.pause.count() == 0 ? kFirstPause : std::min(state.pause * 2, kLongestPause);
      state.again = Clock::now() + state.pause;
    }
  }
  for (const Waiter& waiter : served) waiter.done(absl::OkStatus());
}

void ReplicaSync::Refuse(bool all) {
  std::vector<std::pair<Replication::Done, absl::Status>> refused;
  {
    const std::lock_guard lock(mutex_);
    const Clock::time_point now = Clock::now();
    for (auto& [key, state] : states_) {
      std::erase_if(state.waiters, [&](Waiter& waiter) {
        if (!all && now < waiter.deadline) return false;
        refused.emplace_back(
            std::move(waiter.done),
            engine::ReasonOf(state.error) == reason::kReplicaUnreachable
                ? state.error
                : Unreachable(state.name, "", true,
                              state.error.ok() ? "the other has not answered in time"
                                               : std::string_view(state.error.message().data(),
                                                                  state.error.message().size())));
        return true;
      });
    }
  }
  for (const auto& [done, status] : refused) done(status);
}

bool ReplicaSync::IsAway(const std::string& group, std::chrono::milliseconds time) {
  if (directory_.RegistrationOf(group) != 0) {
    away_.erase(group);
    return false;
  }
  return Clock::now() - away_.try_emplace(group, Clock::now()).first->second >= time;
}

void ReplicaSync::Reconcile() {
  if (options_.copies < 2) {
    for (const ReplicaRecord& record : directory_.Replicas()) {
      const std::optional<Placement> placed = directory_.Known(record.name);
      if (!placed || placed->group != member_.group().name) continue;
      directory_.DropReplica(record).IgnoreError();  // found again
    }
    return;
  }
  for (const engine::CorpusName& name : directory_.CorporaOn(member_.group().name)) {
    Reconcile(name);
  }
}

void ReplicaSync::Reconcile(const engine::CorpusName& name) {
  const std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
  if (record && !directory_.Draining(record->group) &&
      !IsAway(record->group, options_.replace_after)) {
    return;
  }
  const std::optional<Placement> placed = directory_.Known(name);
  if (record && placed && !directory_.AssignReplica(name, placed->epoch).ok()) {
    return;  // the one that there is, is better than none
  }
  {
    // Without one: it is being looked for.
    const std::lock_guard lock(mutex_);
    const auto state = states_.find(TableKey(name));
    if (state != states_.end() && state->second.changed != state->second.synced) return;
  }
  Changed(name);
}

ReplicaSync::Counts ReplicaSync::Count() const {
  Counts counts;
  if (options_.copies >= 2) {
    for (const engine::CorpusName& name : directory_.CorporaOn(member_.group().name)) {
      const std::optional<ReplicaRecord> record = directory_.KnownReplica(name);
      const bool there = record && directory_.RegistrationOf(record->group) != 0;
      ++(!there ? counts.missing : record->ready ? counts.ready : counts.behind);
    }
  }
  const std::lock_guard lock(mutex_);
  counts.failures = failures_;
  for (const auto& [key, state] : states_) {
    counts.waiting += static_cast<int64_t>(state.waiters.size());
    if (state.changed == state.synced) continue;
    counts.oldest_seconds = std::max(
        counts.oldest_seconds, std::chrono::duration<double>(Clock::now() - state.since).count());
  }
  return counts;
}

}  // namespace lectern::services
