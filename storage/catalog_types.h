// The catalog's records. Times are Unix microseconds handed in by callers: storage has no clock.
// Uids are unique in a store, ascend, are never reused, and 0 means none. Ids are the caller's
// names (1..kMaxIdBytes bytes; which characters are allowed is the API's business), unique within
// their parent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/block.h"
#include "storage/encoding.h"

namespace lectern::storage {

inline constexpr size_t kMaxIdBytes = 256;
inline constexpr char kDefaultTenantId[] = "default";

// What a tenant may use; 0: no limit. Storage keeps the figures, the engine applies them.
struct TenantQuota {
  uint64_t disk_bytes = 0;
  uint64_t tokens_per_minute = 0;
  uint64_t concurrent_requests = 0;
  uint64_t weight = 0;  // against other tenants', see the engine's scheduler; 0: 1
  bool operator==(const TenantQuota&) const = default;
};

struct Tenant {
  uint64_t uid = 0;  // immutable: salts are derived from it
  std::string id;
  std::string display_name;
  int64_t create_time = 0;
  TenantQuota quota = {};
  bool operator==(const Tenant&) const = default;
};

struct Corpus {
  uint64_t uid = 0;
  uint64_t tenant_uid = 0;
  std::string id;
  std::string display_name;
  int64_t create_time = 0;
  int64_t update_time = 0;
  std::optional<int64_t> expire_time;  // nobody but the user sets it
  uint64_t current_generation = 0;     // uid of the newest published one
  uint64_t document_count = 0;
  uint64_t document_bytes = 0;
  uint64_t next_ordinal = 0;   // of the next document
  bool pinned = false;         // its cache is never evicted
  int64_t last_used_time = 0;  // Catalog::UseCorpus
  bool operator==(const Corpus&) const = default;
};

struct Document {
  uint64_t uid = 0;
  uint64_t corpus_uid = 0;
  std::string id;
  std::string display_name;
  std::string media_type;
  uint64_t byte_length = 0;
  Digest sha256 = {};
  uint64_t ordinal = 0;  // position in the corpus: the order in which uploads were committed
  int64_t create_time = 0;
  bool removed = false;  // from its corpus; kept while a generation or an ingest refers to it
  bool operator==(const Document&) const = default;
};

// A document as it was when a generation was made.
struct GenerationDocument {
  uint64_t uid = 0;
  std::string id;
  std::string display_name;
  Digest sha256 = {};
  bool operator==(const GenerationDocument&) const = default;
};

enum class Residency : uint8_t {
  kNone = 0,
  kPartial = 1,  // being rebuilt
  kComplete = 2,
  kEvicted = 3,
  kQuarantined = 4,  // as evicted, because blocks or layout failed verification
};

struct GenerationContext {
  uint64_t token_count = 0;
  std::vector<Segment> segments;     // cover ceil(token_count / 128) blocks
  std::vector<int32_t> tail_tokens;  // the token_count % 128 tokens of the partial last block
  bool operator==(const GenerationContext&) const = default;
};

struct Generation {
  uint64_t uid = 0;
  uint64_t corpus_uid = 0;
  std::vector<GenerationDocument> documents;  // in prompt order
  std::string layout_version;
  std::string extractor_version;
  Digest model_fingerprint = {};
  Geometry geometry;
  Residency residency = Residency::kComplete;
  std::vector<GenerationContext> contexts;
  int64_t create_time = 0;   // of the ingest
  int64_t publish_time = 0;  // when it became readable
  bool operator==(const Generation&) const = default;
};

// A generation whose blocks are stored, as eviction looks at it.
struct HeldLineage {
  uint64_t uid = 0;
  uint64_t bytes = 0;        // of its tensors
  uint32_t holders = 0;      // references of anybody
  uint32_t own_holders = 0;  // of these, the generation and its sessions: what eviction drops
  bool operator==(const HeldLineage&) const = default;
};
struct CachedGeneration {
  uint64_t uid = 0;
  uint64_t corpus_uid = 0;
  uint64_t tenant_uid = 0;
  bool current = false;        // of its corpus; else superseded
  bool pinned = false;         // its corpus is
  int64_t last_used_time = 0;  // of its corpus
  uint32_t sessions = 0;       // that run on it
  uint64_t bytes = 0;          // of all blocks it holds
  std::vector<HeldLineage> lineages;
};

// One context of an ingest under way.
struct IngestContext {
  std::vector<Segment> reused;  // stored before; referenced by the intent
  uint64_t lineage = 0;         // where new blocks go; its first block is the end of `reused`
  uint32_t first_block = 0;     // of the lineage
  uint32_t end_block = 0;       // every block below is stored and durable: resume here
  uint64_t token_count = 0;     // tokens stored so far, reused ones included
  bool operator==(const IngestContext&) const = default;
};

struct IngestIntent {
  uint64_t operation_uid = 0;  // its key
  uint64_t tenant_uid = 0;
  uint64_t corpus_uid = 0;
  uint64_t generation_uid = 0;  // of the generation to be; layout records are stored under it
  int64_t create_time = 0;
  Geometry geometry;
  std::vector<uint64_t> documents;  // uids, referenced by the intent
  std::vector<IngestContext> contexts;
  std::string plan;  // opaque to storage
  bool operator==(const IngestIntent&) const = default;
};

enum class OperationState : uint8_t { kRunning = 1, kSucceeded = 2, kFailed = 3, kCancelled = 4 };

struct Operation {
  uint64_t uid = 0;
  uint64_t tenant_uid = 0;
  uint64_t corpus_uid = 0;
  std::string kind;  // e.g. "ingest"
  OperationState state = OperationState::kRunning;
  std::string phase;
  uint64_t tokens_done = 0;
  uint64_t tokens_total = 0;
  uint64_t generation_uid = 0;  // result, once succeeded
  int32_t error_code = 0;       // canonical code; 0 = none
  std::string error_reason;     // UPPER_SNAKE
  std::string error_message;
  std::string request_id;
  std::string detail;  // opaque to storage
  int64_t create_time = 0;
  int64_t update_time = 0;
  int64_t end_time = 0;  // 0 while running
  bool operator==(const Operation&) const = default;
};

struct Session {
  uint64_t uid = 0;
  uint64_t tenant_uid = 0;
  uint64_t corpus_uid = 0;
  uint64_t generation_uid = 0;
  uint32_t context_index = 0;  // of the generation's contexts
  std::string id;
  std::string display_name;
  uint64_t parent_uid = 0;  // forked from
  uint32_t fork_turn = 0;   // turns of the parent it shares
  uint32_t turn_count = 0;  // the next turn's number; a fork starts at fork_turn
  uint64_t token_count = 0;
  std::vector<Segment> segments;  // cover ceil(token_count / 128) blocks
  uint64_t lineage = 0;           // where its own blocks go
  uint32_t lineage_first_block = 0;
  int64_t create_time = 0;
  int64_t update_time = 0;
  std::optional<int64_t> expire_time;
  bool operator==(const Session&) const = default;
};

struct Turn {
  uint32_t number = 0;
  uint64_t token_count = 0;  // of the context after this turn
  int64_t create_time = 0;
  std::string payload;  // opaque to storage
  bool operator==(const Turn&) const = default;
};

template <typename T>
struct Page {
  std::vector<T> items;
  std::string next_token;  // empty on the last page
};

// Lists ascend by creation and a page token names the last item seen, so that inserts and deletes
// between two pages neither repeat nor skip an item that was there all along. Tokens are opaque,
// bound to the list they come from, and checked: kInvalidArgument for any other string.
struct PageRequest {
  uint32_t size = 0;  // 0 = kDefaultPageSize; more than kMaxPageSize is cut to it
  std::string token;
};
inline constexpr uint32_t kDefaultPageSize = 100;
inline constexpr uint32_t kMaxPageSize = 1000;

}  // namespace lectern::storage
