#include "storage/store.h"

#include <sys/random.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "storage/backup.h"
#include "storage/catalog_store.h"
#include "storage/context_reader.h"
#include "storage/corpus_export.h"
#include "storage/corpus_import.h"
#include "storage/data_directory.h"
#include "storage/fail_point.h"
#include "storage/keys.h"
#include "storage/lineage_ledger.h"
#include "storage/memory_store.h"
#include "storage/reader_pool.h"
#include "storage/records.h"
#include "storage/rocksdb_store.h"
#include "storage/scrubber.h"
#include "storage/transaction.h"

namespace lectern::storage {
namespace {

constexpr int kMaxReaderThreads = 8;

int ReaderThreads(int asked) {
  if (asked > 0) return asked;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxReaderThreads);
}

absl::Status FillRandom(void* bytes, size_t size) {
  // Up to 256 bytes come whole or not at all.
  if (getrandom(bytes, size, 0) == static_cast<ssize_t>(size)) return absl::OkStatus();
  return absl::InternalError("the system gives no random bytes");
}

class LedgerBlockStore final : public BlockStore {
 public:
  LedgerBlockStore(const LineageLedger* ledger, int threads) : ledger_(ledger), pool_(threads) {}

  absl::StatusOr<std::vector<Segment>> LookupPrefix(
      uint64_t tenant_uid, std::span<const BlockHash> hashes) const override {
    return ledger_->LookupPrefix(tenant_uid, hashes);
  }

  absl::StatusOr<std::unique_ptr<ContextReader>> OpenContext(
      uint64_t tenant_uid, std::span<const Segment> segments, uint64_t token_count,
      const Geometry& geometry) const override {
    return OpenContextReader(*ledger_, &pool_, tenant_uid, segments, token_count, geometry);
  }

  BlockCounters Counters() const override {
    const AtomicBlockCounters& counters = ledger_->counters();
    BlockCounters now;
    now.hash_lookups = counters.hash_lookups;
    now.hash_hits = counters.hash_hits;
    now.blocks_written = counters.blocks_written;
    now.kv_bytes_written = counters.kv_bytes_written;
    now.index_bytes_written = counters.index_bytes_written;
    now.kv_bytes_read = counters.kv_bytes_read;
    now.index_bytes_read = counters.index_bytes_read;
    now.verify_nanoseconds = counters.verify_nanoseconds;
    now.read_nanoseconds = counters.read_nanoseconds;
    now.damaged_records = counters.damaged_records;
    now.read_retries = counters.read_retries;
    now.slow_reads = counters.slow_reads;
    now.lineages_purged = counters.lineages_purged;
    return now;
  }

 private:
  const LineageLedger* ledger_;
  mutable ReaderPool pool_;
};

class OpenStore final : public Store {
 public:
  OpenStore(std::unique_ptr<DataDirectory> directory, std::unique_ptr<KeyValueStore> store,
            StoreInfo info, int reader_threads)
      : directory_(std::move(directory)),
        state_(std::move(store), std::move(info)),
        ledger_(&state_),
        catalog_(&state_, &ledger_),
        blocks_(&ledger_, reader_threads) {}

  // What a crash left behind is removed before anybody sees it.
  absl::Status Recover(int64_t now) {
    absl::StatusOr<uint64_t> uploads = catalog_.PurgeUploads();
    if (!uploads.ok()) return uploads.status();
    uploads_purged_ = *uploads;
    LECTERN_FAIL_POINT(kOpenUploadsPurged);
    if (absl::Status status = ledger_.DropOrphans().status(); !status.ok()) return status;
    if (absl::Status status = catalog_.CreateDefaultTenant(now); !status.ok()) return status;
    LECTERN_FAIL_POINT(kOpenRecovered);
    return absl::OkStatus();
  }

  Catalog& catalog() override { return catalog_; }
  BlockStore& blocks() override { return blocks_; }
  const Digest& secret() const override { return state_.secret(); }
  const std::string& store_id() const override { return state_.store_id(); }

  absl::StatusOr<GarbageReport> CollectGarbage() override;
  absl::StatusOr<ScrubReport> Scrub(const ScrubOptions& options) override {
    return Scrubber(&state_, &ledger_, &catalog_, options).Walk();
  }
  absl::Status Backup(const std::string& directory) override {
    return WriteBackup(&state_, directory);
  }
  absl::StatusOr<std::unique_ptr<CorpusExport>> ExportCorpus(uint64_t corpus_uid,
                                                             const TransferHave& have,
                                                             const TransferRound& round) override {
    return StoredCorpusExport::Open(&state_, &ledger_, &catalog_, corpus_uid, have, round);
  }
  absl::StatusOr<std::unique_ptr<CorpusImport>> ImportCorpus(uint64_t tenant_uid,
                                                             std::string_view id,
                                                             std::string_view source_store,
                                                             uint64_t source_corpus,
                                                             CorpusImport::Hashes hashes) override {
    return StoredCorpusImport::Open(&state_, &ledger_, &catalog_, tenant_uid, id, source_store,
                                    source_corpus, std::move(hashes));
  }
  absl::StatusOr<std::vector<ImportState>> Imports() const override {
    return StoredCorpusImport::List(catalog_);
  }
  absl::Status FinishImport(uint64_t corpus_uid) override {
    return StoredCorpusImport::Finish(&state_, corpus_uid);
  }
  absl::Status AbandonImport(uint64_t corpus_uid, int64_t now) override {
    return StoredCorpusImport::Abandon(&state_, &catalog_, corpus_uid, now);
  }
  absl::Status Flush() override { return state_.store().Flush(); }
  absl::StatusOr<Stats> GetStats() const override;
  absl::StatusOr<DiskUsage> DiskUse() const override { return state_.store().Usage(); }

 private:
  absl::Status ReclaimRanges(GarbageReport* report);

  const std::unique_ptr<DataDirectory>
      directory_;  // locked until all the rest is gone; may be null
  StoreState state_;
  LineageLedger ledger_;
  CatalogStore catalog_;
  LedgerBlockStore blocks_;
  std::mutex garbage_mutex_;
  uint64_t uploads_purged_ = 0;  // guarded by garbage_mutex_ once open
};

absl::StatusOr<GarbageReport> OpenStore::CollectGarbage() {
  std::lock_guard lock(garbage_mutex_);
  LECTERN_FAIL_POINT(kCollectionBegun);
  GarbageReport report;
  report.uploads_purged = std::exchange(uploads_purged_, 0);
  absl::StatusOr<LineageLedger::PurgeReport> lineages = ledger_.PurgeUnreferenced();
  if (!lineages.ok()) return lineages.status();
  report.lineages_purged = lineages->purged;
  report.lineages_in_use = lineages->in_use;
  if (absl::Status status = ReclaimRanges(&report); !status.ok()) return status;
  return report;
}

absl::Status OpenStore::ReclaimRanges(GarbageReport* report) {
  KeyValueStore& store = state_.store();
  const std::string prefix(1, static_cast<char>(KeySpace::kReclaim));
  Batch done;
  // The cursor pins the files that it sees: it must be gone before they can be.
  auto cursor = store.NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Reclaim> range = ParseRecord<Reclaim>(cursor->key(), cursor->value());
    if (!range.ok()) return range.status();
    absl::Status reclaim = store.ReclaimRange(range->family, range->begin, range->end);
    // Compaction needs room: what the other ranges give back may be it.
    if (absl::IsResourceExhausted(reclaim)) {
      ++report->ranges_deferred;
      continue;
    }
    if (!reclaim.ok()) return reclaim;
    ++report->ranges_reclaimed;
    done.Delete(ColumnFamily::kCatalog, std::string(cursor->key()));
  }
  if (absl::Status status = cursor->status(); !status.ok()) return status;
  cursor.reset();
  if (report->ranges_reclaimed == 0) return absl::OkStatus();
  // What was deleted with those ranges had records here (questions and answers, names), and came
  // through the log.
  const absl::Status expunged = store.Expunge(ColumnFamily::kCatalog);
  if (absl::IsResourceExhausted(expunged)) {  // no room now: all once more, at the next call
    report->ranges_deferred += std::exchange(report->ranges_reclaimed, 0);
    return absl::OkStatus();
  }
  if (!expunged.ok()) return expunged;
  LECTERN_FAIL_POINT(kReclaimForget);
  // Should the power take this, the ranges are reclaimed once more.
  return store.Write(done, Durability::kBuffered);
}

absl::StatusOr<Stats> OpenStore::GetStats() const {
  Stats stats;
  absl::StatusOr<DiskUsage> disk = state_.store().Usage();
  if (!disk.ok()) return disk.status();
  stats.disk = *disk;
  stats.background = state_.store().Background();
  const auto for_each = [&](KeySpace space, auto&& visit) -> absl::Status {
    const std::string prefix(1, static_cast<char>(space));
    auto cursor = state_.store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
    for (; cursor->Valid(); cursor->Next()) {
      if (absl::Status status = visit(*cursor); !status.ok()) return status;
    }
    return cursor->status();
  };
  absl::Status status = for_each(KeySpace::kCorpus, [&](const Cursor& cursor) {
    absl::StatusOr<Corpus> corpus = ParseRecord<Corpus>(cursor.key(), cursor.value());
    if (!corpus.ok()) return corpus.status();
    ++stats.corpora;
    stats.document_bytes += corpus->document_bytes;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  status = for_each(KeySpace::kLineage, [&](const Cursor& cursor) {
    absl::StatusOr<Lineage> lineage = ParseRecord<Lineage>(cursor.key(), cursor.value());
    if (!lineage.ok()) return lineage.status();
    ++(lineage->state == LineageState::kLive ? stats.lineages : stats.purge_pending);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  status = for_each(KeySpace::kReclaim, [&](const Cursor&) {
    ++stats.purge_pending;
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return stats;
}

// The store's own record, made when there is none.
absl::StatusOr<StoreInfo> LoadOrMakeInfo(KeyValueStore* store) {
  absl::StatusOr<StoreInfo> info = LoadRecord<StoreInfo>(*store, StoreInfoKey());
  if (!absl::IsNotFound(info.status())) return info;
  StoreInfo fresh;
  uint8_t id[16];
  absl::Status status = FillRandom(id, sizeof(id));
  if (status.ok()) status = FillRandom(fresh.secret.data(), fresh.secret.size());
  if (!status.ok()) return status;
  for (const uint8_t byte : id) fresh.store_id += fmt::format("{:02x}", byte);
  Batch batch;
  PutRecord(&batch, StoreInfoKey(), fresh);
  if (status = store->Write(batch, Durability::kSynced); !status.ok()) return status;
  LECTERN_FAIL_POINT(kOpenInfoWritten);
  return fresh;
}

absl::StatusOr<std::unique_ptr<Store>> OpenOver(std::unique_ptr<DataDirectory> directory,
                                                std::unique_ptr<KeyValueStore> store,
                                                const StoreOptions& options) {
  absl::StatusOr<StoreInfo> info = LoadOrMakeInfo(store.get());
  if (!info.ok()) return info.status();
  if (directory != nullptr && directory->store_id().empty()) {
    LECTERN_FAIL_POINT(kOpenFormat);
    absl::Status status = directory->WriteFormat(info->store_id);
    if (!status.ok()) return status;
  }
  if (directory != nullptr && directory->store_id() != info->store_id) {
    return absl::FailedPreconditionError(
        fmt::format("{}: FORMAT is of store {}, and the database of store {}: files of two stores "
                    "were mixed; restore one of them",
                    options.directory, directory->store_id(), info->store_id));
  }
  auto opened =
      std::make_unique<OpenStore>(std::move(directory), std::move(store), *std::move(info),
                                  ReaderThreads(options.reader_threads));
  if (absl::Status status = opened->Recover(options.now); !status.ok()) return status;
  return std::unique_ptr<Store>(std::move(opened));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::OpenOn(std::unique_ptr<KeyValueStore> store,
                                                     const StoreOptions& options) {
  return OpenOver(nullptr, std::move(store), options);
}

absl::StatusOr<std::unique_ptr<Store>> Store::OpenInMemory(const StoreOptions& options) {
  return OpenOver(nullptr, NewMemoryStore(), options);
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  absl::StatusOr<std::unique_ptr<DataDirectory>> directory = DataDirectory::Open(options.directory);
  if (!directory.ok()) return directory.status();
  RocksDbOptions rocksdb;
  rocksdb.directory = (*directory)->database();
  rocksdb.load_directory = (*directory)->load();
  rocksdb.watermark = (*directory)->watermark();
  rocksdb.manifest_mark = (*directory)->manifest_mark();
  rocksdb.direct_reads = options.direct_reads;
  rocksdb.disk_cap = options.disk_cap;
  rocksdb.read_timeout = options.read_timeout;
  absl::StatusOr<std::unique_ptr<KeyValueStore>> database = OpenRocksDbStore(rocksdb);
  if (!database.ok()) return database.status();
  return OpenOver(*std::move(directory), *std::move(database), options);
}

}  // namespace lectern::storage
