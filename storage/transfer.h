// A corpus on its way from one store to another: what is stored of it, as records of the store that
// has it, and their way into the other one.
//
// A record travels as it lies on disk, under its own key: the checksums that were computed when it
// was written are those that the receiving store verifies, and they bind it to what it is (corpus,
// document, lineage, block, layer). The receiver gives everything new uids and lineages, and hashes
// of its own to blocks, whose salt is another here; tensors stay the same bytes.
//
// Copying takes rounds. Each is one pass over a CorpusExport into a CorpusImport: first the catalog
// as it is, then what of documents, layouts and blocks the receiver does not have. Only of the last
// round, during which nothing of the corpus may change, the catalog is taken for good: Publish
// makes all of it visible in one batch. Until then nobody sees anything of it, and a store that is
// opened again goes on with what it has.
//
// A replica is an import whose rounds do not end: each is followed by Keep, which makes durable
// here what is needed to publish the corpus without its source.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"
#include "storage/catalog_types.h"
#include "storage/key_value_store.h"

namespace lectern::storage {

struct TransferRecord {
  ColumnFamily family = ColumnFamily::kCatalog;
  std::string key;
  std::string value;
};

// What a receiver has already, in the numbers of the store that has the corpus.
struct TransferHave {
  struct Blocks {
    uint64_t lineage = 0;
    uint32_t end_block = 0;    // of full blocks
    uint32_t tail_tokens = 0;  // of the partial block behind them, if it is there
  };
  std::vector<uint64_t> documents;
  std::vector<uint64_t> generations;  // their layouts
  std::vector<Blocks> blocks;
};

// What a round brings, beside the catalog and the documents.
struct TransferRound {
  // Nothing of the corpus changes until the round has ended, which is the caller's to see to.
  bool last = false;
  // Sessions come as they are at this moment, with their turns and partial blocks; otherwise, but
  // for the last round, as far as their blocks are full.
  bool turns = false;
  // When so many bytes of layouts and blocks have come, the others are left for another round.
  uint64_t cache_bytes = UINT64_MAX;
};

// One round, at the store that has the corpus. Its blocks stay readable while this lives. Owned by
// one thread; must not outlive the store.
class CorpusExport {
 public:
  virtual ~CorpusExport() = default;
  // The next record, or nothing at the end.
  //   kAborted   what was to come was deleted meanwhile: begin another round
  //   kDataLoss  it is not there, and should be
  virtual absl::StatusOr<std::optional<TransferRecord>> Next() = 0;
  // Of the documents and tensors that this round brings.
  virtual uint64_t bytes() const = 0;
  // Whether layouts or blocks are left for another round; known at the end.
  virtual bool more() const = 0;
};

// The corpus as it comes in, at the other store. Owned by one thread; must not outlive the store.
class CorpusImport {
 public:
  // Hashes of all blocks of a context of a generation whose layout is here, under its uid here.
  using Hashes = std::function<absl::StatusOr<std::vector<BlockHash>>(const Generation& generation,
                                                                      uint32_t context)>;

  virtual ~CorpusImport() = default;
  virtual uint64_t corpus_uid() const = 0;  // here
  virtual absl::StatusOr<TransferHave> Have() const = 0;

  // Forgets the catalog of the round before.
  virtual void BeginRound() = 0;
  // Verifies the record, and writes it: buffered, or with its run of blocks, synced.
  //   kDataLoss            it is damaged, or is not what should come next; nothing of it is written
  //   kFailedPrecondition  it is of a newer format
  virtual absl::Status Add(const TransferRecord& record) = 0;
  // Ends a round whose records have all been added: what it brought is durable.
  virtual absl::Status EndRound() = 0;
  // Makes visible what the round that has ended describes. Synced. The import goes on to exist
  // until it is finished or abandoned (Store).
  //   kAlreadyExists       the tenant has a corpus of that id
  //   kFailedPrecondition  an operation of the corpus runs
  //   kDataLoss            something that the catalog names did not come
  virtual absl::StatusOr<Corpus> Publish() = 0;

  // ---- a replica: an import that goes on from round to round, until its source is lost
  // After a round has ended: makes durable what its catalog says of the corpus and its documents
  // and, if `cache`, what it says of generations, operations, sessions and turns, all of whose
  // layouts and blocks have come. What the corpus does not have any more, and no generation that
  // was kept before, is deleted here. False: of the cache nothing was kept, for a generation is
  // being rebuilt. Synced.
  //   kDataLoss  something that the catalog names did not come
  virtual absl::StatusOr<bool> Keep(bool cache) = 0;
  // As Publish, of what was kept last: the documents as of the last Keep, and of generations and
  // sessions kept with the cache those that the documents, and the sessions of the last Keep, still
  // know. Once: the import is over and the corpus this store's own.
  //   kNotFound  nothing was kept
  virtual absl::StatusOr<Corpus> PublishKept() = 0;
};

// An import that was neither finished nor abandoned.
struct ImportState {
  uint64_t corpus_uid = 0;
  uint64_t tenant_uid = 0;
  std::string id;  // of the corpus
  std::string source_store;
  uint64_t source_corpus = 0;
  bool published = false;
  bool kept = false;  // PublishKept would find something
};

}  // namespace lectern::storage
