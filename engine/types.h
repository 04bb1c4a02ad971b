// The nouns of the engine's public face: plain values, no sockets, no protobuf. Services translate
// them to and from the API, whose comments (proto/lectern/v1) define the meaning of each field;
// what is said here is what C++ adds.
//
// Times are microseconds since the Unix epoch; 0 means absent. Ids are bare ("handbook"), never
// resource names: services know names.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::engine {

// A corpus within a tenant.
struct CorpusName {
  std::string tenant;
  std::string corpus;
};

// A document, generation, operation or session within a corpus.
struct ResourceName {
  CorpusName corpus;
  std::string id;
};

struct PageRequest {
  int page_size = 0;       // 0: 50; at most 1000
  std::string page_token;  // empty: the first page
};

template <typename T>
struct Page {
  std::vector<T> items;
  std::string next_page_token;  // empty on the last page
};

struct TenantQuota {  // 0: no limit
  int64_t disk_bytes = 0;
  int64_t tokens_per_minute = 0;
  int64_t concurrent_requests = 0;
  int64_t weight = 0;  // 1 to 1000; 0: 1
  bool operator==(const TenantQuota&) const = default;
};

struct TenantUsage {
  int64_t corpora = 0;
  int64_t document_bytes = 0;
  int64_t cache_bytes = 0;
  int64_t requests = 0;
  int64_t tokens_available = 0;
  int64_t tokens_total = 0;
};

struct Tenant {
  std::string id;
  std::string display_name;
  int64_t create_time_us = 0;
  TenantQuota quota;
  std::optional<TenantUsage> usage;  // of GetTenant
};

// Fields to change; absent ones stay.
struct TenantUpdate {
  std::optional<std::string> display_name;
  std::optional<int64_t> disk_bytes;
  std::optional<int64_t> tokens_per_minute;
  std::optional<int64_t> concurrent_requests;
  std::optional<int64_t> weight;
};

// What of a generation's cache is on disk.
enum class Residency { kNone, kPartial, kComplete, kEvicted, kQuarantined };

struct Corpus {
  CorpusName name;
  std::string display_name;
  int64_t create_time_us = 0;
  int64_t update_time_us = 0;
  int64_t expire_time_us = 0;
  int64_t document_count = 0;
  int64_t document_bytes = 0;
  std::string current_generation;  // id, or empty
  bool stale = false;
  bool pinned = false;
  Residency cache_residency = Residency::kNone;  // of the current generation
  int64_t last_used_time_us = 0;
  int32_t eviction_rank = 0;  // among the tenant's caches; 0: not up for eviction
  int64_t cache_bytes = 0;    // of all its generations
  int64_t context_count = 0;  // of the current generation
};

// Fields to change; absent ones stay.
struct CorpusUpdate {
  std::optional<std::string> display_name;
  std::optional<int64_t> expire_time_us;  // 0: never
  std::optional<bool> pinned;
};

struct Document {
  ResourceName name;
  std::string display_name;
  std::string media_type;
  int64_t size_bytes = 0;
  std::array<uint8_t, 32> sha256{};
  int64_t create_time_us = 0;
};

struct UploadHeader {
  CorpusName corpus;
  std::string document_id;   // empty: made by the engine
  std::string display_name;  // empty: the id
  std::string media_type;    // empty: guessed
  std::optional<std::array<uint8_t, 32>> sha256;
};

// One token sequence of a generation. Documents are in corpus order: the first and the last of this
// context name all of them.
struct ContextInfo {
  int index = 0;
  int count = 0;  // contexts of the generation
  int64_t token_count = 0;
  int64_t document_count = 0;
  std::string first_document;  // ids
  std::string last_document;
};

struct Generation {
  ResourceName name;
  int64_t create_time_us = 0;
  int64_t token_count = 0;
  int64_t context_count = 0;
  std::string model_fingerprint;  // hex
  std::string prompt_layout;
  Residency residency = Residency::kNone;
  std::vector<std::string> documents;  // ids, in corpus order
  int64_t cache_bytes = 0;
  std::vector<ContextInfo> contexts;  // of GetGeneration
};

enum class IngestPhase { kQueued, kPreparing, kPrefilling, kCommitting, kDone };

struct Operation {
  ResourceName name;
  bool done = false;
  absl::Status error;      // OK unless done with an error
  std::string generation;  // id, when done without an error and not validate_only
  IngestPhase phase = IngestPhase::kQueued;
  int64_t tokens_total = 0;
  int64_t tokens_done = 0;
  int64_t tokens_cached = 0;
  int64_t documents = 0;
  int64_t contexts = 0;
  int64_t cache_bytes_total = 0;
  bool validate_only = false;
  int resumed = 0;
  int64_t create_time_us = 0;
  int64_t end_time_us = 0;
};

struct Session {
  ResourceName name;
  std::string generation;  // id
  int context = 0;         // of the generation
  int turn_count = 0;
  int64_t token_count = 0;
  int64_t create_time_us = 0;
  int64_t update_time_us = 0;
  int64_t expire_time_us = 0;
  std::string forked_from;  // session id, or empty
};

struct Sampling {
  double temperature = 0;  // [0, 2]; 0: the most probable token
  double top_p = 1;        // (0, 1]
  uint64_t seed = 0;
};

enum class BackupState { kRunning, kComplete, kFailed, kCancelled };

// Of everything there is, not of a tenant (proto/lectern/v1/backups.proto).
struct Backup {
  std::string id;
  BackupState state = BackupState::kRunning;
  absl::Status error;  // of kFailed and kCancelled
  int64_t bytes_total = 0;
  int64_t bytes_done = 0;
  int64_t create_time_us = 0;
  int64_t end_time_us = 0;
  std::string directory;
};

// What a question is asked of. Exactly one of generation and session may be set; neither: the
// newest committed generation.
struct Target {
  CorpusName corpus;
  std::string generation;
  std::string session;
};

enum class Priority { kInteractive, kBatch };

struct AskRequest {
  Target target;
  std::string question;
  int max_tokens = 0;
  Sampling sampling;
  int evidence_limit = 0;
  int contexts = 0;                         // to answer from; 0: 1
  std::optional<double> adaptive_coverage;  // absent: EngineOptions::adaptive_coverage
  Priority priority = Priority::kInteractive;
  int64_t deadline_us = 0;  // 0: none; past it the answer ends with DEADLINE_EXCEEDED
};

struct RetrieveRequest {
  Target target;
  std::string query;
  int limit = 0;
  std::optional<double> adaptive_coverage;
  Priority priority = Priority::kInteractive;
  int64_t deadline_us = 0;
};

struct Evidence {
  std::string document;  // id
  std::string display_name;
  int64_t byte_begin = 0;
  int64_t byte_end = 0;
  int page = 0;
  std::string quote;
  double mass = 0;
  double share = 0;
  int context = 0;
  int64_t block = 0;  // of the context
};

struct Coverage {
  double mean = 0;
  double lower = 0;
  double upper = 0;
  double min_row = 0;
  bool calibrated = false;
  std::optional<double> attention;  // if calibrated and known to the calibration
  std::optional<double> risk;       // if calibrated; of answers only
  bool low = false;
};

struct Usage {
  int64_t cached_tokens = 0;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t corpus_prefill_tokens = 0;
  int64_t disk_bytes = 0;
  int64_t memory_bytes = 0;
  int64_t device_bytes = 0;  // copied from memory to the GPU
  int64_t queue_time_us = 0;
  int64_t time_to_first_token_us = 0;
  int64_t total_time_us = 0;
  int64_t selections = 0;
  int64_t selected_blocks = 0;
  int64_t widened_selections = 0;
  int64_t drafted_tokens = 0;   // guessed, and computed with the answer's own
  int64_t accepted_tokens = 0;  // of these, part of the answer
};

enum class FinishReason { kStop, kMaxTokens };

struct AnswerStarted {
  std::string generation;  // id
  int64_t context_tokens = 0;
  ContextInfo context;
};

struct Answer {
  std::string text;
  FinishReason finish_reason = FinishReason::kStop;
  bool not_in_documents = false;
  std::vector<Evidence> evidence;
  Coverage coverage;
  Usage usage;
  int turn = 0;  // 0 outside sessions
  ContextInfo context;
};

// What a question pointed at in one context.
struct ContextFinding {
  ContextInfo context;
  double mass = 0;  // of its best span
  Coverage coverage;
};

struct Retrieval {
  std::string generation;  // id
  std::vector<Evidence> spans;
  Coverage coverage;  // of the context of the first span
  Usage usage;
  std::vector<ContextFinding> contexts;  // all that were read, best first
};

struct Turn {
  int number = 0;
  std::string question;
  Answer answer;
  int64_t create_time_us = 0;
};

struct TokenCount {
  int64_t tokens = 0;
  int64_t limit_tokens = 0;
};

struct ModelInfo {
  std::string display_name;
  std::string fingerprint;  // hex
  std::string backend;
  std::string attention;
  std::string prompt_layout;
  int64_t context_limit_tokens = 0;
  int64_t contexts_limit = 0;
  int64_t question_limit_tokens = 0;
  int64_t answer_limit_tokens = 0;
  int64_t document_limit_bytes = 0;
  int layers = 0;
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int index_dim = 0;
  int block_tokens = 0;
  int selected_blocks = 0;
  int64_t parameters = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t index_bytes_per_token = 0;
  std::string device;                 // the GPU's name; empty: the CPU computes
  int64_t device_memory_bytes = 0;    // of it, what weights and cache take
  int64_t device_context_tokens = 0;  // whose keys and values that cache holds
  std::string device_note;            // why the CPU computes where the GPU was preferred
};

// Counters since the engine was opened, and levels as they are now.
struct Stats {
  int64_t queued_requests = 0;
  int64_t running_requests = 0;
  int64_t open_contexts = 0;
  int64_t prefill_tokens = 0;
  int64_t corpus_prefill_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t generated_tokens = 0;
  int64_t drafted_tokens = 0;
  int64_t accepted_tokens = 0;
  int64_t pool_blocks = 0;
  int64_t pool_blocks_used = 0;
  int64_t pool_hits = 0;
  int64_t pool_misses = 0;
  int64_t block_lookups = 0;
  int64_t block_hits = 0;
  int64_t disk_read_bytes = 0;
  int64_t disk_written_bytes = 0;
  int64_t disk_used_bytes = 0;
  int64_t memory_index_bytes = 0;
  int64_t corpora = 0;
  int64_t documents = 0;
  int64_t sessions = 0;
  int64_t disk_cap_bytes = 0;  // 0: none
  int64_t disk_reserved_bytes = 0;
  std::map<std::string, int64_t> disk_bytes;  // by kind; the sum is disk_used_bytes
  std::map<std::string, int64_t> evictions;   // by cause
  int64_t verified_bytes = 0;                 // read by the walk that verifies everything
  int64_t verify_walks = 0;                   // that came to their end
  std::map<std::string, int64_t> damages;     // by kind
  int64_t quarantined_generations = 0;
  int64_t repair_rebuilds = 0;  // begun by itself, because of damage or slow reads
  int64_t read_retries = 0;
  int64_t slow_reads = 0;  // that took more than a second
  int64_t timed_out_reads = 0;
  int64_t write_outages = 0;     // times that a failed write stopped all writing
  int64_t write_recoveries = 0;  // times that it went on
  // Generations computed again because their blocks were read too slowly, or not at all; by cause
  // (care/recompute_policy.h).
  std::map<std::string, int64_t> recomputed;
  double prefill_tokens_per_second = 0;  // of documents, as measured last; 0: not yet
  int64_t pending_tokens = 0;            // accepted and not computed
  int64_t displaced_requests = 0;        // questions that made room for other tenants'
  int64_t pool_limit_bytes = 0;
  int64_t index_limit_bytes = 0;
  int64_t queue_limit = 0;
  int64_t batch_limit = 0;
  int64_t device_pages = 0;  // of the GPU's cache: one layer of one block each
  int64_t device_pages_used = 0;
  int64_t device_page_hits = 0;  // of selected blocks that were looked for there
  int64_t device_page_misses = 0;
  // Of decode rows alone: replayed as one piece, and launched call by call.
  int64_t device_replayed_steps = 0;
  int64_t device_launched_steps = 0;
  int64_t request_memory_bytes = 0;
  int64_t request_memory_limit_bytes = 0;
};

}  // namespace lectern::engine
