// Every RocksDB option we set, each with its reason, in one place.
#pragma once

#include <rocksdb/cache.h>
#include <rocksdb/options.h>

#include "storage/key_value_store.h"

namespace lectern::storage {

// What the store holds on disk besides its data, or holds back in memory. With a disk cap all of it
// shrinks with the cap, so that a small store is not filled by its own log.
struct StoreSizes {
  uint64_t log = 0;             // the write-ahead log, before tables are written to replace it
  uint64_t manifest = 0;        // before it is rewritten
  uint64_t info_log = 0;        // one file of them
  uint64_t all_memtables = 0;   // of all families together
  uint64_t small_memtable = 0;  // of one family
  uint64_t large_memtable = 0;
  // A bulk file is closed and the next one begun at this size, so that one file's index stays small
  // and purging a lineage finds whole files to drop.
  uint64_t bulk_file = 0;

  // What may come on top of data that was admitted, beside compaction: a log that grows to its
  // limit, and tables that are written while the log they replace is still there.
  uint64_t Headroom() const;
};
// disk_cap: bytes; 0 for none.
StoreSizes SizesFor(uint64_t disk_cap);

rocksdb::DBOptions TunedDbOptions(const StoreSizes& sizes, bool direct_reads);
rocksdb::ColumnFamilyOptions TunedFamilyOptions(ColumnFamily family, const StoreSizes& sizes,
                                                const std::shared_ptr<rocksdb::Cache>& block_cache);
std::shared_ptr<rocksdb::Cache> NewBlockCache();

rocksdb::ReadOptions TunedReadOptions(ColumnFamily family);
rocksdb::IngestExternalFileOptions TunedIngestOptions();

}  // namespace lectern::storage
