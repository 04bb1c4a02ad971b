// A corpus on its way from one engine to another, as records that only storage understands
// (storage/transfer.h says how it goes). Owned by one thread; must not outlive their Engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/types.h"

namespace lectern::engine {

struct CorpusRecord {
  uint32_t family = 0;
  std::string key;
  std::string value;
};

// Which corpus it is, beyond its name: one that was deleted and made again is another.
struct CorpusOrigin {
  std::string store_id;
  uint64_t corpus_uid = 0;
  bool operator==(const CorpusOrigin&) const = default;
};

// What a receiver has already.
struct CorpusParts {
  struct Blocks {
    uint64_t lineage = 0;
    uint32_t end_block = 0;
    uint32_t tail_tokens = 0;
  };
  std::vector<uint64_t> documents;
  std::vector<uint64_t> generations;
  std::vector<Blocks> blocks;
  bool empty() const { return documents.empty() && generations.empty() && blocks.empty(); }
};

// What a round brings, beside the catalog and the documents (storage/transfer.h).
struct TransferRound {
  bool last = false;                // nothing of the corpus changes until the round has ended
  bool turns = false;               // sessions come whole, as they are at this moment
  int64_t cache_bytes = INT64_MAX;  // of layouts and blocks; the others are left for another round
};

// One round on the way out. Nothing of the corpus is evicted while it lives.
class CorpusExport {
 public:
  virtual ~CorpusExport() = default;
  virtual const CorpusOrigin& origin() const = 0;
  // Of documents and blocks that this round brings.
  virtual int64_t bytes() const = 0;
  // Whether an operation of the corpus runs: there will be more soon.
  virtual bool busy() const = 0;
  // At the end: whether layouts or blocks are left for another round.
  virtual bool more() const = 0;
  // The next record; nothing at the end. UNAVAILABLE CORPUS_CHANGED: begin another round. DATA_LOSS
  // STORED_BYTES_CORRUPT.
  virtual absl::StatusOr<std::optional<CorpusRecord>> Next() = 0;
};

// The way in. Nothing is seen of it before Publish.
class CorpusImport {
 public:
  virtual ~CorpusImport() = default;
  virtual uint64_t uid() const = 0;  // of the import, in this engine
  virtual absl::StatusOr<CorpusParts> Have() const = 0;
  // `bytes`: CorpusExport::bytes(). RESOURCE_EXHAUSTED DISK_CAP_EXCEEDED, DISK_FULL.
  virtual absl::Status BeginRound(int64_t bytes) = 0;
  // Verifies and writes. DATA_LOSS TRANSFER_DAMAGED: it is not what was stored at the origin, and
  // nothing of it was written. FAILED_PRECONDITION STORED_FORMAT_NEWER.
  virtual absl::Status Add(const CorpusRecord& record) = 0;
  virtual absl::Status EndRound() = 0;
  // After a round during which nothing changed. ALREADY_EXISTS CORPUS_EXISTS; DATA_LOSS
  // TRANSFER_DAMAGED: something did not come.
  virtual absl::Status Publish() = 0;

  // Of a replica, after each round: what has come is what PublishKept makes of it, durably; with
  // `cache`, which a round must have brought whole, the generations and sessions too. False: the
  // cache was left as it was kept before, for it is being rebuilt. DATA_LOSS TRANSFER_DAMAGED.
  virtual absl::StatusOr<bool> Keep(bool cache) = 0;
  // The corpus as it was kept is this engine's own. NOT_FOUND IMPORT_NOT_FOUND: nothing was kept;
  // ALREADY_EXISTS CORPUS_EXISTS.
  virtual absl::Status PublishKept() = 0;
};

// An import that was neither finished nor abandoned.
struct ImportedCorpus {
  uint64_t uid = 0;
  CorpusName name;
  CorpusOrigin origin;
  bool published = false;
  bool kept = false;  // of a replica: PublishKept would find something
};

}  // namespace lectern::engine
