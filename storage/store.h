// One data directory: its lock and format, the catalog and the blocks over RocksDB, or all of it in
// memory.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block_store.h"
#include "storage/catalog.h"
#include "storage/key_value_store.h"
#include "storage/scrub.h"
#include "storage/transfer.h"

namespace lectern::storage {

// Of the directory as a whole. A store of a newer format is refused, never guessed at.
inline constexpr uint32_t kFormatVersion = 1;

struct StoreOptions {
  std::string directory;
  bool direct_reads = false;                       // bypass the page cache when reading tables
  int reader_threads = 0;                          // for batched reads; 0 = one per core, at most 8
  std::chrono::milliseconds read_timeout{30'000};  // of the disk; 0: none (rocksdb_store.h)
  uint64_t disk_cap = 0;  // bytes that the directory shall stay under; 0: none (rocksdb_store.h)
  int64_t now = 0;        // creation time of the default tenant, in a new store
};

struct Stats {
  DiskUsage disk;
  uint64_t document_bytes = 0;  // logical, of the documents in corpora
  uint64_t corpora = 0;
  uint64_t lineages = 0;
  uint64_t purge_pending = 0;  // lineages and ranges whose bytes are still to be given back
  BackgroundCounters background;
};

struct GarbageReport {
  uint64_t lineages_purged = 0;
  uint64_t lineages_in_use = 0;  // unreferenced, but open in a ContextReader: for the next call
  uint64_t ranges_reclaimed = 0;
  uint64_t ranges_deferred = 0;  // deleted, but their bytes need room to be given back: next call
  uint64_t uploads_purged = 0;
};

// Why Store::Open refuses a directory as it is.
enum class OpenFailure {
  kLocked,   // another process has it open
  kForeign,  // it holds something else
  kFormat,   // a newer Lectern wrote it
};
// Of a kFailedPrecondition from Store::Open; nothing of any other status.
std::optional<OpenFailure> OpenFailureOf(const absl::Status& status);

class Store {
 public:
  // Opens `directory`, making it when it does not exist (its parent must). Interrupted uploads and
  // blocks of unfinished commits are purged on the way. Fails with
  //   kFailedPrecondition  a newer format (both versions are named); a directory that holds
  //   something else; another
  //                        process has it open
  //   kNotFound            the parent directory does not exist
  //   kPermissionDenied    it cannot be written
  //   kDataLoss            it is damaged: the message says which file
  //   kResourceExhausted   no space left to open it
  // A kFailedPrecondition says which of the three it is: OpenFailureOf.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);
  // Everything in memory, gone with the object.
  static absl::StatusOr<std::unique_ptr<Store>> OpenInMemory(const StoreOptions& options);
  // Over a key-value store made elsewhere.
  static absl::StatusOr<std::unique_ptr<Store>> OpenOn(std::unique_ptr<KeyValueStore> store,
                                                       const StoreOptions& options);

  virtual ~Store() = default;

  virtual Catalog& catalog() = 0;
  virtual BlockStore& blocks() = 0;

  // Random, made with the store; the engine derives tenants' salts from it (HMAC over the tenant's
  // uid).
  virtual const Digest& secret() const = 0;
  virtual const std::string& store_id() const = 0;  // 32 hex digits

  // Purges lineages and documents without references and gives their bytes back to the file system.
  // May take seconds; call it from a background thread after deletions. Everything it has left
  // undone when the process dies is found and done by a later call. Calls are serialised.
  virtual absl::StatusOr<GarbageReport> CollectGarbage() = 0;
  // Verifies every record there is. Does not change anything: what is to be done about damage is
  // the caller's (Catalog::QuarantineBlocks). An error is one of the store as a whole.
  virtual absl::StatusOr<ScrubReport> Scrub(const ScrubOptions& options) = 0;
  // A backup: a directory that Open takes, as everything was at one moment; questions, ingests and
  // deletions go on. `directory` must not exist or be empty; table files are linked where it is on
  // the same file system. FORMAT is written last: without it the backup is not complete.
  //   kAlreadyExists       there is something in the directory
  //   kFailedPrecondition  this store is in memory
  virtual absl::Status Backup(const std::string& directory) = 0;
  // ---- a corpus to or from another store (transfer.h)
  // kFailedPrecondition: it is to be the last round, and an operation of the corpus runs.
  virtual absl::StatusOr<std::unique_ptr<CorpusExport>> ExportCorpus(
      uint64_t corpus_uid, const TransferHave& have, const TransferRound& round) = 0;
  // Goes on with the import of that corpus if there is one that is not published, else begins one.
  // One object at a time for each import.
  virtual absl::StatusOr<std::unique_ptr<CorpusImport>> ImportCorpus(
      uint64_t tenant_uid, std::string_view id, std::string_view source_store,
      uint64_t source_corpus, CorpusImport::Hashes hashes) = 0;
  virtual absl::StatusOr<std::vector<ImportState>> Imports() const = 0;
  // The corpus is this store's own now. kNotFound: there is no such import.
  virtual absl::Status FinishImport(uint64_t corpus_uid) = 0;
  // Removes what has come, and the corpus if it was published. kNotFound: there is no such import.
  virtual absl::Status AbandonImport(uint64_t corpus_uid, int64_t now) = 0;

  // Moves what is in the log into tables, e.g. before the process ends.
  virtual absl::Status Flush() = 0;
  virtual absl::StatusOr<Stats> GetStats() const = 0;
  // Its `disk` alone, without a walk through the catalog: one look at each file of the directory.
  virtual absl::StatusOr<DiskUsage> DiskUse() const = 0;
};

// Copies a backup to a data directory that does not exist or is empty, byte for byte and synced;
// FORMAT comes last. The result is worth a Scrub.
//   kNotFound            there is no backup, or one that was not completed
//   kFailedPrecondition  it was made by a newer Lectern, or something has it open
//   kAlreadyExists       there is something in the data directory
absl::Status RestoreBackup(const std::string& backup, const std::string& directory);

}  // namespace lectern::storage
