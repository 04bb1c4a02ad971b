#include "engine/room/disk_bytes.h"

namespace lectern::engine {
namespace {

// Of one record: envelope with slice checksums (storage/README.md), key, and its share of the
// table's index, filter and framing. Rounded up: tests/engine/room/disk_room_test.cc holds the sum
// to a tenth of what is then on disk.
constexpr int64_t kRecordBytes = 256;
// Of one block: directory and hash entries, in log and table.
constexpr int64_t kBlockCatalogBytes = 512;
// About 32 KiB a part of 8,192 tokens (engine/ingest/ingest_plan.h), before compression; half as
// much again to be safe.
constexpr int64_t kLayoutBytesPerToken = 6;
constexpr int64_t kLayoutFixedBytes = 16 << 10;

}  // namespace

int64_t BlockDiskBytes(const storage::Geometry& geometry, int64_t tokens) {
  const int64_t blocks = (tokens + storage::kBlockTokens - 1) / storage::kBlockTokens;
  const int64_t tensors = static_cast<int64_t>(geometry.layers * geometry.KvBytes(1) +
                                               geometry.IndexedLayers() * geometry.IndexBytes(1));
  const int64_t records = blocks * (geometry.layers + geometry.IndexedLayers());
  return tokens * tensors + records * kRecordBytes + blocks * kBlockCatalogBytes;
}

int64_t LayoutDiskBytes(int64_t tokens) {
  return kLayoutFixedBytes + tokens * kLayoutBytesPerToken;
}

int64_t UploadDiskBytes(int64_t bytes) {
  constexpr int64_t kPieceShare = 512;  // a record of about 100 bytes for each MiB, generously
  return bytes + bytes / kPieceShare + kRecordBytes;
}

}  // namespace lectern::engine
