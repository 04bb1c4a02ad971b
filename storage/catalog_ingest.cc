// Ingest intents, the blocks they commit, layout parts, generations.
#include <algorithm>

#include <xxhash.h>

#include "storage/catalog_store.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

// Layout pieces of one part are written so many at a time, so that no batch grows with the part.
constexpr size_t kPiecesPerBatch = 8;

void ChangeIntentEdges(Transaction* transaction, const IngestIntent& intent,
                       void (Transaction::*change)(KeySpace, uint64_t, HolderKind, uint64_t)) {
  const auto edge = [&](KeySpace space, uint64_t target) {
    (transaction->*change)(space, target, HolderKind::kIngestIntent, intent.operation_uid);
  };
  for (const IngestContext& context : intent.contexts) {
    for (const uint64_t lineage : LineagesOf(context.reused, context.lineage)) {
      edge(KeySpace::kLineageReference, lineage);
    }
  }
  for (const uint64_t document : intent.documents) edge(KeySpace::kDocumentReference, document);
}

void ChangeGenerationEdges(Transaction* transaction, const Generation& generation,
                           void (Transaction::*change)(KeySpace, uint64_t, HolderKind, uint64_t)) {
  const auto edge = [&](KeySpace space, uint64_t target) {
    (transaction->*change)(space, target, HolderKind::kGeneration, generation.uid);
  };
  for (const GenerationContext& context : generation.contexts) {
    for (const uint64_t lineage : LineagesOf(context.segments, 0)) {
      edge(KeySpace::kLineageReference, lineage);
    }
  }
  for (const GenerationDocument& document : generation.documents) {
    edge(KeySpace::kDocumentReference, document.uid);
  }
}

// One piece of a layout part: the part's size and checksum, so that pieces of two writings do not
// mix, then bytes.
struct LayoutPiece {
  uint64_t part_bytes = 0;
  uint64_t part_checksum = 0;
  std::string_view bytes;
};

absl::StatusOr<LayoutPiece> OpenLayoutPiece(std::string_view key, std::string_view value) {
  absl::StatusOr<OpenedRecord> record =
      OpenRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, key, value);
  if (!record.ok()) return record.status();
  Decoder decoder(record->payload);
  LayoutPiece piece;
  piece.part_bytes = decoder.Varint();
  piece.part_checksum = decoder.Fixed64();
  if (!decoder.ok()) {
    return DamagedRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, key, "malformed");
  }
  piece.bytes = record->payload.substr(record->payload.size() - decoder.remaining());
  return piece;
}

// What a rebuild gives must be what was evicted: nothing that stands on it may notice.
absl::Status CheckRestored(const Generation& evicted, const Generation& rebuilt) {
  bool same = evicted.model_fingerprint == rebuilt.model_fingerprint &&
              evicted.layout_version == rebuilt.layout_version &&
              evicted.extractor_version == rebuilt.extractor_version &&
              evicted.documents == rebuilt.documents &&
              evicted.contexts.size() == rebuilt.contexts.size();
  for (size_t i = 0; same && i < evicted.contexts.size(); ++i) {
    same = evicted.contexts[i].token_count == rebuilt.contexts[i].token_count &&
           evicted.contexts[i].tail_tokens == rebuilt.contexts[i].tail_tokens;
  }
  if (same) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("generation {} was made from other tokens or by another model than those it was "
                  "rebuilt from",
                  evicted.uid));
}

}  // namespace

absl::StatusOr<IngestIntent> CatalogStore::BeginIngest(const IngestRequest& request, int64_t now) {
  if (absl::Status status = request.geometry.Validate(); !status.ok()) return status;
  // The lock is held from the look-up to the references: what is found cannot be purged in between.
  Transaction transaction(state_);
  absl::StatusOr<Operation> operation = GetOperation(request.operation_uid);
  if (!operation.ok()) return operation.status();
  if (operation->state != OperationState::kRunning) {
    return absl::FailedPreconditionError(fmt::format("operation {} has ended", operation->uid));
  }
  const absl::Status taken = GetIngest(request.operation_uid).status();
  if (taken.ok()) {
    return absl::AlreadyExistsError(
        fmt::format("operation {} has an ingest: resume it", operation->uid));
  }
  if (!absl::IsNotFound(taken)) return taken;
  std::optional<Generation> source;
  if (request.source_generation != 0) {
    absl::StatusOr<Generation> generation = GetGeneration(request.source_generation);
    if (!generation.ok()) return generation.status();
    source = *std::move(generation);
  }
  for (const uint64_t uid : request.documents) {
    absl::StatusOr<Document> document = GetDocumentByUid(uid);
    if (!document.ok()) return document.status();
    if ((document->removed && !source.has_value()) ||
        document->corpus_uid != operation->corpus_uid) {
      return absl::NotFoundError(fmt::format("document {} is not in the corpus any more", uid));
    }
  }
  IngestIntent intent;
  intent.operation_uid = request.operation_uid;
  intent.tenant_uid = operation->tenant_uid;
  intent.corpus_uid = operation->corpus_uid;
  intent.generation_uid = request.restore ? request.source_generation : transaction.NewUid();
  intent.create_time = now;
  intent.geometry = request.geometry;
  intent.documents = request.documents;
  intent.plan = request.plan;
  for (const std::vector<BlockHash>& hashes : request.hashes) {
    absl::StatusOr<std::vector<Segment>> reused = ledger_->LookupPrefix(intent.tenant_uid, hashes);
    if (!reused.ok()) return reused.status();
    IngestContext& context = intent.contexts.emplace_back();
    context.reused = *std::move(reused);
    context.first_block = context.reused.empty() ? 0 : context.reused.back().end_block();
    context.end_block = context.first_block;
    context.token_count = uint64_t{context.first_block} * kBlockTokens;
    context.lineage =
        ledger_->Reserve(&transaction, intent.tenant_uid, intent.geometry, context.first_block);
  }
  if (request.restore) {
    absl::Status status = BeginRestore(&transaction, request, *source);
    if (!status.ok()) return status;
  }
  ChangeIntentEdges(&transaction, intent, &Transaction::AddReference);
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kIngestIntent, intent.operation_uid), intent);
  LECTERN_FAIL_POINT(kIngestReferences);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kIngestBegun);
  return intent;
}

absl::StatusOr<IngestIntent> CatalogStore::GetIngest(uint64_t operation_uid) const {
  return Load<IngestIntent>(KeySpace::kIngestIntent, operation_uid, "ingest of operation");
}

absl::Status CatalogStore::UpdateIngestPlan(uint64_t operation_uid, std::string_view plan) {
  Transaction transaction(state_);
  absl::StatusOr<IngestIntent> intent = GetIngest(operation_uid);
  if (!intent.ok()) return intent.status();
  intent->plan = plan;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kIngestIntent, operation_uid), *intent);
  return transaction.Commit();
}

absl::StatusOr<IngestIntent> CatalogStore::CommitIngestBlocks(uint64_t operation_uid,
                                                              uint32_t index,
                                                              const BlockBatch& batch) {
  absl::StatusOr<IngestIntent> intent = GetIngest(operation_uid);
  if (!intent.ok()) return intent.status();
  if (index >= intent->contexts.size()) {
    return absl::InvalidArgumentError(
        fmt::format("the ingest has {} contexts: there is no {}", intent->contexts.size(), index));
  }
  absl::StatusOr<PreparedBlocks> prepared =
      ledger_->Prepare(intent->contexts[index].lineage, batch);
  if (!prepared.ok()) return prepared.status();

  Transaction transaction(state_);
  intent =
      GetIngest(operation_uid);  // another context of it may have advanced, or it was cancelled
  if (!intent.ok()) return intent.status();
  if (absl::Status status = ledger_->Publish(&transaction, &*prepared, /*share=*/true);
      !status.ok()) {
    return status;
  }
  IngestContext& context = intent->contexts[index];
  context.end_block = prepared->after.end_block;
  context.token_count = uint64_t{context.first_block} * kBlockTokens + prepared->after.tokens();
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kIngestIntent, operation_uid), *intent);
  LECTERN_FAIL_POINT(kCommitDirectory);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kCommitPublished);
  return intent;
}

absl::StatusOr<Generation> CatalogStore::PublishGeneration(uint64_t operation_uid,
                                                           const GenerationSpec& spec,
                                                           int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<IngestIntent> intent = GetIngest(operation_uid);
  if (!intent.ok()) return intent.status();
  absl::StatusOr<Operation> operation = GetOperation(operation_uid);
  if (!operation.ok()) return operation.status();
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(intent->corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (spec.contexts.size() != intent->contexts.size()) {
    return absl::InvalidArgumentError(fmt::format("{} contexts for an ingest of {}",
                                                  spec.contexts.size(), intent->contexts.size()));
  }
  Generation generation;
  generation.uid = intent->generation_uid;
  generation.corpus_uid = corpus->uid;
  generation.layout_version = spec.layout_version;
  generation.extractor_version = spec.extractor_version;
  generation.model_fingerprint = spec.model_fingerprint;
  generation.geometry = intent->geometry;
  generation.create_time = intent->create_time;
  generation.publish_time = now;
  absl::StatusOr<Generation> restored = GetGeneration(generation.uid);
  if (!restored.ok() && !absl::IsNotFound(restored.status())) return restored.status();
  for (const uint64_t uid : spec.documents) {
    if (std::find(intent->documents.begin(), intent->documents.end(), uid) ==
        intent->documents.end()) {
      return absl::InvalidArgumentError(fmt::format("document {} is not part of the ingest", uid));
    }
    absl::StatusOr<Document> document = GetDocumentByUid(uid);
    if (!document.ok()) return document.status();
    generation.documents.push_back({uid, document->id, document->display_name, document->sha256});
  }
  for (size_t i = 0; i < spec.contexts.size(); ++i) {
    const IngestContext& stored = intent->contexts[i];
    GenerationContext& context = generation.contexts.emplace_back();
    context.token_count = spec.contexts[i].token_count;
    context.tail_tokens = spec.contexts[i].tail_tokens;
    context.segments = stored.reused;
    if (stored.end_block > stored.first_block) {
      context.segments.push_back(
          {stored.lineage, stored.first_block, stored.end_block - stored.first_block});
    }
    if (context.token_count != stored.token_count) {
      return absl::FailedPreconditionError(
          fmt::format("context {} has {} tokens, and {} are stored", i, context.token_count,
                      stored.token_count));
    }
    if (context.tail_tokens.size() != context.token_count % kBlockTokens) {
      return absl::InvalidArgumentError(
          fmt::format("context {} has {} tokens in its last block, not {}", i,
                      context.token_count % kBlockTokens, context.tail_tokens.size()));
    }
  }
  if (restored.ok()) {
    if (absl::Status status = CheckRestored(*restored, generation); !status.ok()) return status;
    generation.create_time = restored->create_time;
    generation.publish_time = restored->publish_time;
    if (absl::Status status = RestoreSessions(&transaction, generation); !status.ok())
      return status;
  }
  ChangeGenerationEdges(&transaction, generation, &Transaction::AddReference);
  ChangeIntentEdges(&transaction, *intent, &Transaction::DropReference);
  Batch& batch = transaction.batch();
  const Link link = {generation.uid};
  PutRecord(&batch, ObjectKey(KeySpace::kGeneration, generation.uid), generation);
  PutRecord(&batch, ChildKey(KeySpace::kCorpusGenerations, corpus->uid, generation.uid), link);
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kIngestIntent, operation_uid));
  if (!restored.ok()) {
    corpus->current_generation = generation.uid;
    corpus->update_time = now;
  }
  corpus->last_used_time = std::max(corpus->last_used_time, now);
  PutRecord(&batch, ObjectKey(KeySpace::kCorpus, corpus->uid), *corpus);
  operation->generation_uid = generation.uid;
  CloseOperation(&transaction, &*operation, OperationState::kSucceeded, now);
  LECTERN_FAIL_POINT(kManifest);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kManifestPublished);
  return generation;
}

absl::Status CatalogStore::PutLayoutPart(uint64_t operation_uid, uint32_t context, uint32_t part,
                                         std::string_view bytes) {
  const uint64_t checksum = XXH3_64bits(bytes.data(), bytes.size());
  const size_t pieces = std::max<size_t>(1, (bytes.size() + kPieceBytes - 1) / kPieceBytes);
  for (size_t first = 0; first < pieces; first += kPiecesPerBatch) {
    // Under the lock, so that nothing is written for an ingest that has just been removed.
    Transaction transaction(state_);
    absl::StatusOr<IngestIntent> intent = GetIngest(operation_uid);
    if (!intent.ok()) return intent.status();
    for (size_t i = first; i < std::min(pieces, first + kPiecesPerBatch); ++i) {
      Encoder payload;
      payload.Varint(bytes.size());
      payload.Fixed64(checksum);
      payload.Raw(bytes.substr(i * kPieceBytes, kPieceBytes));
      std::string key =
          LayoutPieceKey(intent->generation_uid, context, part, static_cast<uint32_t>(i));
      std::string value =
          SealRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, key, payload.bytes());
      transaction.batch().Put(ColumnFamily::kDocument, std::move(key), std::move(value));
    }
    LECTERN_FAIL_POINT(kLayoutPiece);
    if (absl::Status status = transaction.Commit(Durability::kBuffered); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> CatalogStore::GetLayoutPart(uint64_t generation_uid, uint32_t context,
                                                        uint32_t part) const {
  std::string bytes;
  uint64_t part_bytes = 0;
  uint64_t checksum = 0;
  for (uint32_t i = 0; i == 0 || bytes.size() < part_bytes; ++i) {
    const std::string key = LayoutPieceKey(generation_uid, context, part, i);
    const auto damaged = [&](std::string_view what) {
      return DamagedRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument, key, what);
    };
    PinnedValue value;
    absl::Status status = store().Get(ColumnFamily::kDocument, key, &value);
    if (absl::IsNotFound(status)) {
      if (i > 0) return damaged("missing");
      return absl::NotFoundError(fmt::format("generation {} has no layout part {} of context {}",
                                             generation_uid, part, context));
    }
    if (!status.ok()) return status;
    absl::StatusOr<LayoutPiece> piece = OpenLayoutPiece(key, value.view());
    if (!piece.ok()) return piece.status();
    if (i == 0) {
      part_bytes = piece->part_bytes;
      checksum = piece->part_checksum;
    }
    const bool fits =
        piece->part_bytes == part_bytes && piece->part_checksum == checksum &&
        piece->bytes.size() == std::min<uint64_t>(kPieceBytes, part_bytes - bytes.size());
    if (!fits) return damaged("belongs to another writing of its part");
    bytes.append(piece->bytes);
  }
  if (XXH3_64bits(bytes.data(), bytes.size()) != checksum) {
    return DamagedRecord(RecordKind::kLayoutPiece, ColumnFamily::kDocument,
                         LayoutPieceKey(generation_uid, context, part, 0),
                         "the whole part: checksum mismatch");
  }
  return bytes;
}

absl::Status CatalogStore::RemoveIntent(Transaction* transaction, const IngestIntent& intent,
                                        bool corpus_goes) {
  ChangeIntentEdges(transaction, intent, &Transaction::DropReference);
  transaction->batch().Delete(ColumnFamily::kCatalog,
                              ObjectKey(KeySpace::kIngestIntent, intent.operation_uid));
  absl::StatusOr<Generation> restored = GetGeneration(intent.generation_uid);
  if (!restored.ok() && !absl::IsNotFound(restored.status())) return restored.status();
  if (restored.ok()) {
    // It stays as it was, evicted, and its layout with it.
    restored->residency = Residency::kEvicted;
    if (!corpus_goes) {
      PutRecord(&transaction->batch(), ObjectKey(KeySpace::kGeneration, restored->uid), *restored);
    }
    return absl::OkStatus();
  }
  const std::string layout = LayoutPrefix(intent.generation_uid);
  transaction->DeleteAndReclaim(ColumnFamily::kDocument, layout, PrefixEnd(layout));
  return absl::OkStatus();
}

absl::StatusOr<Generation> CatalogStore::GetGeneration(uint64_t generation_uid) const {
  return Load<Generation>(KeySpace::kGeneration, generation_uid, "generation");
}

absl::StatusOr<Page<Generation>> CatalogStore::ListGenerations(uint64_t corpus_uid,
                                                               const PageRequest& page) const {
  return ListChildrenNewestFirst<Generation>(KeySpace::kCorpusGenerations, corpus_uid,
                                             KeySpace::kGeneration, page);
}

void CatalogStore::RemoveGeneration(Transaction* transaction, const Generation& generation) {
  ChangeGenerationEdges(transaction, generation, &Transaction::DropReference);
  Batch& batch = transaction->batch();
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kGeneration, generation.uid));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kCorpusGenerations, generation.corpus_uid, generation.uid));
  const std::string layout = LayoutPrefix(generation.uid);
  transaction->DeleteAndReclaim(ColumnFamily::kDocument, layout, PrefixEnd(layout));
}

absl::Status CatalogStore::DeleteGeneration(uint64_t generation_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Generation> generation = GetGeneration(generation_uid);
  if (!generation.ok()) return generation.status();
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(generation->corpus_uid);
  if (!corpus.ok()) return corpus.status();
  if (corpus->current_generation == generation_uid) {
    return absl::FailedPreconditionError(fmt::format(
        "generation {} is the current one of corpus \"{}\"", generation_uid, corpus->id));
  }
  if (generation->residency == Residency::kPartial) {
    return absl::FailedPreconditionError(
        fmt::format("generation {} is being rebuilt: cancel that first", generation_uid));
  }
  absl::StatusOr<std::vector<uint64_t>> sessions =
      Children(KeySpace::kGenerationSessions, generation_uid);
  if (!sessions.ok()) return sessions.status();
  if (!sessions->empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "{} sessions run on generation {}: delete them first", sessions->size(), generation_uid));
  }
  RemoveGeneration(&transaction, *generation);
  LECTERN_FAIL_POINT(kGenerationDelete);
  return transaction.Commit();
}

}  // namespace lectern::storage
