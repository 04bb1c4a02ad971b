#include "storage/record.h"

#include <cassert>
#include <cstring>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#define XXH_STATIC_LINKING_ONLY  // the streaming state on the stack
#include <xxhash.h>

namespace lectern::storage {
namespace {

constexpr uint16_t kMagic = 0x724c;  // "Lr"
constexpr size_t kPrefixBytes = 8;   // magic, kind, version, payload length

struct Checksum {
  uint64_t low;
  uint64_t high;
  bool operator==(const Checksum&) const = default;
};

// XXH3-128 of (column family, key length, key, parts...).
template <typename... Parts>
Checksum BoundChecksum(ColumnFamily family, std::string_view key, Parts... parts) {
  Encoder identity;
  identity.Fixed8(static_cast<uint8_t>(family));
  identity.Fixed32(static_cast<uint32_t>(key.size()));
  identity.Raw(key);
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, identity.bytes().data(), identity.bytes().size());
  (XXH3_128bits_update(&state, parts.data(), parts.size()), ...);
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  return {hash.low64, hash.high64};
}

std::string Prefix(RecordKind kind, uint32_t payload_bytes) {
  Encoder prefix;
  prefix.Fixed16(kMagic);
  prefix.Fixed8(static_cast<uint8_t>(kind));
  prefix.Fixed8(RecordVersion(kind));
  prefix.Fixed32(payload_bytes);
  return prefix.Take();
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char byte : bytes) hex += fmt::format("{:02x}", static_cast<uint8_t>(byte));
  return hex;
}

absl::Status NewerVersion(RecordKind kind, uint8_t version) {
  return absl::FailedPreconditionError(
      fmt::format("a {} record has version {}, and this program reads versions up to {}: it was "
                  "written by a newer Lectern; use that one",
                  RecordKindName(kind), version, RecordVersion(kind)));
}

// Reads the first eight bytes. The version is judged by the caller once the checksum has vouched
// for it.
absl::Status ReadPrefix(RecordKind kind, ColumnFamily family, std::string_view key,
                        std::string_view value, uint8_t* version, uint32_t* payload_bytes) {
  Decoder decoder(value.substr(0, kPrefixBytes));
  const uint16_t magic = decoder.Fixed16();
  const uint8_t stored_kind = decoder.Fixed8();
  *version = decoder.Fixed8();
  *payload_bytes = decoder.Fixed32();
  if (!decoder.ok()) return DamagedRecord(kind, family, key, "truncated");
  if (magic != kMagic) return DamagedRecord(kind, family, key, "not a record");
  if (stored_kind != static_cast<uint8_t>(kind)) {
    return DamagedRecord(kind, family, key, fmt::format("holds a record of kind {}", stored_kind));
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view RecordKindName(RecordKind kind) {
  switch (kind) {
    case RecordKind::kStoreInfo:
      return "StoreInfo";
    case RecordKind::kTenant:
      return "Tenant";
    case RecordKind::kCorpus:
      return "Corpus";
    case RecordKind::kDocument:
      return "Document";
    case RecordKind::kUpload:
      return "Upload";
    case RecordKind::kGeneration:
      return "Generation";
    case RecordKind::kIngestIntent:
      return "IngestIntent";
    case RecordKind::kOperation:
      return "Operation";
    case RecordKind::kSession:
      return "Session";
    case RecordKind::kTurn:
      return "Turn";
    case RecordKind::kLink:
      return "Link";
    case RecordKind::kReference:
      return "Reference";
    case RecordKind::kLineage:
      return "Lineage";
    case RecordKind::kBlockRun:
      return "BlockRun";
    case RecordKind::kReclaim:
      return "Reclaim";
    case RecordKind::kHashEntry:
      return "HashEntry";
    case RecordKind::kDocumentChunk:
      return "DocumentChunk";
    case RecordKind::kLayoutPiece:
      return "LayoutPiece";
    case RecordKind::kImport:
      return "Import";
    case RecordKind::kKeptRecord:
      return "KeptRecord";
    case RecordKind::kKv:
      return "Kv";
    case RecordKind::kIndexBf16:
      return "IndexBf16";
    case RecordKind::kIndexInt8:
      return "IndexInt8";
  }
  return "unknown";
}

uint8_t RecordVersion(RecordKind kind) {
  switch (kind) {
    // A kind whose payload changes gets a case of its own here.
    case RecordKind::kTenant:  // 2: quotas; 3: weight
      return 3;
    case RecordKind::kCorpus:      // 2: pinned, last_used_time
    case RecordKind::kGeneration:  // 2: the residency "quarantined"
      return 2;
    default:
      return 1;
  }
}

absl::Status DamagedRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                           std::string_view what) {
  return absl::DataLossError(fmt::format("{} at {}:{}: {}", RecordKindName(kind),
                                         ColumnFamilyName(family), Hex(key), what));
}

std::string SealRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                       std::string_view payload) {
  assert(payload.size() <= kMaxPayloadBytes);
  const std::string prefix = Prefix(kind, static_cast<uint32_t>(payload.size()));
  const Checksum checksum = BoundChecksum(family, key, std::string_view(prefix), payload);
  Encoder record;
  record.Raw(prefix);
  record.Fixed64(checksum.low);
  record.Fixed64(checksum.high);
  record.Raw(payload);
  return record.Take();
}

absl::StatusOr<OpenedRecord> OpenRecord(RecordKind kind, ColumnFamily family, std::string_view key,
                                        std::string_view value) {
  OpenedRecord opened = {};
  uint32_t payload_bytes = 0;
  if (absl::Status status = ReadPrefix(kind, family, key, value, &opened.version, &payload_bytes);
      !status.ok()) {
    return status;
  }
  if (value.size() != kRecordHeaderBytes + payload_bytes || payload_bytes > kMaxPayloadBytes) {
    return DamagedRecord(kind, family, key,
                         fmt::format("{} bytes where its header says {}", value.size(),
                                     kRecordHeaderBytes + uint64_t{payload_bytes}));
  }
  opened.payload = value.substr(kRecordHeaderBytes);
  Decoder checksum(value.substr(kPrefixBytes, kRecordHeaderBytes - kPrefixBytes));
  const Checksum stored = {checksum.Fixed64(), checksum.Fixed64()};
  if (stored != BoundChecksum(family, key, value.substr(0, kPrefixBytes), opened.payload)) {
    return DamagedRecord(kind, family, key, "checksum mismatch");
  }
  if (opened.version > RecordVersion(kind)) return NewerVersion(kind, opened.version);
  return opened;
}

void SealDataRecord(const DataHeader& header, ColumnFamily family, std::string_view key,
                    std::span<const uint32_t> slice_bytes, std::string* value) {
  const size_t payload_offset = DataPayloadOffset(header.slices);
  assert(slice_bytes.size() == header.slices);
  assert(payload_offset + header.payload_bytes == value->size());
  assert(std::accumulate(slice_bytes.begin(), slice_bytes.end(), uint64_t{0}) ==
         header.payload_bytes);
  Encoder encoder;
  encoder.Raw(Prefix(header.kind, header.payload_bytes));
  encoder.Fixed64(header.commit_sequence);
  encoder.Digest32(header.hash);
  encoder.Fixed32(header.tokens);
  encoder.Fixed16(header.slices);
  encoder.Fixed16(header.row_elements);
  encoder.Fixed8(header.element_bytes);
  for (int i = 0; i < 7; ++i) encoder.Fixed8(0);
  assert(encoder.bytes().size() == kDataHeaderBytes);
  size_t offset = payload_offset;
  for (const uint32_t size : slice_bytes) {
    encoder.Fixed64(XXH3_64bits(value->data() + offset, size));
    offset += size;
  }
  const Checksum checksum = BoundChecksum(family, key, std::string_view(encoder.bytes()));
  encoder.Fixed64(checksum.low);
  encoder.Fixed64(checksum.high);
  std::memcpy(value->data(), encoder.bytes().data(), encoder.bytes().size());
}

absl::StatusOr<DataRecord> DataRecord::Open(RecordKind kind, ColumnFamily family,
                                            std::string_view key, std::string_view value) {
  DataRecord record;
  DataHeader& header = record.header_;
  header.kind = kind;
  uint8_t version = 0;
  if (absl::Status status = ReadPrefix(kind, family, key, value, &version, &header.payload_bytes);
      !status.ok()) {
    return status;
  }
  if (value.size() < kDataHeaderBytes) return DamagedRecord(kind, family, key, "truncated");
  Decoder decoder(value.substr(kPrefixBytes, kDataHeaderBytes - kPrefixBytes));
  header.commit_sequence = decoder.Fixed64();
  header.hash = decoder.Digest32();
  header.tokens = decoder.Fixed32();
  header.slices = decoder.Fixed16();
  header.row_elements = decoder.Fixed16();
  header.element_bytes = decoder.Fixed8();
  const size_t payload_offset = DataPayloadOffset(header.slices);
  if (value.size() != payload_offset + header.payload_bytes) {
    return DamagedRecord(kind, family, key,
                         fmt::format("{} bytes where its header says {}", value.size(),
                                     payload_offset + header.payload_bytes));
  }
  const size_t checksum_offset = payload_offset - kDataChecksumBytes;
  Decoder checksum(value.substr(checksum_offset, kDataChecksumBytes));
  const Checksum stored = {checksum.Fixed64(), checksum.Fixed64()};
  if (stored != BoundChecksum(family, key, value.substr(0, checksum_offset))) {
    return DamagedRecord(kind, family, key, "header checksum mismatch");
  }
  if (version > RecordVersion(kind)) return NewerVersion(kind, version);
  record.family_ = family;
  record.key_ = key;
  record.checksums_ = value.substr(kDataHeaderBytes, checksum_offset - kDataHeaderBytes);
  record.payload_ = value.substr(payload_offset);
  return record;
}

absl::StatusOr<std::string_view> DataRecord::Slice(size_t slice, size_t offset, size_t size) const {
  if (slice >= header_.slices || offset > payload_.size() || size > payload_.size() - offset) {
    return DamagedRecord(header_.kind, family_, key_,
                         fmt::format("no slice {} of {} bytes at {}", slice, size, offset));
  }
  const std::string_view bytes = payload_.substr(offset, size);
  Decoder stored(checksums_.substr(slice * kSliceChecksumBytes, kSliceChecksumBytes));
  if (stored.Fixed64() != XXH3_64bits(bytes.data(), bytes.size())) {
    return DamagedRecord(header_.kind, family_, key_,
                         fmt::format("slice {}: checksum mismatch", slice));
  }
  return bytes;
}

}  // namespace lectern::storage
