// Eviction of a generation's blocks, and what a rebuild restores.
#include <algorithm>

#include "storage/catalog_store.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

std::set<uint64_t> LineagesOf(const Generation& generation) {
  std::set<uint64_t> lineages;
  for (const GenerationContext& context : generation.contexts) {
    lineages.merge(LineagesOf(context.segments, 0));
  }
  return lineages;
}

}  // namespace

absl::StatusOr<std::vector<Session>> CatalogStore::SessionsOn(uint64_t generation_uid) const {
  absl::StatusOr<std::vector<uint64_t>> uids =
      Children(KeySpace::kGenerationSessions, generation_uid);
  if (!uids.ok()) return uids.status();
  std::vector<Session> sessions;
  for (const uint64_t uid : *uids) {
    absl::StatusOr<Session> session = GetSessionByUid(uid);
    if (absl::IsNotFound(session.status())) continue;  // deleted since
    if (!session.ok()) return session.status();
    sessions.push_back(*std::move(session));
  }
  return sessions;
}

absl::StatusOr<std::vector<CachedGeneration>> CatalogStore::CachedGenerations() const {
  std::vector<CachedGeneration> cached;
  const std::string prefix(1, static_cast<char>(KeySpace::kGeneration));
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Generation> generation = ParseRecord<Generation>(cursor->key(), cursor->value());
    if (!generation.ok()) return generation.status();
    if (generation->residency != Residency::kComplete) continue;
    absl::StatusOr<Corpus> corpus = GetCorpusByUid(generation->corpus_uid);
    if (absl::IsNotFound(corpus.status())) continue;  // deleted since the cursor was made
    if (!corpus.ok()) return corpus.status();
    absl::StatusOr<std::vector<Session>> sessions = SessionsOn(generation->uid);
    if (!sessions.ok()) return sessions.status();
    CachedGeneration& entry = cached.emplace_back();
    entry.uid = generation->uid;
    entry.corpus_uid = corpus->uid;
    entry.tenant_uid = corpus->tenant_uid;
    entry.current = corpus->current_generation == generation->uid;
    entry.pinned = corpus->pinned;
    entry.last_used_time = corpus->last_used_time;
    entry.sessions = static_cast<uint32_t>(sessions->size());
    for (const uint64_t uid : LineagesOf(*generation)) {
      absl::StatusOr<HeldLineage> held = Hold(uid, *generation, *sessions);
      if (absl::IsNotFound(held.status())) continue;
      if (!held.ok()) return held.status();
      entry.bytes += held->bytes;
      entry.lineages.push_back(*held);
    }
  }
  if (!cursor->status().ok()) return cursor->status();
  return cached;
}

absl::StatusOr<HeldLineage> CatalogStore::Hold(uint64_t lineage, const Generation& generation,
                                               const std::vector<Session>& sessions) const {
  absl::StatusOr<Lineage> record = Load<Lineage>(KeySpace::kLineage, lineage, "lineage");
  if (!record.ok()) return record.status();
  HeldLineage held = {.uid = lineage, .bytes = record->bytes};
  const auto is_own = [&](HolderKind kind, uint64_t uid) {
    if (kind == HolderKind::kGeneration) return uid == generation.uid;
    return kind == HolderKind::kSession &&
           std::any_of(sessions.begin(), sessions.end(),
                       [&](const Session& session) { return session.uid == uid; });
  };
  constexpr size_t kHolderOffset = 1 + sizeof(uint64_t);
  const std::string prefix = ObjectKey(KeySpace::kLineageReference, lineage);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    const auto kind = static_cast<HolderKind>(cursor->key()[kHolderOffset]);
    ++held.holders;
    held.own_holders += is_own(kind, KeyNumber64(cursor->key(), kHolderOffset + 1));
  }
  if (!cursor->status().ok()) return cursor->status();
  return held;
}

absl::StatusOr<Generation> CatalogStore::EvictGeneration(uint64_t generation_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Generation> generation = GetGeneration(generation_uid);
  if (!generation.ok()) return generation.status();
  if (generation->residency != Residency::kComplete) {
    return absl::FailedPreconditionError(
        fmt::format("generation {} has no complete cache to evict", generation_uid));
  }
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(generation->corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (corpus->pinned) {
    return absl::FailedPreconditionError(fmt::format("corpus \"{}\" is pinned", corpus->id));
  }
  absl::Status status = DropBlocks(&transaction, Residency::kEvicted, &*generation);
  if (!status.ok()) return status;
  LECTERN_FAIL_POINT(kEvict);
  if (status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kEvicted);
  return generation;
}

absl::Status CatalogStore::DropBlocks(Transaction* transaction, Residency residency,
                                      Generation* generation) {
  absl::StatusOr<std::vector<Session>> sessions = SessionsOn(generation->uid);
  if (!sessions.ok()) return sessions.status();
  const std::set<uint64_t> lineages = LineagesOf(*generation);
  const auto is_evicted = [&](const Segment& segment) {
    return lineages.contains(segment.lineage);
  };
  for (const uint64_t lineage : lineages) {
    transaction->DropReference(KeySpace::kLineageReference, lineage, HolderKind::kGeneration,
                               generation->uid);
  }
  // Sessions keep the blocks of their own turns, and give up what they share with the generation.
  for (Session& session : *sessions) {
    for (const Segment& segment : session.segments) {
      if (!is_evicted(segment)) continue;
      transaction->DropReference(KeySpace::kLineageReference, segment.lineage, HolderKind::kSession,
                                 session.uid);
    }
    std::erase_if(session.segments, is_evicted);
    PutRecord(&transaction->batch(), ObjectKey(KeySpace::kSession, session.uid), session);
  }
  generation->residency = residency;
  for (GenerationContext& context : generation->contexts) context.segments.clear();
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kGeneration, generation->uid), *generation);
  return absl::OkStatus();
}

absl::StatusOr<Generation> CatalogStore::QuarantineGeneration(uint64_t generation_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Generation> generation = GetGeneration(generation_uid);
  if (!generation.ok()) return generation.status();
  if (generation->residency != Residency::kComplete) {
    return absl::FailedPreconditionError(
        fmt::format("generation {} has no complete cache to quarantine", generation_uid));
  }
  absl::Status status = DropBlocks(&transaction, Residency::kQuarantined, &*generation);
  if (!status.ok()) return status;
  LECTERN_FAIL_POINT(kQuarantine);
  if (status = transaction.Commit(); !status.ok()) return status;
  return generation;
}

absl::StatusOr<std::vector<Generation>> CatalogStore::QuarantineBlocks(const Segment& blocks) {
  Transaction transaction(state_);
  absl::StatusOr<Lineage> lineage = Load<Lineage>(KeySpace::kLineage, blocks.lineage, "lineage");
  if (!lineage.ok()) return lineage.status();
  const auto is_damaged = [&](const Segment& segment) {
    return segment.lineage == blocks.lineage && segment.first_block < blocks.end_block() &&
           blocks.first_block < segment.end_block();
  };
  std::vector<Generation> quarantined;
  const std::string prefix(1, static_cast<char>(KeySpace::kGeneration));
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Generation> generation = ParseRecord<Generation>(cursor->key(), cursor->value());
    if (!generation.ok()) continue;  // damage of its own
    bool hit = false;
    for (const GenerationContext& context : generation->contexts) {
      hit = hit || std::any_of(context.segments.begin(), context.segments.end(), is_damaged);
    }
    if (!hit || generation->residency != Residency::kComplete) continue;
    absl::Status status = DropBlocks(&transaction, Residency::kQuarantined, &*generation);
    if (!status.ok()) return status;
    quarantined.push_back(*std::move(generation));
  }
  if (!cursor->status().ok()) return cursor->status();
  // The directory, which knows the hashes, may be what is damaged: the entries are looked for.
  const std::string tenant = HashKey(lineage->tenant_uid, {}).substr(0, sizeof(uint64_t));
  auto hashes = store().NewCursor(ColumnFamily::kHash, tenant, PrefixEnd(tenant));
  for (; hashes->Valid(); hashes->Next()) {
    absl::StatusOr<HashEntry> entry = ParseRecord<HashEntry>(hashes->key(), hashes->value());
    if (!entry.ok() || (entry->lineage == blocks.lineage && entry->block >= blocks.first_block &&
                        entry->block < blocks.end_block())) {
      transaction.batch().Delete(ColumnFamily::kHash, std::string(hashes->key()));
    }
  }
  if (!hashes->status().ok()) return hashes->status();
  LECTERN_FAIL_POINT(kQuarantine);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return quarantined;
}

absl::Status CatalogStore::DropDamagedHashes() {
  Transaction transaction(state_);
  auto cursor = store().NewCursor(ColumnFamily::kHash, "", std::string(16, '\xff'));
  for (; cursor->Valid(); cursor->Next()) {
    if (!absl::IsDataLoss(ParseRecord<HashEntry>(cursor->key(), cursor->value()).status()))
      continue;
    transaction.batch().Delete(ColumnFamily::kHash, std::string(cursor->key()));
  }
  if (!cursor->status().ok()) return cursor->status();
  return transaction.Commit();
}

// A rebuild begins on a generation without blocks, and with its documents alone.
absl::Status CatalogStore::BeginRestore(Transaction* transaction, const IngestRequest& request,
                                        Generation generation) {
  if (generation.residency != Residency::kEvicted &&
      generation.residency != Residency::kQuarantined) {
    return absl::FailedPreconditionError(
        fmt::format("generation {} is not evicted: there is nothing to rebuild", generation.uid));
  }
  const bool same = std::equal(
      request.documents.begin(), request.documents.end(), generation.documents.begin(),
      generation.documents.end(),
      [](uint64_t uid, const GenerationDocument& document) { return uid == document.uid; });
  if (!same || request.geometry != generation.geometry ||
      request.hashes.size() != generation.contexts.size()) {
    return absl::InvalidArgumentError(
        fmt::format("generation {} is rebuilt from its own documents, in their order, with its "
                    "own contexts and geometry",
                    generation.uid));
  }
  generation.residency = Residency::kPartial;
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kGeneration, generation.uid), generation);
  return absl::OkStatus();
}

// Sessions get back what eviction took: the blocks before their first own one.
absl::Status CatalogStore::RestoreSessions(Transaction* transaction, const Generation& generation) {
  absl::StatusOr<std::vector<Session>> sessions = SessionsOn(generation.uid);
  if (!sessions.ok()) return sessions.status();
  for (Session& session : *sessions) {
    const GenerationContext& context = generation.contexts[session.context_index];
    std::vector<Segment> segments =
        session.segments.empty()
            ? context.segments
            : FirstBlocks(context.segments, session.segments.front().first_block);
    for (const uint64_t lineage : LineagesOf(segments, 0)) {
      transaction->AddReference(KeySpace::kLineageReference, lineage, HolderKind::kSession,
                                session.uid);
    }
    segments.insert(segments.end(), session.segments.begin(), session.segments.end());
    session.segments = std::move(segments);
    PutRecord(&transaction->batch(), ObjectKey(KeySpace::kSession, session.uid), session);
  }
  return absl::OkStatus();
}

absl::StatusOr<Operation> CatalogStore::SucceedOperation(uint64_t operation_uid,
                                                         uint64_t generation_uid, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Operation> operation = GetOperation(operation_uid);
  if (!operation.ok()) return operation.status();
  if (operation->state != OperationState::kRunning || GetIngest(operation_uid).ok()) {
    return absl::FailedPreconditionError(
        fmt::format("operation {} has ended, or its ingest has begun", operation_uid));
  }
  if (absl::Status status = GetGeneration(generation_uid).status(); !status.ok()) return status;
  operation->generation_uid = generation_uid;
  CloseOperation(&transaction, &*operation, OperationState::kSucceeded, now);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return operation;
}

absl::Status CatalogStore::UseCorpus(uint64_t corpus_uid, int64_t time) {
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (corpus->last_used_time >= time) return absl::OkStatus();
  corpus->last_used_time = time;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kCorpus, corpus_uid), *corpus);
  return transaction.Commit(Durability::kBuffered);
}

}  // namespace lectern::storage
