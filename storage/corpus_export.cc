#include "storage/corpus_export.h"

#include <algorithm>

namespace lectern::storage {

absl::StatusOr<std::unique_ptr<CorpusExport>> StoredCorpusExport::Open(
    StoreState* state, const LineageLedger* ledger, const CatalogStore* catalog,
    uint64_t corpus_uid, const TransferHave& have, const TransferRound& round) {
  std::unique_ptr<StoredCorpusExport> out(new StoredCorpusExport(state, ledger, catalog, round));
  {
    // One moment for all of it, and no lineage goes before it is pinned.
    const Transaction lock(state);
    if (absl::Status status = out->TakeCatalog(corpus_uid); !status.ok()) return status;
    if (absl::Status status = out->PinBlocks(); !status.ok()) return status;
  }
  out->LeaveOut(have);
  for (const Document& document : out->documents_) out->bytes_ += document.byte_length;
  return std::unique_ptr<CorpusExport>(std::move(out));
}

absl::Status StoredCorpusExport::Take(const std::string& key) {
  absl::StatusOr<TransferRecord> record = Read(ColumnFamily::kCatalog, key);
  if (absl::IsNotFound(record.status())) {
    return absl::DataLossError("a record that another one names is missing: verify the store");
  }
  if (!record.ok()) return record.status();
  records_.push_back(*std::move(record));
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::TakeNumber(uint64_t uid) {
  absl::StatusOr<TransferRecord> record =
      Read(ColumnFamily::kCatalog, ObjectKey(KeySpace::kPublicNumber, uid));
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  if (!record.ok()) return record.status();
  records_.push_back(*std::move(record));
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::TakeCatalog(uint64_t corpus_uid) {
  absl::StatusOr<Corpus> corpus = catalog_.GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();
  tenant_uid_ = corpus->tenant_uid;
  if (absl::Status status = Take(ObjectKey(KeySpace::kCorpus, corpus_uid)); !status.ok()) {
    return status;
  }
  if (absl::Status status = TakeGenerations(corpus_uid); !status.ok()) return status;
  if (absl::Status status = TakeDocuments(corpus_uid); !status.ok()) return status;
  if (absl::Status status = TakeOperations(corpus_uid); !status.ok()) return status;
  return TakeSessions(corpus_uid);
}

void StoredCorpusExport::Need(const Segment& segment, uint32_t end_block) {
  const uint32_t end = std::min(segment.end_block(), end_block);
  if (end <= segment.first_block) return;
  auto [found, inserted] = blocks_.try_emplace(segment.lineage, Blocks{segment.first_block, end});
  if (inserted) return;
  found->second.first_block = std::min(found->second.first_block, segment.first_block);
  found->second.end_block = std::max(found->second.end_block, end);
}

absl::Status StoredCorpusExport::TakeGenerations(uint64_t corpus_uid) {
  absl::StatusOr<std::vector<uint64_t>> uids =
      catalog_.Children(KeySpace::kCorpusGenerations, corpus_uid);
  if (!uids.ok()) return uids.status();
  for (const uint64_t uid : *uids) {
    absl::StatusOr<Generation> generation = catalog_.GetGeneration(uid);
    if (!generation.ok()) return generation.status();
    if (absl::Status status = Take(ObjectKey(KeySpace::kGeneration, uid)); !status.ok()) {
      return status;
    }
    if (absl::Status status = TakeNumber(uid); !status.ok()) return status;
    for (const GenerationDocument& document : generation->documents) {
      document_uids_.insert(document.uid);
    }
    // The layout of one that is being rebuilt is being written anew.
    if (generation->residency != Residency::kPartial) layouts_.push_back(uid);
    for (const GenerationContext& context : generation->contexts) {
      for (const Segment& segment : context.segments) Need(segment, UINT32_MAX);
    }
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::TakeDocuments(uint64_t corpus_uid) {
  absl::StatusOr<std::vector<uint64_t>> uids =
      catalog_.Children(KeySpace::kCorpusDocuments, corpus_uid);
  if (!uids.ok()) return uids.status();
  document_uids_.insert(uids->begin(), uids->end());
  for (const uint64_t uid : document_uids_) {
    absl::StatusOr<Document> document = catalog_.GetDocumentByUid(uid);
    if (!document.ok()) return document.status();
    if (absl::Status status = Take(ObjectKey(KeySpace::kDocument, uid)); !status.ok()) {
      return status;
    }
    documents_.push_back(*std::move(document));
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::TakeOperations(uint64_t corpus_uid) {
  absl::StatusOr<std::vector<uint64_t>> uids =
      catalog_.Children(KeySpace::kCorpusOperations, corpus_uid);
  if (!uids.ok()) return uids.status();
  for (const uint64_t uid : *uids) {
    absl::StatusOr<Operation> operation = catalog_.GetOperation(uid);
    if (!operation.ok()) return operation.status();
    if (operation->state == OperationState::kRunning) {
      if (!round_.last) continue;
      return absl::FailedPreconditionError(
          fmt::format("operation {} of the corpus is running", uid));
    }
    if (absl::Status status = Take(ObjectKey(KeySpace::kOperation, uid)); !status.ok()) {
      return status;
    }
    if (absl::Status status = TakeNumber(uid); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::TakeSessions(uint64_t corpus_uid) {
  const bool whole = round_.last || round_.turns;
  absl::StatusOr<std::vector<uint64_t>> uids =
      catalog_.Children(KeySpace::kCorpusSessions, corpus_uid);
  if (!uids.ok()) return uids.status();
  for (const uint64_t uid : *uids) {
    absl::StatusOr<Session> session = catalog_.GetSessionByUid(uid);
    if (!session.ok()) return session.status();
    if (absl::Status status = Take(ObjectKey(KeySpace::kSession, uid)); !status.ok()) {
      return status;
    }
    // A partial block may be replaced by a longer one.
    const uint32_t end =
        whole ? UINT32_MAX : static_cast<uint32_t>(session->token_count / kBlockTokens);
    for (const Segment& segment : session->segments) Need(segment, end);
    if (!whole) continue;
    const std::string turns = ObjectKey(KeySpace::kTurn, uid);
    auto cursor = store().NewCursor(ColumnFamily::kCatalog, turns, PrefixEnd(turns));
    for (; cursor->Valid(); cursor->Next()) {
      records_.push_back(
          {ColumnFamily::kCatalog, std::string(cursor->key()), std::string(cursor->value())});
    }
    if (!cursor->status().ok()) return cursor->status();
  }
  return absl::OkStatus();
}

absl::Status StoredCorpusExport::PinBlocks() {
  for (const auto& [lineage, blocks] : blocks_) {
    pins_.emplace_back(&state_, lineage);
    if (absl::Status status = ledger_.LoadLive(lineage).status(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void StoredCorpusExport::LeaveOut(const TransferHave& have) {
  const std::set<uint64_t> documents(have.documents.begin(), have.documents.end());
  std::erase_if(documents_,
                [&](const Document& document) { return documents.contains(document.uid); });
  const std::set<uint64_t> layouts(have.generations.begin(), have.generations.end());
  std::erase_if(layouts_, [&](uint64_t uid) { return layouts.contains(uid); });
  for (const TransferHave::Blocks& had : have.blocks) {
    const auto found = blocks_.find(had.lineage);
    if (found == blocks_.end()) continue;
    uint32_t end_block = had.end_block;
    if (had.tail_tokens != 0) {
      const absl::StatusOr<Lineage> record = ledger_.LoadLive(had.lineage);
      const bool same = record.ok() && record->end_block == had.end_block + 1 &&
                        record->tail_tokens == had.tail_tokens;
      end_block += same ? 1 : 0;
    }
    found->second.first_block = std::max(found->second.first_block, end_block);
    if (found->second.first_block >= found->second.end_block) blocks_.erase(found);
  }
  // Taken from the back.
  std::reverse(documents_.begin(), documents_.end());
  std::reverse(layouts_.begin(), layouts_.end());
  for (const auto& [lineage, blocks] : blocks_) {
    const absl::StatusOr<Lineage> record = ledger_.LoadLive(lineage);  // pinned, so it is there
    if (!record.ok()) continue;
    const Geometry& geometry = record->geometry;
    const uint64_t block_bytes = geometry.layers * geometry.KvBytes(kBlockTokens) +
                                 geometry.IndexedLayers() * geometry.IndexBytes(kBlockTokens);
    bytes_ += block_bytes * (blocks.end_block - blocks.first_block);
  }
}

absl::StatusOr<TransferRecord> StoredCorpusExport::Read(ColumnFamily family,
                                                        const std::string& key) const {
  PinnedValue value;
  if (absl::Status status = store().Get(family, key, &value); !status.ok()) return status;
  return TransferRecord{family, key, std::string(value.view())};
}

absl::Status StoredCorpusExport::Gone(const absl::Status& owner, ColumnFamily family,
                                      const std::string& key) const {
  if (absl::IsNotFound(owner)) {
    return absl::AbortedError("what was to be copied was deleted meanwhile");
  }
  if (!owner.ok()) return owner;
  return absl::DataLossError(fmt::format(
      "a record of the family {} that should be there is missing", ColumnFamilyName(family)));
}

absl::StatusOr<std::optional<TransferRecord>> StoredCorpusExport::Next() {
  if (next_record_ < records_.size()) return std::move(records_[next_record_++]);
  for (const auto phase : {&StoredCorpusExport::NextChunk, &StoredCorpusExport::NextPiece,
                           &StoredCorpusExport::NextBlock}) {
    absl::StatusOr<std::optional<TransferRecord>> record = (this->*phase)();
    if (!record.ok() || record->has_value()) return record;
  }
  return std::nullopt;
}

bool StoredCorpusExport::LeavesRest() {
  if (cache_bytes_ < round_.cache_bytes) return false;
  more_ = more_ || !layouts_.empty() || !blocks_.empty();
  layouts_.clear();
  blocks_.clear();
  return true;
}

absl::StatusOr<std::optional<TransferRecord>> StoredCorpusExport::NextChunk() {
  while (!documents_.empty()) {
    const Document& document = documents_.back();
    if (uint64_t{next_chunk_} * kPieceBytes >= document.byte_length) {
      documents_.pop_back();
      next_chunk_ = 0;
      continue;
    }
    const std::string key = DocumentChunkKey(document.corpus_uid, document.uid, next_chunk_);
    absl::StatusOr<TransferRecord> record = Read(ColumnFamily::kDocument, key);
    if (absl::IsNotFound(record.status())) {
      return Gone(catalog_.GetDocumentByUid(document.uid).status(), ColumnFamily::kDocument, key);
    }
    if (!record.ok()) return record.status();
    ++next_chunk_;
    return *std::move(record);
  }
  return std::nullopt;
}

absl::StatusOr<std::optional<TransferRecord>> StoredCorpusExport::NextPiece() {
  while (!layouts_.empty()) {
    if (pieces_ == nullptr && LeavesRest()) return std::nullopt;
    const std::string prefix = LayoutPrefix(layouts_.back());
    if (pieces_ == nullptr) {
      pieces_ = store().NewCursor(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
      if (!pieces_->Valid() && pieces_->status().ok()) {
        return Gone(catalog_.GetGeneration(layouts_.back()).status(), ColumnFamily::kDocument,
                    prefix);
      }
    }
    if (pieces_->Valid()) {
      TransferRecord record = {ColumnFamily::kDocument, std::string(pieces_->key()),
                               std::string(pieces_->value())};
      pieces_->Next();
      cache_bytes_ += record.value.size();
      return record;
    }
    if (!pieces_->status().ok()) return pieces_->status();
    pieces_.reset();
    layouts_.pop_back();
  }
  return std::nullopt;
}

absl::Status StoredCorpusExport::OpenLineage() {
  const auto& [lineage, blocks] = *blocks_.begin();
  absl::StatusOr<Lineage> record = ledger_.LoadLive(lineage);
  if (absl::IsNotFound(record.status())) return absl::AbortedError("blocks were deleted meanwhile");
  if (!record.ok()) return record.status();
  lineage_ = *std::move(record);
  auto runs = ledger_.LoadRuns(lineage, blocks.end_block);
  if (!runs.ok()) return runs.status();
  runs_ = *std::move(runs);
  next_run_ = 0;
  opened_ = true;
  queue_ = {{ColumnFamily::kCatalog, ObjectKey(KeySpace::kLineage, lineage), std::nullopt}};
  return absl::OkStatus();
}

void StoredCorpusExport::QueueRun(uint64_t lineage, uint32_t first_block, const BlockRun& run,
                                  const Blocks& blocks) {
  queue_.push_back({ColumnFamily::kCatalog, BlockRunKey(lineage, first_block), std::nullopt});
  for (uint16_t layer = 0; layer < lineage_.geometry.layers; ++layer) {
    if (lineage_.geometry.indexed[layer] == 0) continue;
    queue_.push_back({ColumnFamily::kIndexKeys,
                      IndexKey(tenant_uid_, lineage, RecordKind::kIndexBf16, first_block, layer),
                      std::nullopt});
  }
  const auto run_end = first_block + static_cast<uint32_t>(run.blocks.size());
  for (uint32_t block = std::max(first_block, blocks.first_block);
       block < std::min(run_end, blocks.end_block); ++block) {
    for (uint16_t layer = 0; layer < lineage_.geometry.layers; ++layer) {
      queue_.push_back(
          {ColumnFamily::kKv, KvKey(tenant_uid_, lineage, block, layer), std::nullopt});
    }
  }
  std::reverse(queue_.begin(), queue_.end());
}

absl::Status StoredCorpusExport::HoldTail(uint64_t lineage, uint32_t first_block,
                                          const BlockRun& run, const Blocks& blocks) {
  for (Queued& queued : queue_) {
    absl::StatusOr<TransferRecord> record = Read(queued.family, queued.key);
    if (absl::IsNotFound(record.status())) {
      return Gone(ledger_.LoadLive(lineage).status(), queued.family, queued.key);
    }
    if (!record.ok()) return record.status();
    queued.value = std::move(record->value);
  }
  const auto now = ledger_.LoadRuns(lineage, blocks.end_block);
  if (!now.ok()) return now.status();
  if (now->empty() || now->back().first != first_block || now->back().second != run) {
    return absl::AbortedError("a session's last block has grown meanwhile");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TransferRecord>> StoredCorpusExport::NextBlock() {
  while (!blocks_.empty()) {
    if (queue_.empty() && LeavesRest()) break;
    const auto [lineage, blocks] = *blocks_.begin();
    if (!opened_) {
      if (absl::Status status = OpenLineage(); !status.ok()) return status;
    }
    if (!queue_.empty()) {
      const Queued next = std::move(queue_.back());
      queue_.pop_back();
      const auto& [family, key, value] = next;
      if (value) {
        if (family != ColumnFamily::kCatalog) cache_bytes_ += value->size();
        return TransferRecord{family, key, *value};
      }
      absl::StatusOr<TransferRecord> record = Read(family, key);
      if (absl::IsNotFound(record.status())) {
        return Gone(ledger_.LoadLive(lineage).status(), family, key);
      }
      if (!record.ok()) return record.status();
      if (family != ColumnFamily::kCatalog) cache_bytes_ += record->value.size();
      return *std::move(record);
    }
    if (next_run_ < runs_.size()) {
      const auto& [first_block, run] = runs_[next_run_++];
      if (first_block + run.blocks.size() > blocks.first_block) {
        QueueRun(lineage, first_block, run, blocks);
        if (!round_.last && run.blocks.back().tokens < kBlockTokens) {
          const absl::Status held = HoldTail(lineage, first_block, run, blocks);
          if (!held.ok()) return held;
        }
      }
      continue;
    }
    blocks_.erase(blocks_.begin());
    opened_ = false;
  }
  return std::nullopt;
}

}  // namespace lectern::storage
