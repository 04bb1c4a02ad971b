// The end of an import: everything in one batch, or nothing left of it.
#include <algorithm>

#include "storage/corpus_import.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

uint64_t Mapped(const std::map<uint64_t, uint64_t>& uids, uint64_t source) {
  const auto found = uids.find(source);
  return found == uids.end() ? 0 : found->second;
}

}  // namespace

std::vector<Segment> StoredCorpusImport::Translated(const std::vector<Segment>& segments) const {
  std::vector<Segment> translated = segments;
  for (Segment& segment : translated) segment.lineage = Mapped(lineages_, segment.lineage);
  return translated;
}

Generation StoredCorpusImport::Translated(const Generation& generation) const {
  Generation translated = generation;
  translated.uid = Mapped(generations_, generation.uid);
  translated.corpus_uid = import_.corpus_uid;
  for (GenerationDocument& document : translated.documents) {
    document.uid = Mapped(documents_, document.uid);
  }
  for (GenerationContext& context : translated.contexts) {
    context.segments = Translated(context.segments);
  }
  return translated;
}

absl::Status StoredCorpusImport::CheckBlocks(const std::vector<Segment>& segments,
                                             uint64_t token_count) const {
  for (const Segment& segment : segments) {
    absl::StatusOr<Lineage> lineage = ledger_->LoadLive(Mapped(lineages_, segment.lineage));
    if (!lineage.ok()) return lineage.status();
    const bool last = &segment == &segments.back();
    const uint64_t tokens = uint64_t{lineage->first_block} * kBlockTokens + lineage->tokens();
    if (lineage->end_block < segment.end_block() || lineage->first_block > segment.first_block ||
        tokens < (last ? token_count : uint64_t{segment.end_block()} * kBlockTokens)) {
      return absl::DataLossError("blocks that the corpus stands on did not come");
    }
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::CheckDocuments() const {
  for (const Import::Object& document : import_.documents) {
    if (!document.complete && manifest_.documents.contains(document.source)) {
      return absl::DataLossError("a document of the corpus did not come");
    }
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusImport::CheckComplete() const {
  if (!ended_) return absl::FailedPreconditionError("the round has not ended");
  if (absl::Status status = CheckDocuments(); !status.ok()) return status;
  for (const Import::Object& generation : import_.generations) {
    if (!generation.complete && manifest_.generations.contains(generation.source)) {
      return absl::DataLossError("the layout of a generation did not come");
    }
  }
  for (const auto& [source, generation] : manifest_.generations) {
    if (generation.residency == Residency::kPartial) {
      return absl::FailedPreconditionError("a generation of the corpus is being rebuilt");
    }
    for (const GenerationContext& context : generation.contexts) {
      if (absl::Status status = CheckBlocks(context.segments, context.token_count); !status.ok()) {
        return status;
      }
    }
    for (const GenerationDocument& document : generation.documents) {
      if (!manifest_.documents.contains(document.uid)) {
        return absl::DataLossError("a document of a generation did not come");
      }
    }
  }
  for (const auto& [source, session] : manifest_.sessions) {
    if (absl::Status status = CheckBlocks(session.segments, session.token_count); !status.ok()) {
      return status;
    }
  }
  for (const auto& [source, operation] : manifest_.operations) {
    if (operation.state == OperationState::kRunning) {
      return absl::FailedPreconditionError("an operation of the corpus is running");
    }
  }
  return absl::OkStatus();
}

void StoredCorpusImport::PublishNumber(Transaction* transaction, uint64_t source_uid,
                                       uint64_t uid) {
  const auto known = manifest_.numbers.find(source_uid);
  const uint64_t number = known == manifest_.numbers.end() ? source_uid : known->second;
  // What is made here from now on must not take it.
  transaction->SkipUids(number);
  if (number == uid) return;
  Batch& batch = transaction->batch();
  PutRecord(&batch, ObjectKey(KeySpace::kPublicNumber, uid), Link{number});
  PutRecord(&batch, ChildKey(KeySpace::kCorpusNumbered, import_.corpus_uid, number), Link{uid});
}

void StoredCorpusImport::PublishDocuments(Transaction* transaction) {
  Batch& batch = transaction->batch();
  for (const auto& [source, known] : manifest_.documents) {
    Document document = known;
    document.uid = Mapped(documents_, source);
    document.corpus_uid = import_.corpus_uid;
    const Link link = {document.uid};
    PutRecord(&batch, ObjectKey(KeySpace::kDocument, document.uid), document);
    if (document.removed) continue;
    PutRecord(&batch, NameKey(KeySpace::kDocumentIds, import_.corpus_uid, document.id), link);
    PutRecord(&batch, ChildKey(KeySpace::kCorpusDocuments, import_.corpus_uid, document.ordinal),
              link);
  }
}

void StoredCorpusImport::PublishGenerations(Transaction* transaction) {
  Batch& batch = transaction->batch();
  for (const auto& [source, known] : manifest_.generations) {
    const Generation generation = Translated(known);
    PutRecord(&batch, ObjectKey(KeySpace::kGeneration, generation.uid), generation);
    PutRecord(&batch, ChildKey(KeySpace::kCorpusGenerations, import_.corpus_uid, generation.uid),
              Link{generation.uid});
    for (const GenerationContext& context : generation.contexts) {
      for (const uint64_t lineage : LineagesOf(context.segments, 0)) {
        transaction->AddReference(KeySpace::kLineageReference, lineage, HolderKind::kGeneration,
                                  generation.uid);
      }
    }
    for (const GenerationDocument& document : generation.documents) {
      transaction->AddReference(KeySpace::kDocumentReference, document.uid, HolderKind::kGeneration,
                                generation.uid);
    }
    PublishNumber(transaction, source, generation.uid);
  }
}

void StoredCorpusImport::PublishOperations(Transaction* transaction) {
  Batch& batch = transaction->batch();
  for (const auto& [source, known] : manifest_.operations) {
    Operation operation = known;
    operation.uid = transaction->NewUid();
    operation.tenant_uid = import_.tenant_uid;
    operation.corpus_uid = import_.corpus_uid;
    operation.generation_uid = Mapped(generations_, known.generation_uid);
    const Link link = {operation.uid};
    PutRecord(&batch, ObjectKey(KeySpace::kOperation, link.uid), operation);
    PutRecord(&batch, ChildKey(KeySpace::kTenantOperations, import_.tenant_uid, link.uid), link);
    PutRecord(&batch, ChildKey(KeySpace::kCorpusOperations, import_.corpus_uid, link.uid), link);
    PublishNumber(transaction, source, operation.uid);
  }
}

absl::Status StoredCorpusImport::PublishSessions(Transaction* transaction) {
  Batch& batch = transaction->batch();
  std::map<uint64_t, uint64_t> uids;
  for (const auto& [source, session] : manifest_.sessions) uids[source] = transaction->NewUid();
  for (const auto& [source, known] : manifest_.sessions) {
    Session session = known;
    session.uid = uids[source];
    session.tenant_uid = import_.tenant_uid;
    session.corpus_uid = import_.corpus_uid;
    session.generation_uid = Mapped(generations_, known.generation_uid);
    session.parent_uid = Mapped(uids, known.parent_uid);  // it may be gone already
    session.segments = Translated(known.segments);
    session.lineage = Mapped(lineages_, known.lineage);
    if (const auto renewed = renewed_.find(source); renewed != renewed_.end()) {
      session.lineage = renewed->second;
      session.lineage_first_block = static_cast<uint32_t>(session.token_count / kBlockTokens);
    }
    if (session.generation_uid == 0) {
      return absl::DataLossError("the generation of a session did not come");
    }
    const Link link = {session.uid};
    for (const uint64_t lineage : LineagesOf(session.segments, session.lineage)) {
      transaction->AddReference(KeySpace::kLineageReference, lineage, HolderKind::kSession,
                                session.uid);
    }
    PutRecord(&batch, ObjectKey(KeySpace::kSession, session.uid), session);
    PutRecord(&batch, NameKey(KeySpace::kSessionIds, import_.corpus_uid, session.id), link);
    PutRecord(&batch, ChildKey(KeySpace::kCorpusSessions, import_.corpus_uid, session.uid), link);
    PutRecord(&batch, ChildKey(KeySpace::kGenerationSessions, session.generation_uid, session.uid),
              link);
  }
  std::map<uint64_t, uint32_t> turns;
  for (const auto& [source, turn] : manifest_.turns) {
    ++turns[source];
    PutRecord(&batch, ChildKey(KeySpace::kTurn, uids[source], turn.number), turn);
  }
  for (const auto& [source, session] : manifest_.sessions) {
    if (turns[source] != session.turn_count) {
      return absl::DataLossError(
          fmt::format("{} of {} turns of a session came", turns[source], session.turn_count));
    }
  }
  return absl::OkStatus();
}

// What earlier rounds brought and the corpus does not have any more.
void StoredCorpusImport::DropLeftovers(Transaction* transaction) {
  for (const Import::Object& document : import_.documents) {
    if (manifest_.documents.contains(document.source)) continue;
    const std::string prefix = DocumentPrefix(import_.corpus_uid, document.uid);
    transaction->DeleteAndReclaim(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
  }
  for (const Import::Object& generation : import_.generations) {
    if (manifest_.generations.contains(generation.source)) continue;
    const std::string prefix = LayoutPrefix(generation.uid);
    transaction->DeleteAndReclaim(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
  }
}

absl::StatusOr<Corpus> StoredCorpusImport::Publish() {
  if (absl::Status status = CheckComplete(); !status.ok()) return status;
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = PublishManifest(&transaction);
  if (!corpus.ok()) return corpus;
  LECTERN_FAIL_POINT(kImportPublish);
  // What is there belongs to the corpus now: the lists are needed no more.
  Import published = {.corpus_uid = import_.corpus_uid,
                      .tenant_uid = import_.tenant_uid,
                      .id = import_.id,
                      .source_store = import_.source_store,
                      .source_corpus = import_.source_corpus,
                      .published = true};
  std::swap(import_, published);
  if (absl::Status status = Save(&transaction, Durability::kSynced); !status.ok()) {
    std::swap(import_, published);
    return status;
  }
  LECTERN_KILL_POINT(kImportPublished);
  return corpus;
}

absl::StatusOr<Corpus> StoredCorpusImport::PublishManifest(Transaction* transaction) {
  Corpus corpus = *manifest_.corpus;
  corpus.uid = import_.corpus_uid;
  corpus.tenant_uid = import_.tenant_uid;
  corpus.current_generation = Mapped(generations_, corpus.current_generation);
  if (absl::Status status =
          catalog_->CheckFree(KeySpace::kCorpusIds, import_.tenant_uid, corpus.id, "corpus");
      !status.ok()) {
    return status;
  }
  Batch& batch = transaction->batch();
  PutRecord(&batch, ObjectKey(KeySpace::kCorpus, corpus.uid), corpus);
  PutRecord(&batch, NameKey(KeySpace::kCorpusIds, corpus.tenant_uid, corpus.id), Link{corpus.uid});
  PutRecord(&batch, ChildKey(KeySpace::kTenantCorpora, corpus.tenant_uid, corpus.uid),
            Link{corpus.uid});
  PublishDocuments(transaction);
  PublishGenerations(transaction);
  PublishOperations(transaction);
  if (absl::Status status = PublishSessions(transaction); !status.ok()) return status;
  DropLeftovers(transaction);
  for (const Import::Blocks& blocks : import_.blocks) {
    transaction->DropReference(KeySpace::kLineageReference, blocks.lineage, HolderKind::kImport,
                               import_.corpus_uid);
  }
  const std::string kept = KeptPrefix(import_.corpus_uid);
  batch.DeleteRange(ColumnFamily::kCatalog, kept, PrefixEnd(kept));
  return corpus;
}

absl::StatusOr<std::vector<ImportState>> StoredCorpusImport::List(const CatalogStore& catalog) {
  std::vector<ImportState> imports;
  const std::string prefix(1, static_cast<char>(KeySpace::kImport));
  auto cursor = catalog.store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Import> import = ParseRecord<Import>(cursor->key(), cursor->value());
    if (!import.ok()) return import.status();
    PinnedValue value;
    const absl::Status kept =
        catalog.store().Get(ColumnFamily::kCatalog,
                            KeptKey(import->corpus_uid, KeptPart::kDocuments,
                                    ObjectKey(KeySpace::kCorpus, import->source_corpus)),
                            &value);
    if (!kept.ok() && !absl::IsNotFound(kept)) return kept;
    imports.push_back({import->corpus_uid, import->tenant_uid, import->id, import->source_store,
                       import->source_corpus, import->published, kept.ok()});
  }
  if (!cursor->status().ok()) return cursor->status();
  return imports;
}

absl::Status StoredCorpusImport::Finish(StoreState* state, uint64_t corpus_uid) {
  const std::string key = ObjectKey(KeySpace::kImport, corpus_uid);
  Transaction transaction(state);
  absl::StatusOr<Import> import = LoadRecord<Import>(state->store(), key);
  if (!import.ok()) return import.status();
  if (!import->published) return absl::FailedPreconditionError("the import is not published");
  transaction.batch().Delete(ColumnFamily::kCatalog, key);
  return transaction.Commit();
}

absl::Status StoredCorpusImport::Abandon(StoreState* state, CatalogStore* catalog,
                                         uint64_t corpus_uid, int64_t now) {
  const std::string key = ObjectKey(KeySpace::kImport, corpus_uid);
  absl::StatusOr<Import> import = LoadRecord<Import>(state->store(), key);
  if (!import.ok()) return import.status();
  if (import->published) {
    const absl::Status deleted = catalog->DeleteCorpus(corpus_uid, now);
    if (!deleted.ok() && !absl::IsNotFound(deleted)) return deleted;
  }
  Transaction transaction(state);
  for (const Import::Blocks& blocks : import->blocks) {
    transaction.DropReference(KeySpace::kLineageReference, blocks.lineage, HolderKind::kImport,
                              corpus_uid);
  }
  for (const Import::Object& generation : import->generations) {
    const std::string prefix = LayoutPrefix(generation.uid);
    transaction.DeleteAndReclaim(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
  }
  const std::string documents = CorpusDocumentsPrefix(corpus_uid);
  transaction.DeleteAndReclaim(ColumnFamily::kDocument, documents, PrefixEnd(documents));
  const std::string kept = KeptPrefix(corpus_uid);
  transaction.batch().DeleteRange(ColumnFamily::kCatalog, kept, PrefixEnd(kept));
  transaction.batch().Delete(ColumnFamily::kCatalog, key);
  LECTERN_FAIL_POINT(kImportAbandon);
  return transaction.Commit();
}

}  // namespace lectern::storage
