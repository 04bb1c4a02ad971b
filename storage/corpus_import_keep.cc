// A replica: an import that is never over while its source lives, and what is made of it when that
// is lost.
#include <algorithm>

#include "storage/corpus_import.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

constexpr size_t kPartOffset = kSecondOffset;
constexpr size_t kSourceKeyOffset = kPartOffset + 1;

// In which parts a record is kept: sessions in both, for one that was deleted must not come back
// with the cache of an earlier moment.
bool IsKept(KeySpace space, KeptPart part) {
  switch (space) {
    case KeySpace::kCorpus:
    case KeySpace::kDocument:
      return part == KeptPart::kDocuments;
    case KeySpace::kSession:
      return true;
    default:
      return part == KeptPart::kCache;
  }
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> StoredCorpusImport::Kept() const {
  std::map<std::string, std::string> kept;
  const std::string prefix = KeptPrefix(import_.corpus_uid);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<KeptRecord> record = ParseRecord<KeptRecord>(cursor->key(), cursor->value());
    if (!record.ok()) return record.status();
    kept.emplace(cursor->key(), std::move(record->value));
  }
  if (!cursor->status().ok()) return cursor->status();
  return kept;
}

absl::StatusOr<bool> StoredCorpusImport::Keep(bool cache) {
  if (!ended_) return absl::FailedPreconditionError("the round has not ended");
  if (absl::Status status = CheckDocuments(); !status.ok()) return status;
  for (const auto& [source, generation] : manifest_.generations) {
    cache = cache && generation.residency != Residency::kPartial;
  }
  if (cache) {
    if (absl::Status status = CheckComplete(); !status.ok()) return status;
  }
  Transaction transaction(state_);
  absl::StatusOr<std::map<std::string, std::string>> before = Kept();
  if (!before.ok()) return before.status();
  Batch& batch = transaction.batch();
  for (const KeptPart part : {KeptPart::kDocuments, KeptPart::kCache}) {
    if (part == KeptPart::kCache && !cache) continue;
    for (const auto& [source_key, value] : manifest_.records) {
      if (!IsKept(static_cast<KeySpace>(source_key[0]), part)) continue;
      std::string key = KeptKey(import_.corpus_uid, part, source_key);
      const auto known = before->find(key);
      const bool same = known != before->end() && known->second == value;
      if (known != before->end()) before->erase(known);
      if (!same) PutRecord(&batch, std::move(key), KeptRecord{value});
    }
  }
  for (const auto& [key, value] : *before) {
    if (cache || key[kPartOffset] == static_cast<char>(KeptPart::kDocuments)) {
      batch.Delete(ColumnFamily::kCatalog, key);
    }
  }
  if (cache) Trim(&transaction);
  LECTERN_FAIL_POINT(kImportKeep);
  if (absl::Status status = Save(&transaction, Durability::kSynced); !status.ok()) return status;
  LECTERN_KILL_POINT(kImportKept);
  return cache;
}

void StoredCorpusImport::Trim(Transaction* transaction) {
  std::set<uint64_t> lineages;
  for (const auto& [source, generation] : manifest_.generations) {
    for (const GenerationContext& context : generation.contexts) {
      lineages.merge(LineagesOf(context.segments, 0));
    }
  }
  for (const auto& [source, session] : manifest_.sessions) {
    lineages.merge(LineagesOf(session.segments, session.lineage));
  }
  // Deletes the bytes here, too.
  DropLeftovers(transaction);
  std::erase_if(import_.documents, [&](const Import::Object& document) {
    return !manifest_.documents.contains(document.source);
  });
  std::erase_if(import_.generations, [&](const Import::Object& generation) {
    return !manifest_.generations.contains(generation.source);
  });
  for (const Import::Blocks& blocks : import_.blocks) {
    if (lineages.contains(blocks.source)) continue;
    transaction->DropReference(KeySpace::kLineageReference, blocks.lineage, HolderKind::kImport,
                               import_.corpus_uid);
  }
  std::erase_if(import_.blocks,
                [&](const Import::Blocks& blocks) { return !lineages.contains(blocks.source); });
  std::erase_if(documents_,
                [&](const auto& uids) { return !manifest_.documents.contains(uids.first); });
  std::erase_if(generations_,
                [&](const auto& uids) { return !manifest_.generations.contains(uids.first); });
  std::erase_if(lineages_, [&](const auto& uids) { return !lineages.contains(uids.first); });
}

absl::Status StoredCorpusImport::LoadKept(std::set<uint64_t>* sessions) {
  absl::StatusOr<std::map<std::string, std::string>> kept = Kept();
  if (!kept.ok()) return kept.status();
  if (kept->empty()) return absl::NotFoundError("nothing of the corpus was kept");
  BeginRound();
  for (const auto& [key, value] : *kept) {
    const TransferRecord record = {ColumnFamily::kCatalog, key.substr(kSourceKeyOffset), value};
    const auto part = static_cast<KeptPart>(key[kPartOffset]);
    if (record.key.empty()) return OutOfPlace(record, "its key is too short");
    if (part == KeptPart::kDocuments &&
        static_cast<KeySpace>(record.key[0]) == KeySpace::kSession) {
      absl::StatusOr<Session> session = ParseOwn<Session>(record, KeySpace::kSession);
      if (!session.ok()) return session.status();
      sessions->insert(session->uid);
    } else if (absl::Status status = TakeCatalog(record); !status.ok()) {
      return status;
    }
  }
  ended_ = true;
  return absl::OkStatus();
}

void StoredCorpusImport::LeaveOutIncomplete(const std::set<uint64_t>& sessions) {
  std::set<uint64_t> layouts;
  for (const Import::Object& generation : import_.generations) {
    if (generation.complete) layouts.insert(generation.source);
  }
  std::erase_if(manifest_.generations, [&](const auto& known) {
    const Generation& generation = known.second;
    return !layouts.contains(generation.uid) ||
           std::any_of(generation.documents.begin(), generation.documents.end(),
                       [&](const GenerationDocument& document) {
                         return !manifest_.documents.contains(document.uid);
                       }) ||
           std::any_of(generation.contexts.begin(), generation.contexts.end(),
                       [&](const GenerationContext& context) {
                         return !CheckBlocks(context.segments, context.token_count).ok();
                       });
  });
  std::erase_if(manifest_.sessions, [&](const auto& known) {
    const Session& session = known.second;
    return !sessions.contains(session.uid) ||
           !manifest_.generations.contains(session.generation_uid) ||
           !CheckBlocks(session.segments, session.token_count).ok();
  });
  std::erase_if(manifest_.turns,
                [&](const auto& turn) { return !manifest_.sessions.contains(turn.first); });
  // Those that only a generation had which is not here.
  std::set<uint64_t> referenced;
  for (const auto& [source, generation] : manifest_.generations) {
    for (const GenerationDocument& document : generation.documents) referenced.insert(document.uid);
  }
  std::erase_if(manifest_.documents, [&](const auto& document) {
    return document.second.removed && !referenced.contains(document.first);
  });
  uint64_t& current = manifest_.corpus->current_generation;
  if (!manifest_.generations.contains(current)) {
    current = manifest_.generations.empty() ? 0 : manifest_.generations.rbegin()->first;
  }
}

void StoredCorpusImport::RenewLineages(Transaction* transaction) {
  for (const auto& [source, session] : manifest_.sessions) {
    renewed_[source] = ledger_->Reserve(transaction, import_.tenant_uid,
                                        manifest_.generations.at(session.generation_uid).geometry,
                                        static_cast<uint32_t>(session.token_count / kBlockTokens));
  }
}

absl::StatusOr<Corpus> StoredCorpusImport::PublishKept() {
  std::set<uint64_t> sessions;
  if (absl::Status status = LoadKept(&sessions); !status.ok()) return status;
  const uint64_t newest = manifest_.corpus ? manifest_.corpus->current_generation : 0;
  if (!manifest_.corpus) return absl::DataLossError("the corpus itself was not kept");
  LeaveOutIncomplete(sessions);
  if (absl::Status status = CheckComplete(); !status.ok()) return status;
  Transaction transaction(state_);
  // A generation that did not come whole: its number is not given to another.
  transaction.SkipUids(newest);
  renewed_.clear();
  RenewLineages(&transaction);
  absl::StatusOr<Corpus> corpus = PublishManifest(&transaction);
  if (!corpus.ok()) return corpus;
  transaction.batch().Delete(ColumnFamily::kCatalog,
                             ObjectKey(KeySpace::kImport, import_.corpus_uid));
  LECTERN_FAIL_POINT(kImportPublish);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  LECTERN_KILL_POINT(kImportPublished);
  return corpus;
}

}  // namespace lectern::storage
