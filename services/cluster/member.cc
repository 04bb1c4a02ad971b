#include "services/cluster/member.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

// A lease is renewed that often while it runs once.
constexpr int kRenewalsPerLease = 6;
constexpr std::chrono::milliseconds kPauseAfterFailure{200};
constexpr std::chrono::milliseconds kAgreeAnyway{5000};
constexpr std::chrono::seconds kCatchUp{3};
constexpr int kPage = 1000;
// What is left over is told again when it has changed by a sixteenth.
constexpr int64_t kFreeShare = 16;
// Changes in progress when a move wants its last round; they are short, but for answers in
// sessions.
constexpr std::chrono::seconds kHoldPatience{10};
// A move whose last round has begun is decided within this time, or the hold ends.
constexpr std::chrono::seconds kLongestHold{60};
// Answers that run when their corpus has moved away have that long to end.
constexpr std::chrono::minutes kLinger{10};
// In the metadata of a refusal: whether the work was done before its answer was refused.
constexpr char kDone[] = "done";

std::string Message(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

bool IsGone(const absl::Status& status) { return status.code() == absl::StatusCode::kNotFound; }

}  // namespace

void Member::Join(Group group, Options options) {
  group_ = std::move(group);
  options_ = std::move(options);
  keeper_ = std::thread([this] { KeepLease(); });
  agreer_ = std::thread([this] { Agree(); });
}

void Member::Leave() {
  if (!keeper_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  keeper_.join();
  agreer_.join();
  admitted_ = false;
  fence_.Close();
  if (lease_ != 0) client_.RevokeLease(lease_).IgnoreError();
}

// ---- what may be answered ----

absl::Status Member::LeaseExpired(bool done) const {
  ++refused_lease_;
  return engine::Error(absl::StatusCode::kUnavailable, reason::kLeaseExpired,
                       fmt::format("the group {} has no lease at present and answers nothing until "
                                   "it has one; try again",
                                   group_.name),
                       {{"group", group_.name}, {kDone, done ? "true" : "false"}});
}

absl::Status Member::NotOwner(const Caller& caller, bool done) const {
  ++refused_owner_;
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kNotOwner,
      fmt::format("the group {} does not hold the corpus \"{}\" at epoch {}; ask where it is",
                  group_.name, caller.corpus, caller.epoch),
      {{"group", group_.name},
       {"corpus", caller.corpus},
       {"epoch", std::to_string(caller.epoch)},
       {kDone, done ? "true" : "false"}});
}

Member::Standing Member::StandingOf(const Caller& caller) const {
  const std::optional<Placement> known = directory_.Known({caller.tenant, caller.corpus});
  if (known && known->epoch == caller.epoch) {
    return !known->deleted && known->group == group_.name ? Standing::kOwner : Standing::kStranger;
  }
  return caller.epoch > directory_.revision() ? Standing::kUnknown : Standing::kStranger;
}

bool Member::HasMovedAway(const Caller& caller) const {
  const std::optional<Placement> known = directory_.Known({caller.tenant, caller.corpus});
  return known && !known->deleted && known->moved_from == group_.name &&
         known->moved_epoch == caller.epoch;
}

absl::StatusOr<CorpusGate::Pass> Member::Enter(const Caller& caller, bool changes) {
  std::optional<CorpusGate::Pass> pass = gate_.Enter({caller.tenant, caller.corpus}, changes);
  if (pass) return *std::move(pass);
  ++refused_moving_;
  return engine::Error(absl::StatusCode::kUnavailable, reason::kCorpusMoving,
                       fmt::format("the corpus \"{}\" is about to move to another group and cannot "
                                   "be changed for a moment; try again",
                                   caller.corpus),
                       {{"corpus", caller.corpus}, {kDone, "false"}});
}

absl::StatusOr<int64_t> Member::HoldChanges(const Caller& caller) {
  const engine::CorpusName name = {caller.tenant, caller.corpus};
  // A hold that an attempt before has left stands for as long as its record does.
  if (const std::optional<int64_t> held = gate_.Renew(name);
      held && directory_.Holds(name, *held).value_or(false)) {
    return *held;
  }
  if (!gate_.Hold(name, std::chrono::steady_clock::now() + kHoldPatience)) {
    return engine::Error(
        absl::StatusCode::kUnavailable, reason::kCorpusChanged,
        fmt::format("changes of the corpus \"{}\" go on; try again", caller.corpus),
        {{"corpus", caller.corpus}});
  }
  const absl::StatusOr<int64_t> revision = directory_.Hold(group_.name, name, caller.epoch, lease_);
  // After an error the record may be there nevertheless: nothing changes until that is known.
  if (revision.ok()) {
    gate_.SetRevision(name, *revision);
  } else if (engine::ReasonOf(revision.status()) == reason::kClusterContended) {
    // One that an earlier attempt has left, or the placement is another now.
    directory_.DropHolds(group_.name, name).IgnoreError();
    gate_.Release(name);
  } else if (revision.status().code() != absl::StatusCode::kUnavailable) {
    gate_.Release(name);
  }
  return revision;
}

bool Member::IsMoving(const engine::CorpusName& name) const {
  const std::optional<MoveRecord> move = directory_.KnownMove(name);
  if (!move || move->state != MoveState::kRunning) return false;
  const std::vector<Group> groups = directory_.Groups();
  return std::any_of(groups.begin(), groups.end(),
                     [&](const Group& group) { return group.name == move->to; });
}

void Member::SettleHolds() {
  for (const CorpusGate::Held& held : gate_.Holds()) {
    // Nobody is there to end it, or takes too long.
    const bool old = std::chrono::steady_clock::now() - held.since > kLongestHold ||
                     (held.revision != 0 && !IsMoving(held.name));
    if (held.revision == 0) {
      if (!old) continue;
      // Nobody was told a revision, so nobody can build upon the hold.
      if (directory_.DropHolds(group_.name, held.name).ok()) gate_.Release(held.name);
      continue;
    }
    const std::optional<bool> there = directory_.Holds(held.name, held.revision);
    if (!there) continue;
    if (*there) {
      if (!old) continue;
      const absl::StatusOr<int64_t> gone = directory_.ReleaseHold(held.name, held.revision);
      // What ended it otherwise must be known here before anybody changes anything.
      if (!gone.ok() ||
          !directory_.WaitRevision(*gone, std::chrono::steady_clock::now() + kCatchUp)) {
        continue;
      }
    }
    gate_.Release(held.name);
  }
}

int64_t Member::registration() const {
  const std::lock_guard lock(mutex_);
  return registered_ ? registered_revision_ : 0;
}

absl::Status Member::MayBegin(const Caller& caller, bool of_corpus) {
  if (!answering()) return LeaseExpired(false);
  if (!of_corpus) return absl::OkStatus();
  if (caller.corpus.empty()) return NotOwner(caller, false);
  Standing standing = StandingOf(caller);
  if (standing == Standing::kUnknown) {
    // The gateway was faster than our watch.
    directory_.WaitRevision(caller.epoch, std::chrono::steady_clock::now() + kCatchUp);
    standing = StandingOf(caller);
  }
  if (standing != Standing::kOwner) return NotOwner(caller, false);
  if (replication_ != nullptr) {
    LECTERN_RETURN_IF_ERROR(replication_->IsHere({caller.tenant, caller.corpus}));
  }
  // While we waited.
  return answering() ? absl::OkStatus() : LeaseExpired(false);
}

absl::Status Member::MayEnd(const Caller& caller, bool of_corpus) const {
  if (!answering()) return LeaseExpired(true);
  if (of_corpus && StandingOf(caller) != Standing::kOwner && !HasMovedAway(caller)) {
    return NotOwner(caller, true);
  }
  return absl::OkStatus();
}

Member::Counts Member::Count() const {
  return {.joins = joins_,
          .held = static_cast<int64_t>(gate_.Holds().size()),
          .refused_moving = refused_moving_,
          .refused_lease = refused_lease_,
          .refused_owner = refused_owner_,
          .purged = purged_,
          .keepalive_failures = keepalive_failures_};
}

// ---- the lease ----

bool Member::Pause(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopping_; });
}

void Member::KeepLease() {
  const std::chrono::milliseconds interval =
      std::chrono::milliseconds(options_.lease) / kRenewalsPerLease;
  bool going = true;
  while (going) {
    const absl::Status status = lease_ == 0 ? Enter() : Renew();
    Announce();
    going = Pause(status.ok() ? interval : kPauseAfterFailure);
  }
}

absl::Status Member::Enter() {
  const std::chrono::nanoseconds asked = fence_.Now();
  const absl::StatusOr<EtcdClient::Lease> lease = client_.GrantLease(options_.lease.count());
  if (!lease.ok()) {
    ++keepalive_failures_;
    return lease.status();
  }
  group_.free_bytes = options_.free_bytes();
  const Group& group = group_;
  const absl::StatusOr<int64_t> revision = directory_.Register(group, lease->id);
  if (!revision.ok()) {
    // An earlier life of this worker, as a rule: its lease ends by itself.
    if (!std::exchange(taken_logged_, true)) {
      Log(LogLevel::kWarning, "group_not_joined",
          {{"group", group.name}, {"message", Message(revision.status())}});
    }
    client_.RevokeLease(lease->id).IgnoreError();
    return revision.status();
  }
  taken_logged_ = false;
  lease_ = lease->id;
  ++joins_;
  fence_.Renew(asked, std::chrono::seconds(lease->ttl_seconds));
  {
    const std::lock_guard lock(mutex_);
    registered_ = true;
    registered_revision_ = *revision;
  }
  changed_.notify_all();
  Log(LogLevel::kInfo, "group_joined",
      {{"group", group.name}, {"address", group.address}, {"lease_s", lease->ttl_seconds}});
  return absl::OkStatus();
}

absl::Status Member::Renew() {
  const std::chrono::nanoseconds asked = fence_.Now();
  const absl::StatusOr<int64_t> ttl = client_.KeepLeaseAlive(lease_);
  if (!ttl.ok()) {
    ++keepalive_failures_;
    return ttl.status();
  }
  if (*ttl <= 0) {
    Lose("etcd has ended the lease");
    return absl::NotFoundError("the lease has ended");
  }
  fence_.Renew(asked, std::chrono::seconds(*ttl));
  Describe();
  return absl::OkStatus();
}

void Member::Lose(std::string_view why) {
  fence_.Close();
  lease_ = 0;
  {
    // Together, or the other thread could admit what is not registered any more.
    const std::lock_guard lock(mutex_);
    registered_ = false;
    admitted_ = false;
  }
  Log(LogLevel::kWarning, "group_lease_lost", {{"group", group_.name}, {"why", why}});
}

void Member::Describe() {
  Group group = group_;
  group.free_bytes = options_.free_bytes();
  const int64_t change = std::abs(group.free_bytes - group_.free_bytes);
  if (change <= group_.free_bytes / kFreeShare) return;
  if (directory_.Describe(group, lease_).ok()) group_.free_bytes = group.free_bytes;
}

void Member::Announce() {
  const bool now = answering();
  if (std::exchange(announced_, now) == now) return;
  Log(now ? LogLevel::kInfo : LogLevel::kWarning, now ? "group_answers" : "group_fenced",
      {{"group", group_.name}});
  options_.answering(now);
}

// ---- agreement ----

void Member::Agree() {
  while (true) {
    int64_t revision = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kPauseAfterFailure, [this] { return stopping_ || registered_; });
      if (stopping_) return;
      if (!registered_) continue;
      revision = registered_revision_;
    }
    const int64_t seen = directory_.revision();
    const bool joining = !admitted_;
    absl::Status status;
    if (joining &&
        !directory_.WaitRevision(revision, std::chrono::steady_clock::now() + kPauseAfterFailure)) {
      continue;
    }
    status = AgreeOnce(joining);
    if (!status.ok()) {
      Log(LogLevel::kWarning, "cluster_not_agreed", {{"message", Message(status)}});
      if (!Pause(kPauseAfterFailure)) return;
      continue;
    }
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      // Of this registration, not of one that was lost meanwhile.
      if (registered_ && registered_revision_ == revision) admitted_ = true;
    }
    changed_.notify_all();
    // Short steps, so that an end is noticed.
    const auto until = std::chrono::steady_clock::now() + kAgreeAnyway;
    while (directory_.revision() <= seen && std::chrono::steady_clock::now() < until) {
      directory_.WaitNewer(seen, std::chrono::steady_clock::now() + kPauseAfterFailure);
      const std::lock_guard lock(mutex_);
      if (stopping_ || !registered_) break;
    }
  }
}

absl::Status Member::AgreeOnce(bool joining) {
  LECTERN_RETURN_IF_ERROR(AgreeOnTenants());
  SettleHolds();
  LECTERN_RETURN_IF_ERROR(PurgeNames());
  if (!joining) return absl::OkStatus();
  if (replication_ != nullptr) LECTERN_RETURN_IF_ERROR(replication_->AgreeOnJoining());
  return AdoptStrangers();
}

absl::Status Member::AgreeOnTenants() {
  for (const TenantRecord& record : directory_.TenantRecords()) {
    const engine::Tenant& wanted = record.tenant;
    const absl::StatusOr<engine::Tenant> found = engine_.GetTenant(wanted.id);
    if (!found.ok() && !IsGone(found.status())) return found.status();
    absl::Status status;
    if (record.deleted) {
      if (found.ok()) status = engine_.DeleteTenant(wanted.id, /*force=*/true);
    } else if (!found.ok()) {
      status = engine_.CreateTenant(wanted.id, wanted.display_name, wanted.quota).status();
      if (status.code() == absl::StatusCode::kAlreadyExists) status = absl::OkStatus();
    } else if (found->display_name != wanted.display_name || found->quota != wanted.quota) {
      status =
          engine_
              .UpdateTenant(wanted.id, {.display_name = wanted.display_name,
                                        .disk_bytes = wanted.quota.disk_bytes,
                                        .tokens_per_minute = wanted.quota.tokens_per_minute,
                                        .concurrent_requests = wanted.quota.concurrent_requests,
                                        .weight = wanted.quota.weight})
              .status();
    }
    if (!status.ok() && !IsGone(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status Member::PurgeNames() {
  for (const auto& [name, revision] : directory_.PurgesOf(group_.name)) {
    const std::optional<Placement> known = directory_.Known(name);
    if (known && !known->deleted && gate_.Inside(name) > 0) {
      // It has moved away, and answers that began here go on.
      const auto now = std::chrono::steady_clock::now();
      const auto since = lingering_.try_emplace(TableKey(name), now).first->second;
      if (now - since < kLinger) continue;
    }
    lingering_.erase(TableKey(name));
    absl::Status deleted;
    {
      const std::unique_lock lock(names_);
      deleted = engine_.DeleteCorpus(name);
    }
    if (!deleted.ok() && !IsGone(deleted)) return deleted;
    LECTERN_RETURN_IF_ERROR(directory_.ConfirmPurge(group_.name, name, revision));
    ++purged_;
    Log(LogLevel::kInfo, "corpus_purged", {{"tenant", name.tenant}, {"corpus", name.corpus}});
  }
  return absl::OkStatus();
}

absl::Status Member::AdoptStrangers() {
  // What is on its way here is decided by its move.
  LECTERN_ASSIGN_OR_RETURN(const std::vector<engine::ImportedCorpus> imports, engine_.Imports());
  const auto is_import = [&imports](const engine::CorpusName& name) {
    return std::any_of(imports.begin(), imports.end(), [&](const engine::ImportedCorpus& import) {
      return import.published && import.name.tenant == name.tenant &&
             import.name.corpus == name.corpus;
    });
  };
  std::vector<engine::CorpusName> strangers;
  std::vector<engine::Tenant> tenants;
  engine::PageRequest page = {.page_size = kPage};
  do {
    LECTERN_ASSIGN_OR_RETURN(engine::Page<engine::Tenant> found, engine_.ListTenants(page));
    page.page_token = found.next_page_token;
    std::move(found.items.begin(), found.items.end(), std::back_inserter(tenants));
  } while (!page.page_token.empty());
  for (const engine::Tenant& tenant : tenants) {
    if (!directory_.KnownTenant(tenant.id)) {
      const absl::Status made = directory_.CreateTenant(tenant);
      if (!made.ok() && made.code() != absl::StatusCode::kAlreadyExists) return made;
    }
    engine::PageRequest corpora = {.page_size = kPage};
    do {
      LECTERN_ASSIGN_OR_RETURN(const engine::Page<engine::Corpus> found,
                               engine_.ListCorpora(tenant.id, corpora));
      corpora.page_token = found.next_page_token;
      for (const engine::Corpus& corpus : found.items) {
        const std::optional<Placement> known = directory_.Known(corpus.name);
        if (is_import(corpus.name)) continue;
        if (!known) {
          strangers.push_back(corpus.name);
        } else if (known->deleted || known->group != group_.name) {
          // A copy from a backup, as a rule. It is neither served nor deleted.
          Log(LogLevel::kWarning, "corpus_not_ours",
              {{"tenant", corpus.name.tenant},
               {"corpus", corpus.name.corpus},
               {"group", known->group},
               {"deleted", known->deleted}});
        }
      }
    } while (!corpora.page_token.empty());
  }
  if (strangers.empty()) return absl::OkStatus();
  LECTERN_RETURN_IF_ERROR(directory_.Adopt(group_.name, strangers));
  Log(LogLevel::kInfo, "corpora_adopted",
      {{"group", group_.name}, {"corpora", static_cast<int64_t>(strangers.size())}});
  return absl::OkStatus();
}

}  // namespace lectern::services
