// Every RocksDB option we set, each with its reason, in one place.
#pragma once

#include <rocksdb/cache.h>
#include <rocksdb/options.h>

#include "storage/key_value_store.h"

namespace lectern::storage {

rocksdb::DBOptions TunedDbOptions(bool direct_reads);
rocksdb::ColumnFamilyOptions TunedFamilyOptions(ColumnFamily family,
                                                const std::shared_ptr<rocksdb::Cache>& block_cache);
std::shared_ptr<rocksdb::Cache> NewBlockCache();

rocksdb::ReadOptions TunedReadOptions(ColumnFamily family);
rocksdb::IngestExternalFileOptions TunedIngestOptions();

// A bulk file is closed and the next one begun at this size, so that one file's index stays small
// and purging a lineage finds whole files to drop.
inline constexpr uint64_t kBulkFileBytes = 256ull << 20;

}  // namespace lectern::storage
