// Sessions and turns.
#include "storage/catalog_store.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

std::string TurnKey(uint64_t session_uid, uint32_t number) {
  return ChildKey(KeySpace::kTurn, session_uid, number);
}

}  // namespace

absl::StatusOr<Session> CatalogStore::InsertSession(Transaction* transaction, Session session,
                                                    const NewSession& request,
                                                    const Geometry& geometry, int64_t now) {
  absl::Status status = CheckFree(KeySpace::kSessionIds, session.corpus_uid, request.id, "session");
  if (!status.ok()) return status;
  session.uid = transaction->NewUid();
  session.id = request.id;
  session.display_name = request.display_name;
  session.expire_time = request.expire_time;
  session.create_time = now;
  session.update_time = now;
  // Its first block is the partial tail it starts from, if there is one: copy on write.
  session.lineage_first_block = static_cast<uint32_t>(session.token_count / kBlockTokens);
  session.lineage =
      ledger_->Reserve(transaction, session.tenant_uid, geometry, session.lineage_first_block);
  for (const uint64_t lineage : LineagesOf(session.segments, session.lineage)) {
    transaction->AddReference(KeySpace::kLineageReference, lineage, HolderKind::kSession,
                              session.uid);
  }
  Batch& batch = transaction->batch();
  const Link link = {session.uid};
  PutRecord(&batch, ObjectKey(KeySpace::kSession, session.uid), session);
  PutRecord(&batch, NameKey(KeySpace::kSessionIds, session.corpus_uid, session.id), link);
  PutRecord(&batch, ChildKey(KeySpace::kCorpusSessions, session.corpus_uid, session.uid), link);
  PutRecord(&batch, ChildKey(KeySpace::kGenerationSessions, session.generation_uid, session.uid),
            link);
  return session;
}

absl::StatusOr<Session> CatalogStore::CreateSession(uint64_t generation_uid, uint32_t context_index,
                                                    const NewSession& request, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Generation> generation = GetGeneration(generation_uid);
  if (!generation.ok()) return generation.status();
  if (context_index >= generation->contexts.size()) {
    return absl::NotFoundError(fmt::format("generation {} has {} contexts: there is no {}",
                                           generation_uid, generation->contexts.size(),
                                           context_index));
  }
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(generation->corpus_uid);
  if (!corpus.ok()) return corpus.status();
  const GenerationContext& context = generation->contexts[context_index];
  Session session;
  session.tenant_uid = corpus->tenant_uid;
  session.corpus_uid = corpus->uid;
  session.generation_uid = generation_uid;
  session.context_index = context_index;
  session.token_count = context.token_count;
  session.segments = context.segments;
  absl::StatusOr<Session> inserted =
      InsertSession(&transaction, std::move(session), request, generation->geometry, now);
  if (!inserted.ok()) return inserted.status();
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return inserted;
}

absl::StatusOr<Session> CatalogStore::GetSession(uint64_t corpus_uid, std::string_view id) const {
  return LoadNamed<Session>(KeySpace::kSessionIds, corpus_uid, id, KeySpace::kSession, "session");
}

absl::StatusOr<Session> CatalogStore::GetSessionByUid(uint64_t session_uid) const {
  return Load<Session>(KeySpace::kSession, session_uid, "session");
}

absl::StatusOr<Page<Session>> CatalogStore::ListSessions(uint64_t corpus_uid,
                                                         const PageRequest& page) const {
  return ListChildren<Session>(KeySpace::kCorpusSessions, corpus_uid, KeySpace::kSession, page);
}

absl::StatusOr<Session> CatalogStore::ForkSession(uint64_t parent_uid, uint32_t turn_count,
                                                  const NewSession& request, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Session> parent = GetSessionByUid(parent_uid);
  if (!parent.ok()) return parent.status();
  if (turn_count > parent->turn_count) {
    return absl::InvalidArgumentError(
        fmt::format("session \"{}\" has {} turns: it cannot be forked at {}", parent->id,
                    parent->turn_count, turn_count));
  }
  absl::StatusOr<Generation> generation = GetGeneration(parent->generation_uid);
  if (!generation.ok()) return generation.status();
  Session fork = *parent;
  fork.parent_uid = parent_uid;
  fork.fork_turn = turn_count;
  fork.turn_count = turn_count;
  std::vector<Turn> turns;
  for (uint32_t number = 0; number < turn_count; ++number) {
    absl::StatusOr<Turn> turn = GetTurn(parent_uid, number);
    if (!turn.ok()) return turn.status();
    turns.push_back(*std::move(turn));
  }
  if (turns.empty()) {
    const GenerationContext& context = generation->contexts[parent->context_index];
    fork.token_count = context.token_count;
    fork.segments = context.segments;
  } else {
    // The last of these blocks may have grown since: its first tokens are still the fork's.
    fork.token_count = turns.back().token_count;
    fork.segments =
        FirstBlocks(parent->segments,
                    static_cast<uint32_t>((fork.token_count + kBlockTokens - 1) / kBlockTokens));
  }
  absl::StatusOr<Session> inserted =
      InsertSession(&transaction, std::move(fork), request, generation->geometry, now);
  if (!inserted.ok()) return inserted.status();
  for (const Turn& turn : turns) {
    PutRecord(&transaction.batch(), TurnKey(inserted->uid, turn.number), turn);
  }
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return inserted;
}

absl::StatusOr<Session> CatalogStore::CommitTurn(uint64_t session_uid, const Turn& turn,
                                                 const BlockBatch& batch, int64_t now) {
  absl::StatusOr<Session> session = GetSessionByUid(session_uid);
  if (!session.ok()) return session.status();
  const auto wrong_turn = [&](uint32_t next) {
    return absl::FailedPreconditionError(fmt::format(
        "the next turn of session \"{}\" is {}, not {}", session->id, next, turn.number));
  };
  if (turn.number != session->turn_count) return wrong_turn(session->turn_count);
  std::optional<PreparedBlocks> prepared;
  if (!batch.blocks.empty()) {
    if (batch.first_block != session->token_count / kBlockTokens) {
      return absl::FailedPreconditionError(fmt::format(
          "session \"{}\" has {} tokens: its next commit begins at block {}, not {}", session->id,
          session->token_count, session->token_count / kBlockTokens, batch.first_block));
    }
    absl::StatusOr<PreparedBlocks> blocks = ledger_->Prepare(session->lineage, batch);
    if (!blocks.ok()) return blocks.status();
    prepared = *std::move(blocks);
  }

  Transaction transaction(state_);
  absl::StatusOr<Session> now_session = GetSessionByUid(session_uid);
  if (!now_session.ok()) return now_session.status();
  if (now_session->turn_count != turn.number) return wrong_turn(now_session->turn_count);
  session = std::move(now_session);
  const std::set<uint64_t> lineages_before = LineagesOf(session->segments, session->lineage);
  if (prepared.has_value()) {
    absl::Status status = ledger_->Publish(&transaction, &*prepared, /*share=*/false);
    if (!status.ok()) return status;
    const Lineage& lineage = prepared->after;
    session->segments = FirstBlocks(session->segments, lineage.first_block);
    session->segments.push_back({session->lineage, lineage.first_block, lineage.block_count()});
    session->token_count = uint64_t{lineage.first_block} * kBlockTokens + lineage.tokens();
  }
  if (turn.token_count != session->token_count) {
    return absl::FailedPreconditionError(
        fmt::format("turn {} says the context has {} tokens, and its blocks add up to {}",
                    turn.number, turn.token_count, session->token_count));
  }
  // A fork's first turn copies the parent's tail block, and may not need that lineage any more.
  const std::set<uint64_t> lineages_after = LineagesOf(session->segments, session->lineage);
  for (const uint64_t lineage : lineages_before) {
    if (!lineages_after.contains(lineage)) {
      transaction.DropReference(KeySpace::kLineageReference, lineage, HolderKind::kSession,
                                session_uid);
    }
  }
  session->turn_count += 1;
  session->update_time = now;
  PutRecord(&transaction.batch(), TurnKey(session_uid, turn.number), turn);
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kSession, session_uid), *session);
  LECTERN_FAIL_POINT(kTurnCommit);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kTurnCommitted);
  return session;
}

absl::StatusOr<Session> CatalogStore::UpdateSessionExpiry(uint64_t session_uid,
                                                          std::optional<int64_t> expire_time,
                                                          int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Session> session = GetSessionByUid(session_uid);
  if (!session.ok()) return session.status();
  session->expire_time = expire_time;
  session->update_time = now;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kSession, session_uid), *session);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return session;
}

absl::StatusOr<Turn> CatalogStore::GetTurn(uint64_t session_uid, uint32_t number) const {
  absl::StatusOr<Turn> turn = LoadRecord<Turn>(store(), TurnKey(session_uid, number));
  if (absl::IsNotFound(turn.status())) {
    return absl::NotFoundError(fmt::format("session {} has no turn {}", session_uid, number));
  }
  return turn;
}

absl::StatusOr<Page<Turn>> CatalogStore::ListTurns(uint64_t session_uid,
                                                   const PageRequest& request) const {
  absl::StatusOr<uint64_t> start = PageStart(KeySpace::kTurn, session_uid, request);
  if (!start.ok()) return start.status();
  Page<Turn> page;
  auto cursor =
      store().NewCursor(ColumnFamily::kCatalog, ChildKey(KeySpace::kTurn, session_uid, *start),
                        PrefixEnd(ObjectKey(KeySpace::kTurn, session_uid)));
  for (; cursor->Valid(); cursor->Next()) {
    if (page.items.size() == PageSize(request)) {
      page.next_token = PageToken(KeySpace::kTurn, session_uid, page.items.back().number);
      break;
    }
    absl::StatusOr<Turn> turn = ParseRecord<Turn>(cursor->key(), cursor->value());
    if (!turn.ok()) return turn.status();
    page.items.push_back(*std::move(turn));
  }
  if (!cursor->status().ok()) return cursor->status();
  return page;
}

absl::Status CatalogStore::RemoveSession(Transaction* transaction, const Session& session) {
  Batch& batch = transaction->batch();
  const std::string turns = ObjectKey(KeySpace::kTurn, session.uid);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, turns, PrefixEnd(turns));
  for (; cursor->Valid(); cursor->Next()) {
    batch.Delete(ColumnFamily::kCatalog, std::string(cursor->key()));
  }
  if (!cursor->status().ok()) return cursor->status();
  for (const uint64_t lineage : LineagesOf(session.segments, session.lineage)) {
    transaction->DropReference(KeySpace::kLineageReference, lineage, HolderKind::kSession,
                               session.uid);
  }
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kSession, session.uid));
  batch.Delete(ColumnFamily::kCatalog,
               NameKey(KeySpace::kSessionIds, session.corpus_uid, session.id));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kCorpusSessions, session.corpus_uid, session.uid));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kGenerationSessions, session.generation_uid, session.uid));
  return absl::OkStatus();
}

absl::Status CatalogStore::DeleteSession(uint64_t session_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Session> session = GetSessionByUid(session_uid);
  if (!session.ok()) return session.status();
  if (absl::Status status = RemoveSession(&transaction, *session); !status.ok()) return status;
  LECTERN_FAIL_POINT(kSessionDelete);
  return transaction.Commit();
}

absl::StatusOr<std::vector<Session>> CatalogStore::ExpiredSessions(int64_t now,
                                                                   size_t limit) const {
  return Expired<Session>(KeySpace::kSession, now, limit);
}

}  // namespace lectern::storage
