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
    uint32_t end_block = 0;
  };
  std::vector<uint64_t> documents;
  std::vector<uint64_t> generations;  // their layouts
  std::vector<Blocks> blocks;
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
};

// An import that was neither finished nor abandoned.
struct ImportState {
  uint64_t corpus_uid = 0;
  uint64_t tenant_uid = 0;
  std::string id;  // of the corpus
  std::string source_store;
  uint64_t source_corpus = 0;
  bool published = false;
};

}  // namespace lectern::storage
