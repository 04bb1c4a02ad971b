// Durable records of what users made: tenants, corpora, documents, generations, ingests,
// operations, sessions, and the commits that make blocks visible together with the record that owns
// them.
//
// Every mutation is one atomic batch and, unless said otherwise, synced: when it returns OK it
// survives power loss; when it returns an error nothing of it is visible. Mutations are serialised
// by one lock; reads take none.
//
// Errors in common (beside those of key_value_store.h): kNotFound when the named thing is not
// there; kAlreadyExists when its id is taken in its parent (also by one being created);
// kInvalidArgument for an empty or over-long id or a broken page token; kFailedPrecondition where
// the state forbids the call, as each member says. Messages name ids.
//
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"
#include "storage/catalog_types.h"

namespace lectern::storage {

struct NewCorpus {
  std::string id;
  std::string display_name;
  std::optional<int64_t> expire_time;
  bool pinned = false;
};

struct CorpusUpdate {  // absent fields stay as they are
  std::optional<std::string> display_name;
  std::optional<std::optional<int64_t>> expire_time;  // present and empty: never expires
  std::optional<bool> pinned;
};

struct NewDocument {
  std::string id;
  std::string display_name;
  std::string media_type;
};

// One upload. Bytes go to disk as they come (kBuffered, in pieces of 1 MiB); the document exists
// when Commit returns OK, and not before. Destroyed without Commit, or left behind by a crash: its
// bytes are purged and nothing was visible. Owned by one thread; must not outlive the Store.
class DocumentWriter {
 public:
  virtual ~DocumentWriter() = default;
  virtual absl::Status Append(std::string_view bytes) = 0;
  // Synced, with all bytes. kInvalidArgument: expected_sha256 is given and the bytes have another
  // (both are named). kAlreadyExists: the id was taken meanwhile. kNotFound: the corpus is gone.
  // Empty documents are allowed here.
  virtual absl::StatusOr<Document> Commit(int64_t now,
                                          const std::optional<Digest>& expected_sha256) = 0;
  virtual uint64_t bytes_written() const = 0;
};

struct IngestRequest {
  uint64_t operation_uid = 0;  // running, of kind ingest; its key
  std::vector<uint64_t> documents;
  Geometry geometry;
  // Per context the hashes of its full blocks in chain order: the stored prefix is reused.
  std::vector<std::vector<BlockHash>> hashes;
  std::string plan;
  // A rebuild: the generation whose documents these are, those included that its corpus has removed
  // since. 0: an ingest of documents that are in the corpus.
  uint64_t source_generation = 0;
  // The blocks become source_generation's own again; it must be evicted. Else a new generation is
  // made.
  bool restore = false;
};

struct GenerationSpec {
  std::vector<uint64_t> documents;  // uids in prompt order: those of the intent
  std::string layout_version;
  std::string extractor_version;
  Digest model_fingerprint = {};
  struct Context {
    uint64_t token_count = 0;
    std::vector<int32_t> tail_tokens;
  };
  std::vector<Context> contexts;  // as many as the intent has
};

struct NewOperation {
  std::string kind;
  std::string phase;
  std::string request_id;
  std::string detail;
  uint64_t tokens_total = 0;
};

struct OperationUpdate {  // absent fields stay as they are
  std::optional<std::string> phase;
  std::optional<uint64_t> tokens_done;
  std::optional<uint64_t> tokens_total;
  std::optional<std::string> detail;
};

// How an operation ended other than by success.
struct OperationEnd {
  OperationState state = OperationState::kFailed;  // or kCancelled
  int32_t error_code = 0;
  std::string error_reason;
  std::string error_message;
};

struct NewSession {
  std::string id;
  std::string display_name;
  std::optional<int64_t> expire_time;
};

struct NewTenant {
  std::string id;
  std::string display_name;
  TenantQuota quota = {};
};

struct TenantUpdate {  // absent fields stay as they are
  std::optional<std::string> display_name;
  std::optional<TenantQuota> quota;
};

// What a tenant has on disk, as quotas count it.
struct TenantUsage {
  uint64_t corpora = 0;
  uint64_t document_bytes = 0;  // of the documents in its corpora
  uint64_t cache_bytes = 0;     // tensors of its blocks, those that are still to be purged included
};

class Catalog {
 public:
  virtual ~Catalog() = default;

  // ---- Tenants. The default tenant (kDefaultTenantId) exists from the start and cannot be
  // deleted.
  virtual absl::StatusOr<Tenant> CreateTenant(const NewTenant& tenant, int64_t now) = 0;
  virtual absl::StatusOr<Tenant> GetTenant(std::string_view id) const = 0;
  virtual absl::StatusOr<Tenant> GetTenantByUid(uint64_t tenant_uid) const = 0;
  virtual absl::StatusOr<Page<Tenant>> ListTenants(const PageRequest& page) const = 0;
  virtual absl::StatusOr<Tenant> UpdateTenant(uint64_t tenant_uid, const TenantUpdate& update) = 0;
  // Walks the tenant's corpora and all lineages of the store: about 10 microseconds each.
  virtual absl::StatusOr<TenantUsage> MeasureTenant(uint64_t tenant_uid) const = 0;
  // kFailedPrecondition: it still has corpora, or is the default tenant. Its finished operations go
  // with it.
  virtual absl::Status DeleteTenant(uint64_t tenant_uid) = 0;

  // ---- Corpora.
  virtual absl::StatusOr<Corpus> CreateCorpus(uint64_t tenant_uid, const NewCorpus& corpus,
                                              int64_t now) = 0;
  virtual absl::StatusOr<Corpus> GetCorpus(uint64_t tenant_uid, std::string_view id) const = 0;
  virtual absl::StatusOr<Corpus> GetCorpusByUid(uint64_t corpus_uid) const = 0;
  virtual absl::StatusOr<Page<Corpus>> ListCorpora(uint64_t tenant_uid,
                                                   const PageRequest& page) const = 0;
  virtual absl::StatusOr<Corpus> UpdateCorpus(uint64_t corpus_uid, const CorpusUpdate& update,
                                              int64_t now) = 0;
  // Removes it with its documents, generations, sessions and intents, and cancels its running
  // operations (reason CORPUS_DELETED), in one batch. Bytes go with the next CollectGarbage.
  // Writers and commits under way get kNotFound.
  virtual absl::Status DeleteCorpus(uint64_t corpus_uid, int64_t now) = 0;
  // Corpora whose expire_time is at or before `now`, at most `limit`, in no particular order. They
  // are still there.
  virtual absl::StatusOr<std::vector<Corpus>> ExpiredCorpora(int64_t now, size_t limit) const = 0;
  // Raises last_used_time. Buffered; update_time stays.
  virtual absl::Status UseCorpus(uint64_t corpus_uid, int64_t time) = 0;

  // ---- Documents.
  virtual absl::StatusOr<std::unique_ptr<DocumentWriter>> WriteDocument(
      uint64_t corpus_uid, const NewDocument& document) = 0;
  virtual absl::StatusOr<Document> GetDocument(uint64_t corpus_uid, std::string_view id) const = 0;
  // Also finds a removed document that a generation or an ingest still refers to.
  virtual absl::StatusOr<Document> GetDocumentByUid(uint64_t document_uid) const = 0;
  virtual absl::StatusOr<Page<Document>> ListDocuments(
      uint64_t corpus_uid, const PageRequest& page) const = 0;  // by ordinal
  // Bytes [offset, offset + size), cut at the document's end; verified. kOutOfRange: offset beyond
  // the end.
  virtual absl::StatusOr<std::string> ReadDocument(const Document& document, uint64_t offset,
                                                   uint64_t size) const = 0;
  // Removes it from the corpus; generations that contain it keep serving it until they go.
  virtual absl::Status DeleteDocument(uint64_t corpus_uid, std::string_view id, int64_t now) = 0;

  // ---- Operations. Kept when their corpus goes.
  virtual absl::StatusOr<Operation> CreateOperation(uint64_t corpus_uid,
                                                    const NewOperation& operation, int64_t now) = 0;
  virtual absl::StatusOr<Operation> GetOperation(uint64_t operation_uid) const = 0;
  // Of one corpus, or of the whole tenant when corpus_uid is 0; newest first.
  virtual absl::StatusOr<Page<Operation>> ListOperations(uint64_t tenant_uid, uint64_t corpus_uid,
                                                         const PageRequest& page) const = 0;
  virtual absl::StatusOr<std::vector<Operation>> RunningOperations()
      const = 0;  // to resume after a restart
  // Buffered: progress. kFailedPrecondition: it has ended.
  virtual absl::StatusOr<Operation> UpdateOperation(uint64_t operation_uid,
                                                    const OperationUpdate& update, int64_t now) = 0;
  // Ends it, and with it its ingest if it has one (the intent, its references and its layout
  // records go). Synced. kFailedPrecondition: it has ended.
  virtual absl::StatusOr<Operation> EndOperation(uint64_t operation_uid, const OperationEnd& end,
                                                 int64_t now) = 0;
  // Ends it as succeeded with a generation that was there already. kFailedPrecondition: it has
  // ended, or an ingest of it has begun (PublishGeneration ends that).
  virtual absl::StatusOr<Operation> SucceedOperation(uint64_t operation_uid,
                                                     uint64_t generation_uid, int64_t now) = 0;
  // kFailedPrecondition: it is running.
  virtual absl::Status DeleteOperation(uint64_t operation_uid) = 0;

  // ---- Ingest: intent, blocks, layout, publication.
  // Looks up the stored prefix of every context and, in the same step, refers to it, to the
  // documents and to a new lineage per context: nothing found here can be purged before the intent
  // ends. kFailedPrecondition: the operation has ended. kAlreadyExists: it has an intent (GetIngest
  // and resume).
  virtual absl::StatusOr<IngestIntent> BeginIngest(const IngestRequest& request, int64_t now) = 0;
  virtual absl::StatusOr<IngestIntent> GetIngest(uint64_t operation_uid) const = 0;
  // Replaces the opaque plan.
  virtual absl::Status UpdateIngestPlan(uint64_t operation_uid, std::string_view plan) = 0;
  // Makes K/V and index keys of `batch` durable and visible together, with the intent's progress;
  // full blocks enter the hash map (first writer wins: a hash that is there keeps its block).
  // batch.first_block must be contexts[context].end_block, or one less when the last block is
  // partial: kFailedPrecondition otherwise. kNotFound: the intent is gone. Calls for one context
  // must not overlap; different ones may.
  virtual absl::StatusOr<IngestIntent> CommitIngestBlocks(uint64_t operation_uid, uint32_t context,
                                                          const BlockBatch& batch) = 0;
  // The manifest, the corpus's current generation, the operation's success and the end of the
  // intent, in one batch: references move to the generation. Of an ingest that restores an evicted
  // generation: its blocks and those of its sessions, in the same batch; the corpus's current
  // generation stays what it is. kFailedPrecondition: stored tokens differ from the spec's, or the
  // spec from the generation that it restores.
  virtual absl::StatusOr<Generation> PublishGeneration(uint64_t operation_uid,
                                                       const GenerationSpec& spec, int64_t now) = 0;

  // The number by which users know a generation or operation: its uid or, where it came from
  // another store with its corpus, the one that it was known by there. No two generations and
  // operations of a corpus have the same.
  virtual absl::StatusOr<uint64_t> PublicNumber(uint64_t uid) const = 0;
  // The uid behind such a number. Whether there is such an object, of that corpus, is for the
  // caller to see. kNotFound: there is none.
  virtual absl::StatusOr<uint64_t> FindByNumber(uint64_t corpus_uid, uint64_t number) const = 0;

  // Opaque parts of a generation, written while its ingest runs (token ids, source maps), of any
  // size; cut into verified pieces here. Buffered; durable with PublishGeneration or any later
  // synced write. Part numbers are the caller's. A part may be written again until the generation
  // is published.
  virtual absl::Status PutLayoutPart(uint64_t operation_uid, uint32_t context, uint32_t part,
                                     std::string_view bytes) = 0;
  // From a published generation, or from a running ingest by the generation uid of its intent.
  virtual absl::StatusOr<std::string> GetLayoutPart(uint64_t generation_uid, uint32_t context,
                                                    uint32_t part) const = 0;

  // ---- Generations.
  virtual absl::StatusOr<Generation> GetGeneration(uint64_t generation_uid) const = 0;
  // Newest first.
  virtual absl::StatusOr<Page<Generation>> ListGenerations(uint64_t corpus_uid,
                                                           const PageRequest& page) const = 0;
  // kFailedPrecondition: it is its corpus's current one, is being rebuilt, or sessions run on it.
  virtual absl::Status DeleteGeneration(uint64_t generation_uid) = 0;

  // ---- Eviction: blocks go, documents, layout and turns stay. BeginIngest with `restore` brings
  // them back.
  // Drops the blocks of a generation, in one batch: its references to lineages, and those of its
  // sessions to the same lineages; sessions keep the blocks of their own turns. Bytes go with the
  // next CollectGarbage; what other generations share stays. Readers that are open go on. The
  // caller sees to it that nothing is being committed to its sessions. kFailedPrecondition: its
  // corpus is pinned, or its cache is not complete.
  virtual absl::StatusOr<Generation> EvictGeneration(uint64_t generation_uid) = 0;
  // Takes blocks that failed verification out of use, in one batch: no look-up finds them any more,
  // and every generation with a complete cache that stands on one of them loses its blocks as by
  // eviction, pinned or not, and says so (Residency::kQuarantined). Returns these. Sessions whose
  // own turns are hit stay and cannot be read.
  virtual absl::StatusOr<std::vector<Generation>> QuarantineBlocks(const Segment& blocks) = 0;
  // The same for one generation, whose layout failed. kFailedPrecondition: its cache is not
  // complete.
  virtual absl::StatusOr<Generation> QuarantineGeneration(uint64_t generation_uid) = 0;
  // Removes entries of the hash map that failed verification: their blocks are not shared any more.
  virtual absl::Status DropDamagedHashes() = 0;
  // Generations whose cache is complete, of all tenants, in no particular order. Walks them all:
  // about 30 microseconds each.
  virtual absl::StatusOr<std::vector<CachedGeneration>> CachedGenerations() const = 0;

  // ---- Sessions. One holds references to every lineage of its segments and to one of its own.
  // kNotFound: no such generation or context. Its segments begin as the context's.
  virtual absl::StatusOr<Session> CreateSession(uint64_t generation_uid, uint32_t context_index,
                                                const NewSession& session, int64_t now) = 0;
  virtual absl::StatusOr<Session> GetSession(uint64_t corpus_uid, std::string_view id) const = 0;
  virtual absl::StatusOr<Session> GetSessionByUid(uint64_t session_uid) const = 0;
  virtual absl::StatusOr<Page<Session>> ListSessions(uint64_t corpus_uid,
                                                     const PageRequest& page) const = 0;
  // A session that shares the parent's first `turn_count` turns (their records are copied) and
  // their blocks. kInvalidArgument: the parent has fewer.
  virtual absl::StatusOr<Session> ForkSession(uint64_t parent_uid, uint32_t turn_count,
                                              const NewSession& session, int64_t now) = 0;
  // The turn, the session and its blocks in one batch. turn.number must be session.turn_count and
  // turn.token_count what the blocks add up to (kFailedPrecondition otherwise: another turn came
  // first). batch.first_block is session.token_count / 128: a partial tail, whoever's it is, is
  // written anew as the first block of the batch (copy on write). An empty batch adds a turn
  // without tokens. Calls for one session must not overlap.
  virtual absl::StatusOr<Session> CommitTurn(uint64_t session_uid, const Turn& turn,
                                             const BlockBatch& batch, int64_t now) = 0;
  virtual absl::StatusOr<Session> UpdateSessionExpiry(uint64_t session_uid,
                                                      std::optional<int64_t> expire_time,
                                                      int64_t now) = 0;
  virtual absl::StatusOr<Turn> GetTurn(uint64_t session_uid, uint32_t number) const = 0;
  virtual absl::StatusOr<Page<Turn>> ListTurns(uint64_t session_uid,
                                               const PageRequest& page) const = 0;
  // Forks made from it live on.
  virtual absl::Status DeleteSession(uint64_t session_uid) = 0;
  virtual absl::StatusOr<std::vector<Session>> ExpiredSessions(int64_t now, size_t limit) const = 0;
};

}  // namespace lectern::storage
