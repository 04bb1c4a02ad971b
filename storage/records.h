// How each typed record becomes bytes, and the two calls that read and write one. The payloads are
// specified in storage/README.md. Internal to storage.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"
#include "storage/catalog_types.h"
#include "storage/encoding.h"
#include "storage/key_value_store.h"
#include "storage/record.h"

namespace lectern::storage {

struct StoreInfo {
  std::string store_id;
  Digest secret = {};
  uint64_t next_uid = 1;
  uint64_t next_lineage = 1;
  uint64_t next_sequence = 1;
  bool operator==(const StoreInfo&) const = default;
};

// A document being uploaded: its chunks are garbage unless it is committed.
struct Upload {
  uint64_t corpus_uid = 0;
  bool operator==(const Upload&) const = default;
};

// A corpus on its way from another store (corpus_import.h): what of it has a place here already.
// Holds a reference to each of its lineages.
struct Import {
  struct Object {
    uint64_t source = 0;  // uid in the other store
    uint64_t uid = 0;
    bool complete = false;  // its bytes are here
    bool operator==(const Object&) const = default;
  };
  struct Blocks {
    uint64_t source = 0;  // lineage in the other store
    uint64_t lineage = 0;
    uint32_t first_block = 0;
    bool operator==(const Blocks&) const = default;
  };
  uint64_t corpus_uid = 0;  // of the corpus to be; its key
  uint64_t tenant_uid = 0;
  std::string id;            // of the corpus
  std::string source_store;  // its id
  uint64_t source_corpus = 0;
  bool published = false;
  std::vector<Object> documents;
  std::vector<Object> generations;  // complete: their layout is here
  std::vector<Blocks> blocks;
  bool operator==(const Import&) const = default;
};

// A catalog record of the store that a corpus comes from, as it lies there (corpus_import.h). Its
// own key ends this one's.
struct KeptRecord {
  std::string value;
  bool operator==(const KeptRecord&) const = default;
};

struct Link {
  uint64_t uid = 0;
  bool operator==(const Link&) const = default;
};

struct Reference {
  bool operator==(const Reference&) const = default;
};

enum class LineageState : uint8_t { kLive = 1, kPurging = 2 };

struct Lineage {
  uint64_t tenant_uid = 0;
  LineageState state = LineageState::kLive;
  uint32_t first_block = 0;
  uint32_t end_block = 0;
  uint32_t tail_tokens = 0;  // of its last block; 0 while it has none
  uint64_t bytes = 0;        // of its tensors
  Geometry geometry;

  uint32_t block_count() const { return end_block - first_block; }
  bool has_partial_tail() const { return block_count() > 0 && tail_tokens < kBlockTokens; }
  // Tokens of blocks [first_block, end_block).
  uint64_t tokens() const {
    return block_count() == 0 ? 0 : uint64_t{block_count() - 1} * kBlockTokens + tail_tokens;
  }
  bool operator==(const Lineage&) const = default;
};

struct BlockRun {
  struct Block {
    uint32_t tokens = 0;
    BlockHash hash = {};
    bool operator==(const Block&) const = default;
  };
  uint64_t commit_sequence = 0;
  std::vector<Block> blocks;
  std::string provenance;
  bool operator==(const BlockRun&) const = default;
};

struct HashEntry {
  uint64_t lineage = 0;
  uint32_t block = 0;
  bool operator==(const HashEntry&) const = default;
};

struct Reclaim {
  ColumnFamily family = ColumnFamily::kKv;
  std::string begin;
  std::string end;
  bool operator==(const Reclaim&) const = default;
};

// Specialised for every record type: its kind, its column family and its codec.
template <typename T>
struct RecordCodec;

#define LECTERN_RECORD(type, family)                              \
  template <>                                                     \
  struct RecordCodec<type> {                                      \
    static constexpr RecordKind kKind = RecordKind::k##type;      \
    static constexpr ColumnFamily kFamily = ColumnFamily::family; \
    static void Encode(const type& record, Encoder* encoder);     \
    static type Decode(uint8_t version, Decoder* decoder);        \
  }
LECTERN_RECORD(StoreInfo, kCatalog);
LECTERN_RECORD(Tenant, kCatalog);
LECTERN_RECORD(Corpus, kCatalog);
LECTERN_RECORD(Document, kCatalog);
LECTERN_RECORD(Upload, kCatalog);
LECTERN_RECORD(Generation, kCatalog);
LECTERN_RECORD(IngestIntent, kCatalog);
LECTERN_RECORD(Import, kCatalog);
LECTERN_RECORD(KeptRecord, kCatalog);
LECTERN_RECORD(Operation, kCatalog);
LECTERN_RECORD(Session, kCatalog);
LECTERN_RECORD(Turn, kCatalog);
LECTERN_RECORD(Link, kCatalog);
LECTERN_RECORD(Reference, kCatalog);
LECTERN_RECORD(Lineage, kCatalog);
LECTERN_RECORD(BlockRun, kCatalog);
LECTERN_RECORD(Reclaim, kCatalog);
LECTERN_RECORD(HashEntry, kHash);
#undef LECTERN_RECORD

template <typename T>
absl::StatusOr<T> ParseRecord(std::string_view key, std::string_view value) {
  using Codec = RecordCodec<T>;
  absl::StatusOr<OpenedRecord> opened = OpenRecord(Codec::kKind, Codec::kFamily, key, value);
  if (!opened.ok()) return opened.status();
  Decoder decoder(opened->payload);
  T record = Codec::Decode(opened->version, &decoder);
  if (!decoder.ok() || decoder.remaining() != 0) {
    return DamagedRecord(Codec::kKind, Codec::kFamily, key, "malformed");
  }
  return record;
}

// kNotFound without a wording: callers name what they looked for.
template <typename T>
absl::StatusOr<T> LoadRecord(const KeyValueStore& store, std::string_view key) {
  PinnedValue value;
  if (absl::Status status = store.Get(RecordCodec<T>::kFamily, key, &value); !status.ok())
    return status;
  return ParseRecord<T>(key, value.view());
}

template <typename T>
std::string FormatRecord(std::string_view key, const T& record) {
  using Codec = RecordCodec<T>;
  Encoder encoder;
  Codec::Encode(record, &encoder);
  return SealRecord(Codec::kKind, Codec::kFamily, key, encoder.bytes());
}

template <typename T>
void PutRecord(Batch* batch, std::string key, const T& record) {
  std::string value = FormatRecord(key, record);
  batch->Put(RecordCodec<T>::kFamily, std::move(key), std::move(value));
}

}  // namespace lectern::storage
