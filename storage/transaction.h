// How metadata changes: one lock, one batch, references settled in the same batch. Internal to
// storage.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>

#include "absl/status/status.h"
#include "storage/key_value_store.h"
#include "storage/keys.h"
#include "storage/records.h"

namespace lectern::storage {

// What everything in a store shares. Thread-safe.
class StoreState {
 public:
  StoreState(std::unique_ptr<KeyValueStore> store, StoreInfo info)
      : store_(std::move(store)), info_(std::move(info)) {}

  KeyValueStore& store() const { return *store_; }
  const Digest& secret() const { return info_.secret; }
  const std::string& store_id() const { return info_.store_id; }

  // A pinned lineage keeps its bytes. Pin first, then look whether it is live: whoever purges marks
  // it first and looks at pins then, so that one of the two sees the other.
  void Pin(uint64_t lineage);
  void Unpin(uint64_t lineage);
  bool IsPinned(uint64_t lineage) const;

 private:
  friend class Transaction;

  const std::unique_ptr<KeyValueStore> store_;
  std::mutex metadata_mutex_;
  StoreInfo info_;  // counters guarded by metadata_mutex_
  mutable std::mutex pins_mutex_;
  std::unordered_map<uint64_t, int> pins_;  // guarded by pins_mutex_
};

// A pin with an owner.
class LineagePin {
 public:
  LineagePin() = default;
  LineagePin(StoreState* state, uint64_t lineage) : state_(state), lineage_(lineage) {
    state_->Pin(lineage_);
  }
  LineagePin(LineagePin&& other) noexcept
      : state_(std::exchange(other.state_, nullptr)), lineage_(other.lineage_) {}
  LineagePin& operator=(LineagePin&& other) noexcept {
    std::swap(state_, other.state_);
    std::swap(lineage_, other.lineage_);
    return *this;
  }
  ~LineagePin() {
    if (state_ != nullptr) state_->Unpin(lineage_);
  }

 private:
  StoreState* state_ = nullptr;
  uint64_t lineage_ = 0;
};

// Holds the metadata lock for its life: what it reads stays true until it commits. Reads go to the
// store and do not see the batch. Destroyed without Commit: nothing happened.
class Transaction {
 public:
  explicit Transaction(StoreState* state);

  Batch& batch() { return batch_; }
  KeyValueStore& store() { return state_->store(); }

  uint64_t NewUid();
  // No uid up to `uid` is given out any more.
  void SkipUids(uint64_t uid);
  uint64_t NewLineage();
  uint64_t NewSequence();
  // Numbers drawn by an earlier transaction that was not committed become durable with this one.
  void KeepCounters() { counters_changed_ = true; }

  // Edges of holders to lineages (KeySpace::kLineageReference) and documents (kDocumentReference).
  // A lineage whose last edge goes is marked purging; a removed document whose last edge goes is
  // deleted with its bytes.
  void AddReference(KeySpace space, uint64_t target, HolderKind holder, uint64_t holder_uid);
  void DropReference(KeySpace space, uint64_t target, HolderKind holder, uint64_t holder_uid);
  // The document leaves its corpus: it goes now, or with its last edge.
  void RemoveDocument(const Document& document);

  // Deletes a range of keys now, and has its bytes given back by the next CollectGarbage.
  void DeleteAndReclaim(ColumnFamily family, const std::string& begin, const std::string& end);

  absl::Status Commit(Durability durability = Durability::kSynced);

 private:
  using Edge = std::pair<HolderKind, uint64_t>;
  using Target = std::pair<KeySpace, uint64_t>;
  struct Change {
    std::set<Edge> added;
    std::set<Edge> dropped;
  };

  absl::Status SettleReferences();
  absl::StatusOr<bool> KeepsEdges(const Target& target, const Change& change);
  absl::Status MarkLineagePurging(uint64_t lineage);
  absl::Status SettleDocument(uint64_t document_uid, bool has_edges);

  StoreState* const state_;
  std::unique_lock<std::mutex> lock_;
  Batch batch_;
  bool counters_changed_ = false;
  std::map<Target, Change> changes_;
  std::map<uint64_t, Document> removed_documents_;
};

}  // namespace lectern::storage
