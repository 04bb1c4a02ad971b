#include "services/cluster/etcd_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/cluster/etcd_transaction.h"
#include "services/cluster/rendezvous.h"
#include "services/rpc/reason.h"
#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

using etcdserverpb::Compare;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;

constexpr std::chrono::milliseconds kPauseAfterFailure{200};
// How long it is known that a corpus was deleted, after its bytes are gone: a worker that comes
// back with an old copy later than that (from a backup) is believed.
constexpr int64_t kTombstoneSeconds = 30 * 24 * 3600;
// etcd takes 128 operations in one transaction by default.
constexpr size_t kAdoptedAtOnce = 100;

absl::Status TenantMissing(std::string_view id) {
  return engine::Error(absl::StatusCode::kNotFound, reason::kTenantNotFound,
                       fmt::format("there is no tenant \"{}\"", id), {{"tenant", std::string(id)}});
}

}  // namespace

absl::Status CorpusNotPlaced(const engine::CorpusName& name) {
  return engine::Error(absl::StatusCode::kNotFound, "CORPUS_NOT_FOUND",
                       fmt::format("there is no corpus \"{}\"", name.corpus),
                       {{"corpus", name.corpus}});
}

EtcdDirectory::EtcdDirectory(EtcdClient& client, const std::string& prefix)
    : client_(client), keys_(prefix), follower_([this] { Follow(); }) {}

EtcdDirectory::~EtcdDirectory() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  client_.StopWatching();
  follower_.join();
}

void EtcdDirectory::Follow() {
  bool whole = false;
  while (true) {
    absl::Status status;
    if (!whole) {
      status = ReadAll();
      whole = status.ok();
    }
    if (whole) {
      status = client_.Watch(keys_.prefix(), revision() + 1,
                             [this](const auto& response) { return Take(response); });
      // What was missed while the stream was down follows when it is back, unless etcd forgot it.
      whole = engine::ReasonOf(status) != reason::kClusterStoreCompacted;
    }
    std::unique_lock lock(mutex_);
    if (stopping_) return;
    if (std::exchange(reachable_, false)) {
      lock.unlock();
      Log(LogLevel::kWarning, "cluster_store_lost",
          {{"message", std::string(status.message().data(), status.message().size())}});
      lock.lock();
    }
    if (changed_.wait_for(lock, kPauseAfterFailure, [this] { return stopping_; })) return;
  }
}

absl::Status EtcdDirectory::ReadAll() {
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Snapshot snapshot, client_.ReadPrefix(keys_.prefix()));
  Records records;
  records.revision = snapshot.revision;
  for (const auto& record : snapshot.records) {
    records.Apply(keys_, record.key(), &record.value(), record.create_revision(),
                  record.mod_revision(), record.lease());
  }
  {
    const std::lock_guard lock(mutex_);
    records_ = std::move(records);
    synced_ = true;
    ++resyncs_;
  }
  changed_.notify_all();
  return absl::OkStatus();
}

bool EtcdDirectory::Take(const etcdserverpb::WatchResponse& response) {
  bool back = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    back = !std::exchange(reachable_, true);
    for (const auto& event : response.events()) {
      const bool gone = event.type() == etcdserverpb::Event::DELETE;
      records_.Apply(keys_, event.kv().key(), gone ? nullptr : &event.kv().value(),
                     event.kv().create_revision(), event.kv().mod_revision(), event.kv().lease());
    }
    // The answer that a watch stands names a revision whose events are still to come.
    if (!response.created()) {
      records_.revision = std::max(records_.revision, response.header().revision());
    }
  }
  changed_.notify_all();
  if (back) Log(LogLevel::kInfo, "cluster_store_reached");
  return true;
}

bool EtcdDirectory::WaitSynced(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [this] { return synced_; });
}

std::vector<Group> EtcdDirectory::Groups() const {
  const std::lock_guard lock(mutex_);
  std::vector<Group> groups;
  for (const auto& [name, record] : records_.groups) groups.push_back(record.group);
  return groups;
}

std::optional<Placement> EtcdDirectory::Known(const engine::CorpusName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.corpora.find(TableKey(name));
  if (found == records_.corpora.end()) return std::nullopt;
  return found->second;
}

std::vector<engine::CorpusName> EtcdDirectory::CorporaOf(std::string_view tenant) const {
  const std::string first = fmt::format("{}/", tenant);
  std::vector<engine::CorpusName> names;
  const std::lock_guard lock(mutex_);
  for (auto it = records_.corpora.lower_bound(first);
       it != records_.corpora.end() && it->first.starts_with(first); ++it) {
    if (!it->second.deleted) names.push_back(NameOfTableKey(it->first));
  }
  return names;
}

std::vector<std::string> EtcdDirectory::GroupsOf(std::string_view tenant) const {
  const std::string first = fmt::format("{}/", tenant);
  std::set<std::string> groups;
  const std::lock_guard lock(mutex_);
  for (auto it = records_.corpora.lower_bound(first);
       it != records_.corpora.end() && it->first.starts_with(first); ++it) {
    if (!it->second.deleted) groups.insert(it->second.group);
  }
  return {groups.begin(), groups.end()};
}

bool EtcdDirectory::Reachable() const {
  const std::lock_guard lock(mutex_);
  return reachable_;
}

absl::StatusOr<EtcdDirectory::Current> EtcdDirectory::ReadPlacement(
    const engine::CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Snapshot snapshot, client_.Read(keys_.Corpus(name)));
  if (snapshot.records.empty()) return Current{};
  const auto& record = snapshot.records.front();
  Records parsed;
  parsed.Apply(keys_, record.key(), &record.value(), 0, record.mod_revision(), 0);
  if (parsed.corpora.empty()) {
    return engine::Error(absl::StatusCode::kInternal, reason::kClusterStoreError,
                         fmt::format("the record {} is not a placement", record.key()));
  }
  return Current{parsed.corpora.begin()->second, record.mod_revision()};
}

absl::StatusOr<Placement> EtcdDirectory::Find(const engine::CorpusName& name) {
  LECTERN_ASSIGN_OR_RETURN(const Current current, ReadPlacement(name));
  if (!current.placement || current.placement->deleted) return CorpusNotPlaced(name);
  return *current.placement;
}

std::optional<Records::GroupRecord> EtcdDirectory::Choose(const engine::CorpusName& name,
                                                          std::string_view without) const {
  const std::lock_guard lock(mutex_);
  std::vector<Candidate> candidates;
  std::vector<const Records::GroupRecord*> records;
  const auto owner = records_.groups.find(without);
  for (const auto& [group, record] : records_.groups) {
    if (group == without || records_.drains.contains(group)) continue;
    // The cache of a corpus is of one model.
    if (owner != records_.groups.end() &&
        owner->second.group.fingerprint != record.group.fingerprint) {
      continue;
    }
    // It has the other copy already, or is about to get this one.
    if (const auto replica = records_.replicas.find(TableKey(name));
        replica != records_.replicas.end() && replica->second.group == group) {
      continue;
    }
    if (const auto move = records_.moves.find(TableKey(name));
        move != records_.moves.end() && move->second.state == MoveState::kRunning &&
        move->second.to == group) {
      continue;
    }
    // It still has what an older corpus of this name left.
    if (records_.purges.contains(fmt::format("{}/{}", group, TableKey(name)))) continue;
    candidates.push_back({group, static_cast<double>(record.group.free_bytes)});
    records.push_back(&record);
  }
  const std::optional<size_t> chosen = ChooseByRendezvous(TableKey(name), candidates);
  if (!chosen) return std::nullopt;
  return *records[*chosen];
}

absl::StatusOr<Placement> EtcdDirectory::Place(const engine::CorpusName& name) {
  for (int i = 0; i < kTransactionTries; ++i) {
    LECTERN_ASSIGN_OR_RETURN(const Current current, ReadPlacement(name));
    if (current.placement && !current.placement->deleted) return *current.placement;
    const std::optional<Records::GroupRecord> chosen = Choose(name);
    if (!chosen) {
      return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                           "no group is there that has room for another corpus; try again");
    }
    Placement placement = {.group = chosen->group.name};
    TxnRequest request;
    ExpectRevision(request, keys_.Corpus(name), current.mod_revision);
    ExpectCreated(request, keys_.Group(placement.group), chosen->create_revision);
    ExpectRevision(request, keys_.Purge(placement.group, name), 0);
    ExpectRevision(request, keys_.Drain(placement.group), 0);
    Put(request, keys_.Corpus(name), ToValue(placement));
    LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
    placement.epoch = response.header().revision();
    if (response.succeeded()) {
      Log(LogLevel::kInfo, "corpus_placed",
          {{"tenant", name.tenant},
           {"corpus", name.corpus},
           {"group", placement.group},
           {"epoch", placement.epoch}});
      return placement;
    }
    // The copy may be behind: what it does not know yet it will know at this revision.
    WaitRevision(placement.epoch, std::chrono::steady_clock::now() + kPauseAfterFailure);
  }
  return Contended(fmt::format("the placement of \"{}\"", name.corpus));
}

absl::Status EtcdDirectory::Remove(const engine::CorpusName& name,
                                   std::chrono::steady_clock::time_point deadline) {
  std::string group;
  std::string before;
  int64_t recorded = 0;
  for (int i = 0; recorded == 0; ++i) {
    if (i == kTransactionTries) {
      return Contended(fmt::format("the placement of \"{}\"", name.corpus));
    }
    LECTERN_ASSIGN_OR_RETURN(const Current current, ReadPlacement(name));
    if (!current.placement) return CorpusNotPlaced(name);
    group = current.placement->group;
    before = current.placement->moved_from;
    if (current.placement->deleted) {
      // By somebody who is still waiting, or by an earlier attempt of this caller.
      LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Snapshot purge,
                               client_.Read(keys_.Purge(group, name)));
      if (purge.records.empty()) return CorpusNotPlaced(name);
      recorded = current.mod_revision;
      break;
    }
    TxnRequest request;
    ExpectRevision(request, keys_.Corpus(name), current.mod_revision);
    Put(request, keys_.Corpus(name),
        ToValue(Placement{.group = group, .deleted = true, .moved_from = before}));
    Put(request, keys_.Purge(group, name), "{}");
    Delete(request, keys_.Replica(name));
    LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
    if (response.succeeded()) recorded = response.header().revision();
  }
  // The group that had it before a move may not know yet that it has it no more.
  const auto answered_for = [&](const std::string& holder) {
    return holder.empty() || !records_.groups.contains(holder) ||
           !records_.purges.contains(fmt::format("{}/{}", holder, TableKey(name)));
  };
  std::unique_lock lock(mutex_);
  const bool done = changed_.wait_until(lock, deadline, [&] {
    return stopping_ ||
           (records_.revision >= recorded && answered_for(group) && answered_for(before));
  });
  if (done && !stopping_) return absl::OkStatus();
  return engine::Error(absl::StatusCode::kUnavailable, reason::kGroupUnreachable,
                       fmt::format("the deletion is recorded, but the group {} has not confirmed "
                                   "it yet; try again",
                                   group),
                       {{"group", group}});
}

std::vector<TenantRecord> EtcdDirectory::TenantRecords() const {
  const std::lock_guard lock(mutex_);
  std::vector<TenantRecord> tenants;
  for (const auto& [id, record] : records_.tenants) tenants.push_back(record);
  return tenants;
}

std::vector<TenantRecord> EtcdDirectory::Tenants() const {
  std::vector<TenantRecord> tenants = TenantRecords();
  std::erase_if(tenants, [](const TenantRecord& record) { return record.deleted; });
  return tenants;
}

std::optional<TenantRecord> EtcdDirectory::KnownTenant(std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.tenants.find(id);
  if (found == records_.tenants.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<std::optional<TenantRecord>> EtcdDirectory::ReadTenant(std::string_view id) {
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Snapshot snapshot, client_.Read(keys_.Tenant(id)));
  if (snapshot.records.empty()) return std::optional<TenantRecord>();
  Records parsed;
  const auto& record = snapshot.records.front();
  parsed.Apply(keys_, record.key(), &record.value(), 0, record.mod_revision(), 0);
  if (parsed.tenants.empty()) return std::optional<TenantRecord>();
  return std::optional<TenantRecord>(parsed.tenants.begin()->second);
}

absl::Status EtcdDirectory::WriteTenant(const TenantRecord& record, int64_t expected_revision) {
  TxnRequest request;
  ExpectRevision(request, keys_.Tenant(record.tenant.id), expected_revision);
  Put(request, keys_.Tenant(record.tenant.id), ToValue(record));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  return response.succeeded() ? absl::OkStatus()
                              : Contended(fmt::format("the tenant \"{}\"", record.tenant.id));
}

absl::Status EtcdDirectory::CreateTenant(const engine::Tenant& tenant) {
  LECTERN_ASSIGN_OR_RETURN(const std::optional<TenantRecord> known, ReadTenant(tenant.id));
  if (known && !known->deleted) {
    return engine::Error(absl::StatusCode::kAlreadyExists, "TENANT_EXISTS",
                         fmt::format("tenant \"{}\" exists already", tenant.id),
                         {{"tenant", tenant.id}});
  }
  return WriteTenant({.tenant = tenant}, known ? known->revision : 0);
}

absl::StatusOr<engine::Tenant> EtcdDirectory::UpdateTenant(std::string_view id,
                                                           const engine::TenantUpdate& update) {
  LECTERN_ASSIGN_OR_RETURN(std::optional<TenantRecord> known, ReadTenant(id));
  if (!known || known->deleted) return TenantMissing(id);
  engine::Tenant& tenant = known->tenant;
  if (update.display_name) tenant.display_name = *update.display_name;
  if (update.disk_bytes) tenant.quota.disk_bytes = *update.disk_bytes;
  if (update.tokens_per_minute) tenant.quota.tokens_per_minute = *update.tokens_per_minute;
  if (update.concurrent_requests) tenant.quota.concurrent_requests = *update.concurrent_requests;
  if (update.weight) tenant.quota.weight = *update.weight;
  LECTERN_RETURN_IF_ERROR(WriteTenant(*known, known->revision));
  return tenant;
}

absl::Status EtcdDirectory::DeleteTenant(std::string_view id) {
  LECTERN_ASSIGN_OR_RETURN(std::optional<TenantRecord> known, ReadTenant(id));
  if (!known || known->deleted) return TenantMissing(id);
  known->deleted = true;
  return WriteTenant(*known, known->revision);
}

absl::StatusOr<int64_t> EtcdDirectory::Register(const Group& group, int64_t lease) {
  TxnRequest request;
  ExpectRevision(request, keys_.Group(group.name), 0);
  Put(request, keys_.Group(group.name), ToValue(group), lease);
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  if (response.succeeded()) return response.header().revision();
  return engine::Error(
      absl::StatusCode::kAlreadyExists, reason::kGroupTaken,
      fmt::format("another worker is the group {}, or its lease has not ended yet", group.name),
      {{"group", group.name}});
}

absl::Status EtcdDirectory::Describe(const Group& group, int64_t lease) {
  TxnRequest request;
  Compare& compare = *request.add_compare();
  compare.set_key(keys_.Group(group.name));
  compare.set_result(Compare::EQUAL);
  compare.set_target(Compare::LEASE);
  compare.set_lease(lease);
  Put(request, keys_.Group(group.name), ToValue(group), lease);
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  return response.succeeded() ? absl::OkStatus() : absl::NotFoundError("the lease has ended");
}

std::vector<std::pair<engine::CorpusName, int64_t>> EtcdDirectory::PurgesOf(
    std::string_view group) const {
  const std::string first = fmt::format("{}/", group);
  std::vector<std::pair<engine::CorpusName, int64_t>> purges;
  const std::lock_guard lock(mutex_);
  for (auto it = records_.purges.lower_bound(first);
       it != records_.purges.end() && it->first.starts_with(first); ++it) {
    purges.emplace_back(NameOfTableKey(std::string_view(it->first).substr(first.size())),
                        it->second);
  }
  return purges;
}

absl::Status EtcdDirectory::ConfirmPurge(std::string_view group, const engine::CorpusName& name,
                                         int64_t revision) {
  TxnRequest request;
  ExpectRevision(request, keys_.Purge(group, name), revision);
  Delete(request, keys_.Purge(group, name));
  LECTERN_RETURN_IF_ERROR(client_.Txn(request).status());
  LECTERN_ASSIGN_OR_RETURN(const Current current, ReadPlacement(name));
  if (!current.placement || !current.placement->deleted) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const EtcdClient::Lease lease, client_.GrantLease(kTombstoneSeconds));
  TxnRequest fade;
  ExpectRevision(fade, keys_.Corpus(name), current.mod_revision);
  Put(fade, keys_.Corpus(name), ToValue(*current.placement), lease.id);
  return client_.Txn(fade).status();
}

absl::Status EtcdDirectory::Adopt(std::string_view group,
                                  const std::vector<engine::CorpusName>& names) {
  // All of a batch or, if somebody else was faster with one, one by one.
  for (size_t begin = 0; begin < names.size(); begin += kAdoptedAtOnce) {
    const size_t end = std::min(names.size(), begin + kAdoptedAtOnce);
    const auto adopt = [&](size_t from, size_t to) -> absl::StatusOr<bool> {
      TxnRequest request;
      for (size_t i = from; i < to; ++i) {
        ExpectRevision(request, keys_.Corpus(names[i]), 0);
        Put(request, keys_.Corpus(names[i]), ToValue(Placement{.group = std::string(group)}));
      }
      LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
      return response.succeeded();
    };
    LECTERN_ASSIGN_OR_RETURN(const bool all, adopt(begin, end));
    for (size_t i = begin; !all && i < end; ++i) {
      LECTERN_RETURN_IF_ERROR(adopt(i, i + 1).status());
    }
  }
  return absl::OkStatus();
}

int64_t EtcdDirectory::revision() const {
  const std::lock_guard lock(mutex_);
  return records_.revision;
}

bool EtcdDirectory::WaitRevision(int64_t revision,
                                 std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_until(lock, deadline, [&] {
    return stopping_ || records_.revision >= revision;
  }) && !stopping_;
}

void EtcdDirectory::WaitNewer(int64_t revision,
                              std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return stopping_ || records_.revision > revision; });
}

EtcdDirectory::Counts EtcdDirectory::Count() const {
  const std::lock_guard lock(mutex_);
  Counts counts = {.groups = records_.groups.size(),
                   .purges = records_.purges.size(),
                   .draining = records_.drains.size(),
                   .revision = records_.revision,
                   .resyncs = resyncs_};
  for (const auto& [key, placement] : records_.corpora) {
    ++(placement.deleted ? counts.deleted : counts.corpora);
  }
  for (const auto& [key, move] : records_.moves) counts.moves += move.state == MoveState::kRunning;
  return counts;
}

}  // namespace lectern::services
