// The second copies of corpora: who has them, and when one becomes the corpus.
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

constexpr std::chrono::milliseconds kCatchUp{500};

}  // namespace

std::vector<ReplicaRecord> EtcdDirectory::Replicas() const {
  const std::lock_guard lock(mutex_);
  std::vector<ReplicaRecord> replicas;
  for (const auto& [key, replica] : records_.replicas) replicas.push_back(replica);
  return replicas;
}

std::vector<ReplicaRecord> EtcdDirectory::ReplicasOn(std::string_view group) const {
  std::vector<ReplicaRecord> replicas = Replicas();
  std::erase_if(replicas, [&](const ReplicaRecord& replica) { return replica.group != group; });
  return replicas;
}

std::optional<ReplicaRecord> EtcdDirectory::KnownReplica(const engine::CorpusName& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.replicas.find(TableKey(name));
  if (found == records_.replicas.end()) return std::nullopt;
  return found->second;
}

int64_t EtcdDirectory::RegistrationOf(std::string_view group) const {
  const std::lock_guard lock(mutex_);
  const auto found = records_.groups.find(group);
  return found == records_.groups.end() ? 0 : found->second.create_revision;
}

absl::StatusOr<ReplicaRecord> EtcdDirectory::AssignReplica(const engine::CorpusName& name,
                                                           int64_t epoch) {
  const std::optional<Placement> placed = Known(name);
  const std::optional<ReplicaRecord> known = KnownReplica(name);
  const std::optional<MoveRecord> move = KnownMove(name);
  if (!placed || placed->deleted || placed->epoch != epoch) {
    return Contended(fmt::format("the placement of \"{}\"", name.corpus));
  }
  const std::optional<Records::GroupRecord> chosen = Choose(name, placed->group);
  if (!chosen) {
    return engine::Error(absl::StatusCode::kUnavailable, reason::kNoGroup,
                         "no other group is there that could have the corpus's second copy");
  }
  ReplicaRecord record = {.name = name, .group = chosen->group.name};
  TxnRequest request;
  ExpectRevision(request, keys_.Corpus(name), epoch);
  ExpectRevision(request, keys_.Replica(name), known ? known->revision : 0);
  ExpectRevision(request, keys_.Move(name), move ? move->revision : 0);
  ExpectCreated(request, keys_.Group(record.group), chosen->create_revision);
  ExpectRevision(request, keys_.Purge(record.group, name), 0);
  ExpectRevision(request, keys_.Drain(record.group), 0);
  Put(request, keys_.Replica(name), ToValue(record));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  record.revision = response.header().revision();
  WaitRevision(record.revision, std::chrono::steady_clock::now() + kCatchUp);
  if (!response.succeeded()) return Contended(fmt::format("the copies of \"{}\"", name.corpus));
  Log(LogLevel::kInfo, "replica_assigned",
      {{"tenant", name.tenant},
       {"corpus", name.corpus},
       {"group", record.group},
       {"before", known ? known->group : ""}});
  return record;
}

absl::Status EtcdDirectory::UpdateReplica(ReplicaRecord& record) {
  TxnRequest request;
  ExpectRevision(request, keys_.Replica(record.name), record.revision);
  Put(request, keys_.Replica(record.name), ToValue(record));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  const int64_t revision = response.header().revision();
  WaitRevision(revision, std::chrono::steady_clock::now() + kCatchUp);
  if (!response.succeeded()) return absl::AbortedError("the replica was given to another group");
  record.revision = revision;
  return absl::OkStatus();
}

absl::Status EtcdDirectory::DropReplica(const ReplicaRecord& record) {
  TxnRequest request;
  ExpectRevision(request, keys_.Replica(record.name), record.revision);
  Delete(request, keys_.Replica(record.name));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  WaitRevision(response.header().revision(), std::chrono::steady_clock::now() + kCatchUp);
  return absl::OkStatus();
}

absl::StatusOr<bool> EtcdDirectory::TakeOver(const ReplicaRecord& record,
                                             const Placement& placement, int64_t owner_registration,
                                             int64_t registration) {
  if (!record.ready || placement.deleted) return false;
  const engine::CorpusName& name = record.name;
  TxnRequest request;
  ExpectRevision(request, keys_.Corpus(name), placement.epoch);
  ExpectRevision(request, keys_.Replica(name), record.revision);
  ExpectCreated(request, keys_.Group(placement.group), owner_registration);
  ExpectCreated(request, keys_.Group(record.group), registration);
  Put(request, keys_.Corpus(name),
      ToValue(Placement{.group = record.group, .origin = record.origin}));
  Put(request, keys_.Purge(placement.group, name), "{}");
  Delete(request, keys_.Replica(name));
  LECTERN_ASSIGN_OR_RETURN(const TxnResponse response, client_.Txn(request));
  WaitRevision(response.header().revision(), std::chrono::steady_clock::now() + kCatchUp);
  return response.succeeded();
}

}  // namespace lectern::services
