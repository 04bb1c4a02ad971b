#include "storage/transaction.h"

namespace lectern::storage {
namespace {

constexpr size_t kHolderOffset = 1 + sizeof(uint64_t);  // in a reference key: key space, target
constexpr size_t kHolderUidOffset = kHolderOffset + 1;

}  // namespace

void StoreState::Pin(uint64_t lineage) {
  std::lock_guard lock(pins_mutex_);
  ++pins_[lineage];
}

void StoreState::Unpin(uint64_t lineage) {
  std::lock_guard lock(pins_mutex_);
  const auto pin = pins_.find(lineage);
  if (--pin->second == 0) pins_.erase(pin);
}

bool StoreState::IsPinned(uint64_t lineage) const {
  std::lock_guard lock(pins_mutex_);
  return pins_.contains(lineage);
}

Transaction::Transaction(StoreState* state) : state_(state), lock_(state->metadata_mutex_) {}

uint64_t Transaction::NewUid() {
  counters_changed_ = true;
  return state_->info_.next_uid++;
}

void Transaction::SkipUids(uint64_t uid) {
  if (uid < state_->info_.next_uid) return;
  counters_changed_ = true;
  state_->info_.next_uid = uid + 1;
}

uint64_t Transaction::NewLineage() {
  counters_changed_ = true;
  return state_->info_.next_lineage++;
}

uint64_t Transaction::NewSequence() {
  counters_changed_ = true;
  return state_->info_.next_sequence++;
}

void Transaction::AddReference(KeySpace space, uint64_t target, HolderKind holder,
                               uint64_t holder_uid) {
  changes_[{space, target}].added.insert({holder, holder_uid});
}

void Transaction::DropReference(KeySpace space, uint64_t target, HolderKind holder,
                                uint64_t holder_uid) {
  changes_[{space, target}].dropped.insert({holder, holder_uid});
}

void Transaction::RemoveDocument(const Document& document) {
  Document& removed = removed_documents_[document.uid] = document;
  removed.removed = true;
  changes_[{KeySpace::kDocumentReference, document.uid}];
}

void Transaction::DeleteAndReclaim(ColumnFamily family, const std::string& begin,
                                   const std::string& end) {
  batch_.DeleteRange(family, begin, end);
  PutRecord(&batch_, ObjectKey(KeySpace::kReclaim, NewUid()), Reclaim{family, begin, end});
}

absl::Status Transaction::Commit(Durability durability) {
  if (absl::Status status = SettleReferences(); !status.ok()) return status;
  if (counters_changed_) PutRecord(&batch_, StoreInfoKey(), state_->info_);
  return store().Write(batch_, durability);
}

absl::Status Transaction::SettleReferences() {
  for (const auto& [target, change] : changes_) {
    const auto& [space, uid] = target;
    for (const auto& [holder, holder_uid] : change.dropped) {
      batch_.Delete(ColumnFamily::kCatalog, ReferenceKey(space, uid, holder, holder_uid));
    }
    for (const auto& [holder, holder_uid] : change.added) {
      PutRecord(&batch_, ReferenceKey(space, uid, holder, holder_uid), Reference());
    }
    if (change.dropped.empty() && !removed_documents_.contains(uid)) continue;
    absl::StatusOr<bool> has_edges = KeepsEdges(target, change);
    if (!has_edges.ok()) return has_edges.status();
    absl::Status status;
    if (space == KeySpace::kDocumentReference) {
      status = SettleDocument(uid, *has_edges);
    } else if (!*has_edges) {
      status = MarkLineagePurging(uid);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Transaction::KeepsEdges(const Target& target, const Change& change) {
  if (!change.added.empty()) return true;
  const std::string prefix = ObjectKey(target.first, target.second);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    const Edge edge = {static_cast<HolderKind>(cursor->key()[kHolderOffset]),
                       KeyNumber64(cursor->key(), kHolderUidOffset)};
    if (!change.dropped.contains(edge)) return true;
  }
  if (!cursor->status().ok()) return cursor->status();
  return false;
}

absl::Status Transaction::MarkLineagePurging(uint64_t lineage) {
  const std::string key = ObjectKey(KeySpace::kLineage, lineage);
  absl::StatusOr<Lineage> record = LoadRecord<Lineage>(store(), key);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  if (!record.ok()) return record.status();
  record->state = LineageState::kPurging;
  PutRecord(&batch_, key, *record);
  return absl::OkStatus();
}

absl::Status Transaction::SettleDocument(uint64_t document_uid, bool has_edges) {
  const std::string key = ObjectKey(KeySpace::kDocument, document_uid);
  Document document;
  if (const auto removed = removed_documents_.find(document_uid);
      removed != removed_documents_.end()) {
    document = removed->second;
  } else {
    absl::StatusOr<Document> stored = LoadRecord<Document>(store(), key);
    if (absl::IsNotFound(stored.status())) return absl::OkStatus();
    if (!stored.ok()) return stored.status();
    document = *std::move(stored);
  }
  if (!document.removed) return absl::OkStatus();
  if (has_edges) {
    PutRecord(&batch_, key, document);
    return absl::OkStatus();
  }
  batch_.Delete(ColumnFamily::kCatalog, key);
  const std::string prefix = DocumentPrefix(document.corpus_uid, document_uid);
  DeleteAndReclaim(ColumnFamily::kDocument, prefix, PrefixEnd(prefix));
  return absl::OkStatus();
}

}  // namespace lectern::storage
