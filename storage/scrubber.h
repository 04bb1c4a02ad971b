// The walk over everything (scrub.h). Internal to storage.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/catalog_store.h"
#include "storage/lineage_ledger.h"
#include "storage/scrub.h"

namespace lectern::storage {

// One walk. What is written, replaced or deleted while it goes on is no damage: whatever looks
// wrong is looked at once more under the lineage's or record's present state.
class Scrubber {
 public:
  Scrubber(StoreState* state, const LineageLedger* ledger, const CatalogStore* catalog,
           const ScrubOptions& options)
      : state_(*state), ledger_(*ledger), catalog_(*catalog), options_(options) {}

  // An error is one of the store as a whole; damage is in the report.
  absl::StatusOr<ScrubReport> Walk();

 private:
  // Counts bytes, keeps the pace. False when the walk shall end.
  bool Pace(uint64_t bytes);
  void Found(Damage::Kind kind, const absl::Status& status, Damage damage);

  absl::Status WalkCatalog();
  absl::Status WalkHashes();
  absl::Status WalkCorpora();
  absl::Status WalkCorpus(const Corpus& corpus);
  absl::Status WalkDocument(const Corpus& corpus, uint64_t document_uid);
  absl::Status WalkLayout(const Corpus& corpus, const Generation& generation);
  absl::Status WalkLineages();
  absl::Status WalkOneCorpus();
  absl::Status WalkLineage(uint64_t uid);
  absl::Status VerifyRun(uint64_t uid, const Lineage& lineage, uint32_t first_block,
                         const BlockRun& run, std::map<uint32_t, absl::Status>* damaged);
  absl::Status VerifyRecord(RecordKind kind, const std::string& key, const Lineage& lineage,
                            const BlockRun& run, uint32_t position);
  absl::Status AddHolders(uint64_t lineage, Damage* damage) const;

  KeyValueStore& store() const { return state_.store(); }

  StoreState& state_;
  const LineageLedger& ledger_;
  const CatalogStore& catalog_;
  const ScrubOptions options_;
  ScrubReport report_;
  bool stopped_ = false;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace lectern::storage
