// What an ingest or a turn is going to take on disk, before it is written. Estimates from above:
// what is promised and not used is given back.
#pragma once

#include <cstdint>

#include "storage/block.h"

namespace lectern::engine {

// Blocks of `tokens` tokens with their envelopes, their table's index, directory and hash entries.
int64_t BlockDiskBytes(const storage::Geometry& geometry, int64_t tokens);

// A context's token ids and source maps (engine/text/layout_part.cc).
int64_t LayoutDiskBytes(int64_t tokens);

// One piece of an uploaded document: its bytes and its record.
int64_t UploadDiskBytes(int64_t bytes);

}  // namespace lectern::engine
