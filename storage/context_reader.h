// Reads one context: from block numbers to verified bytes in the caller's memory. Internal to
// storage.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block_store.h"
#include "storage/lineage_ledger.h"
#include "storage/reader_pool.h"

namespace lectern::storage {

// The contract is BlockStore::OpenContext's.
absl::StatusOr<std::unique_ptr<ContextReader>> OpenContextReader(
    const LineageLedger& ledger, ReaderPool* pool, uint64_t tenant_uid,
    std::span<const Segment> segments, uint64_t token_count, const Geometry& geometry);

}  // namespace lectern::storage
