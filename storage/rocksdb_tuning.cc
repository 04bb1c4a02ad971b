#include "storage/rocksdb_tuning.h"

#include <algorithm>
#include <limits>

#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

namespace lectern::storage {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

// Catalog and hash blocks only: K/V and index keys are cached by the engine's pools, and reading
// them through here would push out the small records that every request needs.
constexpr size_t kBlockCacheBytes = 64 * kMiB;

// An open table keeps its index and filter in memory (about 40 bytes a record) and one descriptor.
// 2048 tables of kMaxBulkFileBytes are 512 GB; beyond that the least recently used are closed.
constexpr int kMaxOpenFiles = 2048;

// The log is replayed at open and counts against the disk cap.
constexpr uint64_t kMaxLogBytes = 128 * kMiB;

// All memtables together. Bulk data does not pass through them.
constexpr uint64_t kMaxAllMemtableBytes = 192 * kMiB;
constexpr uint64_t kMaxSmallMemtableBytes = 16 * kMiB;
constexpr uint64_t kMaxLargeMemtableBytes = 64 * kMiB;

constexpr uint64_t kMaxBulkFileBytes = 256 * kMiB;
constexpr uint64_t kMaxInfoLogBytes = 4 * kMiB;
constexpr size_t kInfoLogFiles = 4;

// The same as shares of a disk cap, for caps below 8 GiB. A log below 2 MiB would be replaced all
// the time; a document's piece is 1 MiB.
constexpr uint64_t kLogShare = 64;
constexpr uint64_t kSmallMemtableShare = 256;
constexpr uint64_t kLargeMemtableShare = 128;
constexpr uint64_t kBulkFileShare = 32;
constexpr uint64_t kManifestShare = 128;
constexpr uint64_t kInfoLogShare = 1024;

// Write-back starts early, so that the fsync at the end of a file or log finds little left to
// write.
constexpr uint64_t kBytesPerSync = 1 * kMiB;

// Two compactions and flushes at a time: compaction only ever touches the small share that came
// through the log.
constexpr int kBackgroundJobs = 2;

// Between two attempts to write again what a failed write left in memory.
constexpr uint64_t kRecoveryMicroseconds = 500'000;

// A manifest is rewritten past this size; each ingest adds a few hundred bytes to it.
constexpr uint64_t kMaxManifestBytes = 64 * kMiB;

uint64_t Share(uint64_t disk_cap, uint64_t share, uint64_t least, uint64_t most) {
  return disk_cap == 0 ? most : std::clamp(disk_cap / share, least, most);
}

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

uint64_t StoreSizes::Headroom() const { return log + 2 * large_memtable; }

StoreSizes SizesFor(uint64_t disk_cap) {
  StoreSizes sizes;
  sizes.log = Share(disk_cap, kLogShare, 2 * kMiB, kMaxLogBytes);
  sizes.manifest = Share(disk_cap, kManifestShare, kMiB, kMaxManifestBytes);
  sizes.info_log = Share(disk_cap, kInfoLogShare, kMiB / 4, kMaxInfoLogBytes);
  sizes.small_memtable = Share(disk_cap, kSmallMemtableShare, kMiB, kMaxSmallMemtableBytes);
  sizes.large_memtable = Share(disk_cap, kLargeMemtableShare, 2 * kMiB, kMaxLargeMemtableBytes);
  sizes.all_memtables = Share(disk_cap, kLogShare, 4 * kMiB, kMaxAllMemtableBytes);
  sizes.bulk_file = Share(disk_cap, kBulkFileShare, 8 * kMiB, kMaxBulkFileBytes);
  return sizes;
}

std::shared_ptr<rocksdb::Cache> NewBlockCache() { return rocksdb::NewLRUCache(kBlockCacheBytes); }

rocksdb::DBOptions TunedDbOptions(const StoreSizes& sizes, bool direct_reads) {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.max_open_files = kMaxOpenFiles;
  options.max_total_wal_size = sizes.log;
  options.db_write_buffer_size = sizes.all_memtables;
  options.bytes_per_sync = kBytesPerSync;
  options.wal_bytes_per_sync = kBytesPerSync;
  options.max_background_jobs = kBackgroundJobs;
  options.max_manifest_file_size = sizes.manifest;
  options.use_direct_reads = direct_reads;
  // Whatever was lost with the power, what is left is a prefix without a hole.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // After a write error RocksDB tries to recover for as long as it takes (write_gate.h).
  options.max_bgerror_resume_count = std::numeric_limits<int>::max();
  options.bgerror_resume_retry_interval = kRecoveryMicroseconds;
  // The store flushes before it closes (rocksdb_store.cc).
  options.avoid_flush_during_shutdown = true;
  // A missing or shortened log, or a table file put in another's place, is found at open.
  options.track_and_verify_wals_in_manifest = true;
  options.verify_sst_unique_id_in_manifest = true;
  // The info log is for post-mortems; metrics come from our own counters.
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.max_log_file_size = sizes.info_log;
  options.keep_log_file_num = kInfoLogFiles;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

rocksdb::ColumnFamilyOptions TunedFamilyOptions(
    ColumnFamily family, const StoreSizes& sizes,
    const std::shared_ptr<rocksdb::Cache>& block_cache) {
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
  options.write_buffer_size = large ? sizes.large_memtable : sizes.small_memtable;
  // bf16 noise and hashes do not compress; text and small records do, at LZ4's speed.
  options.compression =
      bulk || family == ColumnFamily::kHash ? rocksdb::kNoCompression : rocksdb::kLZ4Compression;
  options.level_compaction_dynamic_level_bytes = true;
  if (large) options.target_file_size_base = sizes.bulk_file;
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
