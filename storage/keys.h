// Every key in the store. Numbers are big-endian, so that byte order is number order; ids come
// last, unescaped, because nothing follows them. In the catalog family the first byte is a
// KeySpace; an enum makes duplicates impossible. storage/README.md has the table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/encoding.h"
#include "storage/record.h"

namespace lectern::storage {

// First byte of a key of the catalog family. Stored: never reuse or renumber one.
enum class KeySpace : uint8_t {
  kStoreInfo = 0x01,
  // uid -> record
  kTenant = 0x10,
  kCorpus = 0x11,
  kDocument = 0x12,
  kUpload = 0x13,
  kGeneration = 0x14,
  kIngestIntent = 0x15,
  kOperation = 0x16,
  kSession = 0x17,
  kTurn = 0x18,  // session uid, number
  kImport = 0x19,
  kPublicNumber = 0x1a,  // uid -> the number that users know it by, where that is another
  kKept = 0x1b,          // import uid, part, key in the other store
  // (parent uid, order) -> uid
  kTenantCorpora = 0x20,
  kCorpusDocuments = 0x21,  // by ordinal
  kCorpusGenerations = 0x22,
  kTenantOperations = 0x23,
  kCorpusOperations = 0x24,
  kRunningOperations = 0x25,
  kCorpusSessions = 0x26,
  kGenerationSessions = 0x27,
  kCorpusNumbered = 0x28,  // by public number
  // (parent uid, id) -> uid
  kTenantIds = 0x30,  // parent 0
  kCorpusIds = 0x31,
  kDocumentIds = 0x32,
  kSessionIds = 0x33,
  // blocks
  kLineage = 0x40,            // lineage
  kBlockRun = 0x41,           // lineage, first block
  kLineageReference = 0x42,   // lineage, holder kind, holder uid
  kDocumentReference = 0x43,  // document uid, holder kind, holder uid
  kReclaim = 0x44,            // number
};

// Who holds a reference. Stored.
enum class HolderKind : uint8_t { kIngestIntent = 1, kGeneration = 2, kSession = 3, kImport = 4 };

std::string StoreInfoKey();
std::string ObjectKey(KeySpace space, uint64_t uid);
std::string ChildKey(KeySpace space, uint64_t parent,
                     uint64_t order);  // also turns: (session, number)
std::string NameKey(KeySpace space, uint64_t parent, std::string_view id);
// Of a replica's catalog: see CorpusImport::Keep.
enum class KeptPart : uint8_t { kDocuments = 1, kCache = 2 };
std::string KeptKey(uint64_t import_uid, KeptPart part, std::string_view source_key);
std::string KeptPrefix(uint64_t import_uid);
std::string BlockRunKey(uint64_t lineage, uint32_t first_block);
std::string ReferenceKey(KeySpace space, uint64_t target, HolderKind holder, uint64_t holder_uid);

// Family kHash.
std::string HashKey(uint64_t tenant_uid, const Digest& hash);
// Family kKv: all layers of a block lie together and blocks follow one another, so that commits
// append.
std::string KvKey(uint64_t tenant_uid, uint64_t lineage, uint32_t block, uint16_t layer);
std::string KvBlockPrefix(uint64_t tenant_uid, uint64_t lineage, uint32_t block);
// Family kIndexKeys.
std::string IndexKey(uint64_t tenant_uid, uint64_t lineage, RecordKind kind, uint32_t first_block,
                     uint16_t layer);
std::string IndexRunPrefix(uint64_t tenant_uid, uint64_t lineage, RecordKind kind,
                           uint32_t first_block);
std::string IndexKindPrefix(uint64_t tenant_uid, uint64_t lineage, RecordKind kind);
// Both data families.
std::string LineagePrefix(uint64_t tenant_uid, uint64_t lineage);
// Family kDocument.
enum class DocumentSpace : uint8_t { kChunk = 1, kLayout = 2 };
std::string DocumentChunkKey(uint64_t corpus_uid, uint64_t document_uid, uint32_t chunk);
std::string DocumentPrefix(uint64_t corpus_uid, uint64_t document_uid);
std::string CorpusDocumentsPrefix(uint64_t corpus_uid);
std::string LayoutPieceKey(uint64_t generation_uid, uint32_t context, uint32_t part,
                           uint32_t piece);
std::string LayoutPrefix(uint64_t generation_uid);

// The first key after every key that begins with `prefix`; the prefix must have a byte other than
// 0xff.
std::string PrefixEnd(std::string_view prefix);

// Big-endian numbers of a key, read from the end of a fixed-width key whose width the caller knows.
uint64_t KeyNumber64(std::string_view key, size_t offset);
uint32_t KeyNumber32(std::string_view key, size_t offset);

}  // namespace lectern::storage
