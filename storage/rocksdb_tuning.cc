#include "storage/rocksdb_tuning.h"

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

namespace lectern::storage {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Catalog and hash blocks only: K/V and index keys are cached by the engine's pools, and reading
// them through here would push out the small records that every request needs.
constexpr size_t kBlockCacheBytes = 64 * kMiB;

// An open table keeps its index and filter in memory (about 40 bytes a record) and one descriptor.
// 2048 tables of kBulkFileBytes are 512 GB; beyond that the least recently used are closed.
constexpr int kMaxOpenFiles = 2048;

// The log is replayed at open and counts against the disk cap.
constexpr uint64_t kMaxLogBytes = 128 * kMiB;

// All memtables together. Bulk data does not pass through them.
constexpr size_t kAllMemtableBytes = 192 * kMiB;
constexpr size_t kSmallMemtableBytes = 16 * kMiB;
constexpr size_t kLargeMemtableBytes = 64 * kMiB;

// Write-back starts early, so that the fsync at the end of a file or log finds little left to
// write.
constexpr uint64_t kBytesPerSync = 1 * kMiB;

// Two compactions and flushes at a time: compaction only ever touches the small share that came
// through the log.
constexpr int kBackgroundJobs = 2;

// A manifest is rewritten past this size; each ingest adds a few hundred bytes to it.
constexpr uint64_t kMaxManifestBytes = 64 * kMiB;

// 1% of look-ups that find nothing in a table read a block in vain; for K/V such a block is 64 KiB
// or more.
constexpr double kBloomBitsPerKey = 10;

// Catalog records are a few hundred bytes; larger blocks would read more than is asked for.
constexpr size_t kSmallBlockBytes = 4 << 10;
// A record above this size has a block of its own in any case.
constexpr size_t kLargeBlockBytes = 64 << 10;

bool IsBulkData(ColumnFamily family) {
  return family == ColumnFamily::kKv || family == ColumnFamily::kIndexKeys;
}

}  // namespace

std::shared_ptr<rocksdb::Cache> NewBlockCache() { return rocksdb::NewLRUCache(kBlockCacheBytes); }

rocksdb::DBOptions TunedDbOptions(bool direct_reads) {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.max_open_files = kMaxOpenFiles;
  options.max_total_wal_size = kMaxLogBytes;
  options.db_write_buffer_size = kAllMemtableBytes;
  options.bytes_per_sync = kBytesPerSync;
  options.wal_bytes_per_sync = kBytesPerSync;
  options.max_background_jobs = kBackgroundJobs;
  options.max_manifest_file_size = kMaxManifestBytes;
  options.use_direct_reads = direct_reads;
  // Whatever was lost with the power, what is left is a prefix without a hole.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // After a write error we resume ourselves, with the next write: what happens when is then the
  // caller's doing.
  options.max_bgerror_resume_count = 0;
  // A missing or shortened log, or a table file put in another's place, is found at open.
  options.track_and_verify_wals_in_manifest = true;
  options.verify_sst_unique_id_in_manifest = true;
  // The info log is for post-mortems; metrics come from our own counters.
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = 4 * kMiB;
  options.keep_log_file_num = 4;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions TunedFamilyOptions(
    ColumnFamily family, const std::shared_ptr<rocksdb::Cache>& block_cache) {
  const bool bulk = IsBulkData(family);
  const bool large = bulk || family == ColumnFamily::kDocument;

  rocksdb::BlockBasedTableOptions table;
  table.block_cache = block_cache;
  table.block_size = large ? kLargeBlockBytes : kSmallBlockBytes;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  // Held by the open table, outside the cache: a look-up never waits for an index or a filter.
  table.cache_index_and_filter_blocks = false;
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;

  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = large ? kLargeMemtableBytes : kSmallMemtableBytes;
  // bf16 noise and hashes do not compress; text and small records do, at LZ4's speed.
  options.compression =
      bulk || family == ColumnFamily::kHash ? rocksdb::kNoCompression : rocksdb::kLZ4Compression;
  options.level_compaction_dynamic_level_bytes = true;
  if (large) options.target_file_size_base = kBulkFileBytes;
  // The default would rewrite every byte once in 30 days.
  options.ttl = 0;
  options.periodic_compaction_seconds = 0;
  return options;
}

rocksdb::ReadOptions TunedReadOptions(ColumnFamily family) {
  rocksdb::ReadOptions options;
  options.fill_cache = family == ColumnFamily::kCatalog || family == ColumnFamily::kHash;
  return options;
}

rocksdb::IngestExternalFileOptions TunedIngestOptions() {
  rocksdb::IngestExternalFileOptions options;
  options.move_files = true;  // a hard link: the data is written once
  options.write_global_seqno = false;
  return options;
}

}  // namespace lectern::storage
