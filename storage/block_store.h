// Reading blocks: which are stored, and their bytes, verified. Writing goes through the catalog
// (catalog.h), because blocks only become visible together with the record that owns them.
//
// A *lineage* is a chain of blocks stored together; its id is unique in the store and never reused.
// A context is a list of segments over lineages (block.h). Lineages live as long as a generation,
// session or ingest intent refers to them; an open ContextReader keeps the bytes of its lineages
// readable even after the last reference is gone.
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"

namespace lectern::storage {

class LineageLedger;

// What is known of one block without reading it.
struct BlockInfo {
  uint32_t tokens = 0;  // in the context read; the stored block of a forked session may have more
  BlockHash hash = {};  // of the stored block
  uint64_t lineage = 0;
};

struct KvRequest {
  uint16_t layer = 0;
  uint32_t block = 0;  // absolute
  uint16_t first_head = 0;
  uint16_t head_count = 0;  // 0 = all from first_head on
  // [head_count][2 (K, V)][token_capacity][head_dim] bf16; the first block_tokens rows of each part
  // are written, the others are left alone.
  std::byte* out = nullptr;
  uint32_t token_capacity = kBlockTokens;
};

// One context, opened for reading. What it shows is fixed when it is opened, except that a partial
// tail block that a session grew since is read as its first tokens, which are the same. Must not
// outlive the Store. Thread-safe.
//
// Reads verify everything they return: kDataLoss for damaged, stale or foreign bytes, with kind and
// key; the caller must treat `out` as garbage then. kUnavailable for I/O errors that may pass,
// after four attempts within half a second. kDeadlineExceeded when the disk did not answer in
// StoreOptions::read_timeout; that is not tried again.
// kInvalidArgument for a layer, block or head that is not in the context.
class ContextReader {
 public:
  virtual ~ContextReader() = default;

  virtual const Geometry& geometry() const = 0;
  virtual uint64_t token_count() const = 0;
  virtual uint32_t block_count() const = 0;
  virtual const std::vector<Segment>& segments() const = 0;
  virtual absl::StatusOr<BlockInfo> Block(uint32_t block) const = 0;

  // Index keys of the tokens of blocks [first_block, first_block + count) of one layer,
  // [token][index_dim] bf16 with no gaps. out.size() must be geometry().IndexBytes(tokens of those
  // blocks). Any range works; ranges that match the stored runs (a whole ingest chunk each) read no
  // byte twice.
  virtual absl::Status ReadIndexKeys(uint16_t layer, uint32_t first_block, uint32_t count,
                                     std::span<std::byte> out) const = 0;

  // The same for all indexed layers of the whole context in one sequential pass over the disk: the
  // way to open it. out[layer] holds IndexBytes(token_count()) bytes, null for a layer to skip.
  // Uses the store's reader threads.
  virtual absl::Status ReadAllIndexKeys(std::span<std::byte* const> out) const = 0;

  virtual absl::Status ReadKv(const KvRequest& request) const = 0;
  // Many blocks at once, on the store's reader threads. Returns the first error in request order;
  // every request was tried. statuses, when not empty, receives one status per request.
  virtual absl::Status ReadKvBatch(std::span<const KvRequest> requests,
                                   std::span<absl::Status> statuses = {}) const = 0;
};

// Counters since the store was opened; all grow only.
struct BlockCounters {
  uint64_t hash_lookups = 0;  // blocks asked for by LookupPrefix and BeginIngest
  uint64_t hash_hits = 0;
  uint64_t blocks_written = 0;
  uint64_t kv_bytes_written = 0;
  uint64_t index_bytes_written = 0;
  uint64_t kv_bytes_read = 0;  // verified and delivered
  uint64_t index_bytes_read = 0;
  uint64_t verify_nanoseconds = 0;  // spent on checksums of data records while reading
  uint64_t read_nanoseconds = 0;    // of whole reads, summed over threads
  uint64_t damaged_records = 0;
  uint64_t read_retries = 0;  // of reads that failed for a reason that may pass
  uint64_t slow_reads = 0;    // that took more than a second
  uint64_t lineages_purged = 0;
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  // Segments of the longest stored prefix of a chain; hashes[i] is the hash of block i, a full
  // block. Takes no reference: only BeginIngest (catalog.h) does both in one step. Never returns
  // blocks of another tenant.
  virtual absl::StatusOr<std::vector<Segment>> LookupPrefix(
      uint64_t tenant_uid, std::span<const BlockHash> hashes) const = 0;

  // Opens the first `token_count` tokens of the blocks in `segments` (which must follow one another
  // from block 0 on, cover exactly ceil(token_count / 128) blocks, and agree in geometry:
  // kInvalidArgument). kNotFound: a lineage or block is not there (evicted or deleted). kDataLoss:
  // the directory is damaged. token_count 0 with no segments needs `geometry` of the model and
  // gives an empty context.
  virtual absl::StatusOr<std::unique_ptr<ContextReader>> OpenContext(
      uint64_t tenant_uid, std::span<const Segment> segments, uint64_t token_count,
      const Geometry& geometry) const = 0;

  virtual BlockCounters Counters() const = 0;
};

}  // namespace lectern::storage
