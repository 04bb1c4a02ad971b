// A corpus's way in (transfer.h). Internal to storage.
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
#include "storage/sha256.h"
#include "storage/transfer.h"

namespace lectern::storage {

// Where the numbers of a key begin, behind its first byte.
inline constexpr size_t kNumberOffset = 1;
inline constexpr size_t kSecondOffset = kNumberOffset + sizeof(uint64_t);
inline constexpr size_t kThirdOffset = kSecondOffset + sizeof(uint64_t);

// kDataLoss: a record that is whole, and not what can come next.
absl::Status OutOfPlace(const TransferRecord& record, std::string_view what);

class StoredCorpusImport final : public CorpusImport {
 public:
  static absl::StatusOr<std::unique_ptr<CorpusImport>> Open(
      StoreState* state, LineageLedger* ledger, const CatalogStore* catalog, uint64_t tenant_uid,
      std::string_view id, std::string_view source_store, uint64_t source_corpus, Hashes hashes);
  ~StoredCorpusImport() override;

  static absl::StatusOr<std::vector<ImportState>> List(const CatalogStore& catalog);
  static absl::Status Finish(StoreState* state, uint64_t corpus_uid);
  static absl::Status Abandon(StoreState* state, CatalogStore* catalog, uint64_t corpus_uid,
                              int64_t now);

  uint64_t corpus_uid() const override { return import_.corpus_uid; }
  absl::StatusOr<TransferHave> Have() const override;
  void BeginRound() override;
  absl::Status Add(const TransferRecord& record) override;
  absl::Status EndRound() override;
  absl::StatusOr<Corpus> Publish() override;
  absl::StatusOr<bool> Keep(bool cache) override;
  absl::StatusOr<Corpus> PublishKept() override;

 private:
  // The catalog of a round, in the source's uids.
  struct Manifest {
    std::optional<Corpus> corpus;
    std::map<uint64_t, Document> documents;
    std::map<uint64_t, Generation> generations;
    std::map<uint64_t, Operation> operations;
    std::map<uint64_t, Session> sessions;
    std::vector<std::pair<uint64_t, Turn>> turns;  // with their sessions
    std::map<uint64_t, uint64_t> numbers;          // public ones, by uid
    std::map<std::string, std::string> records;    // all of these as they came
  };
  // What is being received.
  struct IncomingDocument {
    const Document* document = nullptr;
    uint64_t uid = 0;  // here
    uint32_t next_chunk = 0;
    uint64_t bytes = 0;
    std::unique_ptr<Sha256> sha256;
  };
  class IncomingLayout;
  struct IncomingRun {
    uint32_t first_block = 0;
    BlockRun run;
    std::map<uint16_t, std::string> index_keys;  // records, by layer
    // Blocks [begin, begin + kv.size() / layers) that are complete, or about to be.
    uint32_t begin = 0;
    std::vector<std::string> kv;  // records, by block and layer
    size_t bytes = 0;             // of kv
  };
  struct IncomingLineage {
    uint64_t source = 0;
    uint64_t uid = 0;  // here
    Geometry geometry;
    uint32_t next_block = 0;
    std::optional<IncomingRun> run;
  };

  StoredCorpusImport(StoreState* state, LineageLedger* ledger, const CatalogStore* catalog,
                     Hashes hashes);

  absl::Status AddCatalog(const TransferRecord& record);
  absl::Status TakeCatalog(const TransferRecord& record);
  template <typename T>
  absl::StatusOr<T> ParseOwn(const TransferRecord& record, KeySpace space) const;
  absl::Status AddChunk(const TransferRecord& record);
  absl::Status BeginDocument(uint64_t source_uid);
  absl::Status EndDocument();
  absl::Status AddPiece(const TransferRecord& record);
  absl::Status EndLayout();
  absl::Status AddLineage(const TransferRecord& record);
  absl::Status AddRun(const TransferRecord& record);
  absl::Status AddIndexKeys(const TransferRecord& record);
  absl::Status AddKv(const TransferRecord& record);
  absl::Status CommitBlocks();
  absl::Status EndLineage();

  // Ends the catalog part of a round: gives what is new a place here.
  absl::Status Reserve();
  absl::Status ReserveBlocks(Transaction* transaction);
  // Closes whatever is being received.
  absl::Status Close();
  absl::Status Save(Transaction* transaction, Durability durability);
  absl::Status ComputeHashes();
  Generation Translated(const Generation& generation) const;
  std::vector<Segment> Translated(const std::vector<Segment>& segments) const;

  absl::Status CheckComplete() const;
  absl::Status CheckDocuments() const;
  absl::Status CheckBlocks(const std::vector<Segment>& segments, uint64_t token_count) const;
  void PublishDocuments(Transaction* transaction);
  void PublishGenerations(Transaction* transaction);
  void PublishOperations(Transaction* transaction);
  absl::Status PublishSessions(Transaction* transaction);
  void PublishNumber(Transaction* transaction, uint64_t source_uid, uint64_t uid);
  void DropLeftovers(Transaction* transaction);
  // Puts everything that the manifest describes into the batch.
  absl::StatusOr<Corpus> PublishManifest(Transaction* transaction);

  // Of a replica (corpus_import_keep.cc).
  absl::StatusOr<std::map<std::string, std::string>> Kept() const;
  // What nobody needs any more, of what is listed here.
  void Trim(Transaction* transaction);
  // Fills the manifest with what was kept; `sessions`: those that existed at the last Keep.
  absl::Status LoadKept(std::set<uint64_t>* sessions);
  // Takes out of the manifest what cannot stand on what was kept.
  void LeaveOutIncomplete(const std::set<uint64_t>& sessions);
  // Gives every session blocks of its own to go on in, as a fork has: the last ones that came may
  // have more tokens than the session that was kept.
  void RenewLineages(Transaction* transaction);

  KeyValueStore& store() const { return state_->store(); }

  StoreState* const state_;
  LineageLedger* const ledger_;
  const CatalogStore* const catalog_;
  const Hashes hashes_;
  Import import_;

  Manifest manifest_;
  bool reserved_ = false;                     // the catalog part of the round is over
  bool ended_ = false;                        // the round is
  std::map<uint64_t, uint64_t> documents_;    // source uid -> uid here
  std::map<uint64_t, uint64_t> generations_;  // likewise
  std::map<uint64_t, uint64_t> lineages_;     // likewise
  // Where sessions go on, by their uid in the source, where that is not where they went on there.
  std::map<uint64_t, uint64_t> renewed_;
  bool hashed_ = false;
  std::map<std::pair<uint64_t, uint32_t>, BlockHash> block_hashes_;  // by source lineage, block

  IncomingDocument document_;
  std::unique_ptr<IncomingLayout> layout_;
  IncomingLineage lineage_;
};

}  // namespace lectern::storage
