// Moves of corpora between groups, and groups that are being emptied.
#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/cluster/etcd_directory.h"
#include "services/cluster/etcd_transaction.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;

// How long the outcome of a move is known.
constexpr int64_t kOutcomeSeconds = 24 * 3600;
constexpr std::chrono::milliseconds kCatchUp{500};

int64_t NowMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string HoldValue(std::string_view group) { return fmt::format("{{\"group\":\"{}\"}}", group); }

absl::Status NoSuchGroup(const std::string& group) {
  return engine::Error(absl::StatusCode::kNotFound, reason::kGroupNotFound,
                       fmt::format("there is no group \"{}\"", group), {{"group", group}});
}

absl::Status NoSuchMove(const engine::CorpusName& name) {
  return engine::Error(
      absl::StatusCode::kNotFound, reason::kMoveNotFound,
      fmt::format("the corpus \"{}\" does not move, and has not for a day", name.corpus),
      {{"corpus", name.corpus}});
}

}  // namespace

std::vector<MoveRecord> EtcdDirectory::Moves() const {
  const std::lock_guard lock(mutex_);
  std::vector<MoveRecord> moves;
  for (const auto& [key, move] : records_.moves) moves.push_back(move);
  return moves;
}

std::optional<MoveRecord> EtcdDirectory::KnownMove(const engine::CorpusName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.moves.find(TableKey(name));
  if (found == records_.moves.end()) return std::nullopt;
  return found->second;
}

std::vector<EtcdDirectory::GroupState> EtcdDirectory::GroupStates() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, GroupState> states;
  for (const auto& [name, record] : records_.groups) {
    states[name].group = record.group;
    states[name].alive = true;
  }
  for (const std::string& name : records_.drains) states[name].draining = true;
  for (const auto& [key, placement] : records_.corpora) {
    if (placement.deleted) continue;
    ++states[placement.group].corpora;
    const auto replica = records_.replicas.find(key);
    if (replica == records_.replicas.end()) continue;
    ++states[replica->second.group].replicas;
    states[placement.group].replicated_corpora +=
        replica->second.ready && records_.groups.contains(replica->second.group);
  }
  std::vector<GroupState> groups;
  for (auto& [name, state] : states) {
    state.group.name = name;
    groups.push_back(std::move(state));
  }
  return groups;
}

std::vector<engine::CorpusName> EtcdDirectory::CorporaOn(std::string_view group) const {
  const std::lock_guard lock(mutex_);
  std::vector<engine::CorpusName> names;
  for (const auto& [key, placement] : records_.corpora) {
    if (!placement.deleted && placement.group == group) names.push_back(NameOfTableKey(key));
  }
  return names;
}

bool EtcdDirectory::Draining(std::string_view group) const {
  const std::lock_guard lock(mutex_);
  return records_.drains.contains(group);
}

absl::StatusOr<EtcdDirectory::Current> EtcdDirectory::ReadMovable(const engine::CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(Current current, ReadPlacement(name));
  if (!current.placement || current.placement->deleted) return CorpusNotPlaced(name);
  return current;
}

absl::StatusOr<Records::GroupRecord> EtcdDirectory::MoveTarget(const engine::CorpusName& name,
                                                               const std::string& from,
                                                               const std::string& to) const {
  if (to.empty()) {
    if (std::optional<Records::GroupRecord> chosen = Choose(name, from)) return *chosen;
    return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                         "no other group is there that has room for the corpus");
  }
  if (to == from) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kMoveNeedless,
                         fmt::format("the corpus \"{}\" is on the group {}", name.corpus, to),
                         {{"group", to}});
  }
  const std::lock_guard lock(mutex_);
  const auto found = records_.groups.find(to);
  if (found == records_.groups.end()) return NoSuchGroup(to);
  if (records_.drains.contains(to)) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kGroupDraining,
                         fmt::format("the group {} is being emptied", to), {{"group", to}});
  }
  const auto replica = records_.replicas.find(TableKey(name));
  if (replica != records_.replicas.end() && replica->second.group == to) {
    return engine::Error(absl::StatusCode::kFailedPrecondition, reason::kReplicaThere,
                         fmt::format("the group {} has the second copy of the corpus \"{}\"; it "
                                     "can move to another one only",
                                     to, name.corpus),
                         {{"group", to}});
  }
  const auto owner = records_.groups.find(from);
  if (owner != records_.groups.end() &&
      owner->second.group.fingerprint != found->second.group.fingerprint) {
    return engine::Error(
        absl::StatusCode::kFailedPrecondition, "MODEL_MISMATCH",
        fmt::format("the group {} serves another model than {}: it could not answer from the "
                    "corpus's cache",
                    to, from),
        {{"group", to}});
  }
  return found->second;
}

absl::StatusOr<MoveRecord> EtcdDirectory::BeginMove(const engine::CorpusName& name,
                                                    const std::string& to) {
  for (int i = 0; i < kTransactionTries; ++i) {
    LECTERN_ASSIGN_OR_RETURN(const Current current, ReadMovable(name));
    const std::string& from = current.placement->group;
    LECTERN_ASSIGN_OR_RETURN(const std::optional<MoveRecord> known, ReadMove(name));
    if (known && known->state == MoveState::kRunning) {
      if (to.empty() || known->to == to) return *known;
      return engine::Error(absl::StatusCode::kAlreadyExists, reason::kMoveRunning,
                           fmt::format("the corpus \"{}\" is on its way to the group {}: wait, or "
                                       "cancel that",
                                       name.corpus, known->to),
                           {{"group", known->to}});
    }
    LECTERN_ASSIGN_OR_RETURN(const Records::GroupRecord target, MoveTarget(name, from, to));
    MoveRecord move;
    move.name = name;
    move.from = from;
    move.to = target.group.name;
    move.create_time_us = NowMicros();
    TxnRequest request;
    ExpectRevision(request, keys_.Corpus(name), current.mod_revision);
    ExpectRevision(request, keys_.Move(name), known ? known->revision : 0);
    ExpectRevision(request, keys_.Drain(move.to), 0);
    const std::optional<ReplicaRecord> replica = KnownReplica(name);
    ExpectRevision(request, keys_.Replica(name), replica ? replica->revision : 0);
    Put(request, keys_.Move(name), ToValue(move));
    LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
    move.revision = response.header().revision();
    if (response.succeeded()) {
      Log(LogLevel::kInfo, "move_begun",
          {{"tenant", name.tenant}, {"corpus", name.corpus}, {"from", from}, {"to", move.to}});
      return move;
    }
    WaitRevision(move.revision, std::chrono::steady_clock::now() + kCatchUp);
  }
  return Contended(fmt::format("the placement of \"{}\"", name.corpus));
}

absl::StatusOr<std::optional<MoveRecord>> EtcdDirectory::ReadMove(const engine::CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Snapshot snapshot, client_.Read(keys_.Move(name)));
  if (snapshot.records.empty()) return std::optional<MoveRecord>();
  Records parsed;
  const auto& record = snapshot.records.front();
  parsed.Apply(keys_, record.key(), &record.value(), 0, record.mod_revision(), 0);
  if (parsed.moves.empty()) return std::optional<MoveRecord>();
  return std::optional<MoveRecord>(parsed.moves.begin()->second);
}

absl::StatusOr<MoveRecord> EtcdDirectory::FindMove(const engine::CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(std::optional<MoveRecord> move, ReadMove(name));
  if (!move) return NoSuchMove(name);
  return *std::move(move);
}

absl::StatusOr<MoveRecord> EtcdDirectory::CancelMove(const engine::CorpusName& name) {
  for (int i = 0; i < kTransactionTries; ++i) {
    LECTERN_ASSIGN_OR_RETURN(std::optional<MoveRecord> move, ReadMove(name));
    if (!move) return NoSuchMove(name);
    if (move->state != MoveState::kRunning || move->cancel) return *move;
    move->cancel = true;
    const absl::Status status = UpdateMove(*move);
    if (status.ok()) return *move;
    if (status.code() != absl::StatusCode::kAborted) return status;
  }
  return Contended(fmt::format("the move of \"{}\"", name.corpus));
}

absl::Status EtcdDirectory::SetDraining(const std::string& group, bool draining) {
  bool known = false;
  for (const GroupState& state : GroupStates()) known = known || state.group.name == group;
  if (!known) return NoSuchGroup(group);
  TxnRequest request;
  if (draining) {
    Put(request, keys_.Drain(group), "{}");
  } else {
    Delete(request, keys_.Drain(group));
  }
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  WaitRevision(response.header().revision(), std::chrono::steady_clock::now() + kCatchUp);
  return absl::OkStatus();
}

absl::Status EtcdDirectory::UpdateMove(MoveRecord& move) {
  int64_t lease = 0;
  if (move.state != MoveState::kRunning) {
    if (move.end_time_us == 0) move.end_time_us = NowMicros();
    LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Lease fading, client_.GrantLease(kOutcomeSeconds));
    lease = fading.id;
  }
  TxnRequest request;
  ExpectRevision(request, keys_.Move(move.name), move.revision);
  Put(request, keys_.Move(move.name), ToValue(move), lease);
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  if (!response.succeeded()) return absl::AbortedError("the move has been changed meanwhile");
  move.revision = response.header().revision();
  return absl::OkStatus();
}

absl::StatusOr<bool> EtcdDirectory::SwitchOwner(MoveRecord& move, int64_t epoch,
                                                int64_t hold_revision, int64_t registration) {
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Lease fading, client_.GrantLease(kOutcomeSeconds));
  MoveRecord done = move;
  done.state = MoveState::kDone;
  done.error = absl::OkStatus();
  done.end_time_us = NowMicros();
  const engine::CorpusName& name = move.name;
  TxnRequest request;
  ExpectRevision(request, keys_.Corpus(name), epoch);
  ExpectRevision(request, keys_.Move(name), move.revision);
  ExpectCreated(request, keys_.Hold(name), hold_revision);
  ExpectCreated(request, keys_.Group(move.to), registration);
  ExpectRevision(request, keys_.Purge(move.to, name), 0);
  Put(request, keys_.Corpus(name),
      ToValue(Placement{.group = move.to, .moved_from = move.from, .moved_epoch = epoch}));
  Put(request, keys_.Purge(move.from, name), "{}");
  // It has followed the former owner; the new one chooses whom to be followed by.
  Delete(request, keys_.Replica(name));
  Delete(request, keys_.Hold(name));
  Put(request, keys_.Move(name), ToValue(done), fading.id);
  const absl::StatusOr<TxnResponse> response = client_.Txn(request);
  if (response.ok() && response->succeeded()) {
    done.revision = response->header().revision();
    move = done;
    return true;
  }
  return AfterSwitch(move, epoch);
}

absl::StatusOr<bool> EtcdDirectory::AfterSwitch(MoveRecord& move, int64_t epoch) {
  for (int i = 0; i < kTransactionTries; ++i) {
    LECTERN_ASSIGN_OR_RETURN(const Current current, ReadPlacement(move.name));
    if (current.placement && current.placement->group == move.to &&
        current.placement->moved_epoch == epoch) {
      return true;
    }
    // A transaction that is still on its way finds another record, and does nothing.
    const absl::Status changed = UpdateMove(move);
    if (changed.ok()) return false;
    if (changed.code() != absl::StatusCode::kAborted) return changed;
    LECTERN_ASSIGN_OR_RETURN(const std::optional<MoveRecord> now, ReadMove(move.name));
    if (!now || now->create_time_us != move.create_time_us) return false;
    if (now->state == MoveState::kDone) return true;  // and the corpus has gone further since
    // Changed by somebody who wants it to end: the transaction does not find what it expects.
    return false;
  }
  return Contended(fmt::format("the move of \"{}\"", move.name.corpus));
}

absl::StatusOr<int64_t> EtcdDirectory::Hold(std::string_view group, const engine::CorpusName& name,
                                            int64_t epoch, int64_t lease) {
  LECTERN_ASSIGN_OR_RETURN(const std::optional<MoveRecord> move, ReadMove(name));
  if (!move || move->state != MoveState::kRunning || move->from != group) return NoSuchMove(name);
  TxnRequest request;
  ExpectRevision(request, keys_.Corpus(name), epoch);
  ExpectRevision(request, keys_.Hold(name), 0);
  Put(request, keys_.Hold(name), HoldValue(group), lease);
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  if (response.succeeded()) return response.header().revision();
  return Contended(fmt::format("the placement of \"{}\"", name.corpus));
}

absl::StatusOr<int64_t> EtcdDirectory::ReleaseHold(const engine::CorpusName& name,
                                                   int64_t hold_revision) {
  TxnRequest request;
  ExpectCreated(request, keys_.Hold(name), hold_revision);
  Delete(request, keys_.Hold(name));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  return response.header().revision();
}

absl::Status EtcdDirectory::DropHolds(std::string_view group, const engine::CorpusName& name) {
  TxnRequest request;
  etcdserverpb::Compare& compare = *request.add_compare();
  compare.set_key(keys_.Hold(name));
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_target(etcdserverpb::Compare::VALUE);
  compare.set_value(HoldValue(group));
  Delete(request, keys_.Hold(name));
  return client_.Txn(request).status();
}

std::optional<bool> EtcdDirectory::Holds(const engine::CorpusName& name,
                                         int64_t hold_revision) const {
  const std::lock_guard lock(mutex_);
  if (records_.revision < hold_revision) return std::nullopt;
  const auto found = records_.holds.find(TableKey(name));
  return found != records_.holds.end() && found->second == hold_revision;
}

}  // namespace lectern::services
