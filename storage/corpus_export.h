// One round of a corpus's way out (transfer.h). Internal to storage.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog_store.h"
#include "storage/lineage_ledger.h"
#include "storage/transfer.h"

namespace lectern::storage {

class StoredCorpusExport final : public CorpusExport {
 public:
  static absl::StatusOr<std::unique_ptr<CorpusExport>> Open(
      StoreState* state, const LineageLedger* ledger, const CatalogStore* catalog,
      uint64_t corpus_uid, const TransferHave& have, const TransferRound& round);

  absl::StatusOr<std::optional<TransferRecord>> Next() override;
  uint64_t bytes() const override { return bytes_; }
  bool more() const override { return more_; }

 private:
  struct Blocks {
    uint32_t first_block = 0;
    uint32_t end_block = 0;
  };

  StoredCorpusExport(StoreState* state, const LineageLedger* ledger, const CatalogStore* catalog,
                     const TransferRound& round)
      : state_(*state), ledger_(*ledger), catalog_(*catalog), round_(round) {}

  // The catalog's part, under its lock.
  absl::Status TakeCatalog(uint64_t corpus_uid);
  absl::Status TakeGenerations(uint64_t corpus_uid);
  absl::Status TakeDocuments(uint64_t corpus_uid);
  absl::Status TakeOperations(uint64_t corpus_uid);
  absl::Status TakeSessions(uint64_t corpus_uid);
  absl::Status TakeNumber(uint64_t uid);
  absl::Status Take(const std::string& key);
  void Need(const Segment& segment, uint32_t end_block);
  absl::Status PinBlocks();
  // What the receiver has need not come.
  void LeaveOut(const TransferHave& have);

  // Whether the round has brought as much of the cache as it may. Then the rest is left out.
  bool LeavesRest();
  // The next record of the phase at hand; nothing when it is over.
  absl::StatusOr<std::optional<TransferRecord>> NextChunk();
  absl::StatusOr<std::optional<TransferRecord>> NextPiece();
  absl::StatusOr<std::optional<TransferRecord>> NextBlock();
  absl::Status OpenLineage();
  // The keys of a run of blocks, in the order in which they go out.
  void QueueRun(uint64_t lineage, uint32_t first_block, const BlockRun& run, const Blocks& blocks);
  // Reads the queued run, a partial block, while it is still the same. kAborted: it has grown.
  absl::Status HoldTail(uint64_t lineage, uint32_t first_block, const BlockRun& run,
                        const Blocks& blocks);
  absl::StatusOr<TransferRecord> Read(ColumnFamily family, const std::string& key) const;
  // Deleted meanwhile (kAborted), or lost?
  absl::Status Gone(const absl::Status& owner, ColumnFamily family, const std::string& key) const;

  KeyValueStore& store() const { return state_.store(); }

  StoreState& state_;
  const LineageLedger& ledger_;
  const CatalogStore& catalog_;
  const TransferRound round_;
  uint64_t tenant_uid_ = 0;
  uint64_t bytes_ = 0;
  uint64_t cache_bytes_ = 0;  // of layouts and blocks that have gone out
  bool more_ = false;

  std::vector<TransferRecord> records_;  // of the catalog
  size_t next_record_ = 0;

  std::set<uint64_t> document_uids_;
  std::vector<Document> documents_;
  uint32_t next_chunk_ = 0;

  std::vector<uint64_t> layouts_;  // generations
  std::unique_ptr<Cursor> pieces_;

  std::map<uint64_t, Blocks> blocks_;  // by lineage
  std::vector<LineagePin> pins_;
  Lineage lineage_;  // of the first of blocks_, once opened_
  bool opened_ = false;
  std::vector<std::pair<uint32_t, BlockRun>> runs_;
  size_t next_run_ = 0;
  struct Queued {
    ColumnFamily family = ColumnFamily::kKv;
    std::string key;
    std::optional<std::string> value;  // where it has been read already
  };
  std::vector<Queued> queue_;  // of the run at hand, last first
};

}  // namespace lectern::storage
