// The envelope of every stored value. Layouts are drawn in storage/README.md; this is their only
// reader and writer.
//
// Two envelopes share their first eight bytes (magic, kind, version, payload length):
//   a *record* holds a small typed payload and one XXH3-128 over (column family, key, header,
//   payload); a *data record* holds tensors, cut into slices that can be verified alone: a header
//   with an XXH3-64 per slice, and one XXH3-128 over (column family, key, header), so that the
//   slice table is bound to the key.
// The key is part of the checksum, never of the value: bytes found under another key do not verify.
// Errors: kDataLoss naming kind and key for anything damaged; kFailedPrecondition for a version
// newer than this build's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/encoding.h"
#include "storage/key_value_store.h"

namespace lectern::storage {

// What a value is. Stored: never reuse or renumber one.
enum class RecordKind : uint8_t {
  kStoreInfo = 1,
  kTenant = 2,
  kCorpus = 3,
  kDocument = 4,
  kUpload = 5,
  kGeneration = 6,
  kIngestIntent = 7,
  kOperation = 8,
  kSession = 9,
  kTurn = 10,
  kLink = 11,       // an index entry: a uid
  kReference = 12,  // an edge holder -> lineage or document
  kLineage = 13,
  kBlockRun = 14,  // directory of consecutive blocks: hashes, token counts, provenance
  kReclaim = 15,   // a key range whose bytes are still to be given back
  kHashEntry = 16,
  kDocumentChunk = 17,
  kLayoutPiece = 18,
  kImport = 19,      // a corpus that is on its way from another store
  kKeptRecord = 20,  // a record of another store, kept for when that is lost
  // Data records.
  kKv = 32,         // bf16, slice = KV head
  kIndexBf16 = 33,  // slice = block
  kIndexInt8 = 34,  // slice = block; reserved, written from issue 6 on
};

std::string_view RecordKindName(RecordKind kind);
// The newest version this build reads and the one it writes.
uint8_t RecordVersion(RecordKind kind);

inline constexpr size_t kRecordHeaderBytes = 24;
// No typed payload is larger; a length field beyond it is damage, whatever follows.
inline constexpr uint32_t kMaxPayloadBytes = 256u << 20;

std::string SealRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                       std::string_view payload);

struct OpenedRecord {
  uint8_t version;
  std::string_view payload;  // borrows `value`
};
absl::StatusOr<OpenedRecord> OpenRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                                        std::string_view value);

// The fixed part of a data record.
struct DataHeader {
  RecordKind kind = RecordKind::kKv;
  uint32_t payload_bytes = 0;
  uint64_t commit_sequence = 0;  // by which a stale copy of the same key is told from the current
  Digest hash = {};           // prefix-chain hash of the block, of the last block of an index run
  uint32_t tokens = 0;        // in the record: 1..128 for K/V, the sum over the run for index keys
  uint16_t slices = 0;        // KV heads, or blocks of the run
  uint16_t row_elements = 0;  // head_dim, or index_dim
  uint8_t element_bytes = 2;
};

inline constexpr size_t kDataHeaderBytes = 64;  // before the slice table
inline constexpr size_t kSliceChecksumBytes = 8;
inline constexpr size_t kDataChecksumBytes = 16;  // after the slice table

constexpr size_t DataPayloadOffset(size_t slices) {
  return kDataHeaderBytes + slices * kSliceChecksumBytes + kDataChecksumBytes;
}

// Writes header, slice table and checksum in front of a payload that already stands in `value` from
// DataPayloadOffset(header.slices) on. slice_bytes[i] are the sizes of consecutive slices; their
// sum is the payload.
void SealDataRecord(const DataHeader& header, ColumnFamily family, std::string_view key,
                    std::span<const uint32_t> slice_bytes, std::string* value);

// A verified header over unverified slices.
class DataRecord {
 public:
  static absl::StatusOr<DataRecord> Open(RecordKind kind, ColumnFamily family, std::string_view key,
                                         std::string_view value);

  const DataHeader& header() const { return header_; }
  std::string_view payload() const { return payload_; }
  // Verifies bytes [offset, offset + size) of the payload as slice `slice` and returns them.
  absl::StatusOr<std::string_view> Slice(size_t slice, size_t offset, size_t size) const;

 private:
  DataHeader header_;
  ColumnFamily family_ = ColumnFamily::kKv;
  std::string key_;
  std::string_view checksums_;
  std::string_view payload_;
};

// kDataLoss "<kind> at <column family>:<key in hex>: <what>", the one wording of damage.
absl::Status DamagedRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                           std::string_view what);

}  // namespace lectern::storage
