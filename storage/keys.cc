#include "storage/keys.h"

#include <cassert>

namespace lectern::storage {
namespace {

// Composes a key from big-endian numbers and bytes.
class KeyBuilder {
 public:
  template <typename T>
  KeyBuilder& Number(T value) {
    for (size_t i = sizeof(T); i-- > 0;) key_.push_back(static_cast<char>(value >> (8 * i)));
    return *this;
  }
  KeyBuilder& Space(KeySpace space) { return Number(static_cast<uint8_t>(space)); }
  KeyBuilder& Text(std::string_view text) {
    key_.append(text);
    return *this;
  }
  std::string Take() { return std::move(key_); }

 private:
  std::string key_;
};

template <typename T>
T KeyNumber(std::string_view key, size_t offset) {
  assert(offset + sizeof(T) <= key.size());
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>((value << 8) | static_cast<uint8_t>(key[offset + i]));
  }
  return value;
}

}  // namespace

std::string StoreInfoKey() { return KeyBuilder().Space(KeySpace::kStoreInfo).Take(); }

std::string ObjectKey(KeySpace space, uint64_t uid) {
  return KeyBuilder().Space(space).Number(uid).Take();
}

std::string ChildKey(KeySpace space, uint64_t parent, uint64_t order) {
  return KeyBuilder().Space(space).Number(parent).Number(order).Take();
}

std::string NameKey(KeySpace space, uint64_t parent, std::string_view id) {
  return KeyBuilder().Space(space).Number(parent).Text(id).Take();
}

std::string KeptKey(uint64_t import_uid, KeptPart part, std::string_view source_key) {
  return KeptPrefix(import_uid) + static_cast<char>(part) + std::string(source_key);
}

std::string KeptPrefix(uint64_t import_uid) { return ObjectKey(KeySpace::kKept, import_uid); }

std::string BlockRunKey(uint64_t lineage, uint32_t first_block) {
  return KeyBuilder().Space(KeySpace::kBlockRun).Number(lineage).Number(first_block).Take();
}

std::string ReferenceKey(KeySpace space, uint64_t target, HolderKind holder, uint64_t holder_uid) {
  return KeyBuilder()
      .Space(space)
      .Number(target)
      .Number(static_cast<uint8_t>(holder))
      .Number(holder_uid)
      .Take();
}

std::string HashKey(uint64_t tenant_uid, const Digest& hash) {
  return KeyBuilder()
      .Number(tenant_uid)
      .Text({reinterpret_cast<const char*>(hash.data()), hash.size()})
      .Take();
}

std::string KvKey(uint64_t tenant_uid, uint64_t lineage, uint32_t block, uint16_t layer) {
  return KeyBuilder().Number(tenant_uid).Number(lineage).Number(block).Number(layer).Take();
}

std::string KvBlockPrefix(uint64_t tenant_uid, uint64_t lineage, uint32_t block) {
  return KeyBuilder().Number(tenant_uid).Number(lineage).Number(block).Take();
}

std::string IndexKey(uint64_t tenant_uid, uint64_t lineage, RecordKind kind, uint32_t first_block,
                     uint16_t layer) {
  return KeyBuilder()
      .Text(IndexRunPrefix(tenant_uid, lineage, kind, first_block))
      .Number(layer)
      .Take();
}

std::string IndexRunPrefix(uint64_t tenant_uid, uint64_t lineage, RecordKind kind,
                           uint32_t first_block) {
  return KeyBuilder().Text(IndexKindPrefix(tenant_uid, lineage, kind)).Number(first_block).Take();
}

std::string IndexKindPrefix(uint64_t tenant_uid, uint64_t lineage, RecordKind kind) {
  return KeyBuilder().Number(tenant_uid).Number(lineage).Number(static_cast<uint8_t>(kind)).Take();
}

std::string LineagePrefix(uint64_t tenant_uid, uint64_t lineage) {
  return KeyBuilder().Number(tenant_uid).Number(lineage).Take();
}

std::string DocumentChunkKey(uint64_t corpus_uid, uint64_t document_uid, uint32_t chunk) {
  return KeyBuilder().Text(DocumentPrefix(corpus_uid, document_uid)).Number(chunk).Take();
}

std::string DocumentPrefix(uint64_t corpus_uid, uint64_t document_uid) {
  return KeyBuilder().Text(CorpusDocumentsPrefix(corpus_uid)).Number(document_uid).Take();
}

std::string CorpusDocumentsPrefix(uint64_t corpus_uid) {
  return KeyBuilder().Number(static_cast<uint8_t>(DocumentSpace::kChunk)).Number(corpus_uid).Take();
}

std::string LayoutPieceKey(uint64_t generation_uid, uint32_t context, uint32_t part,
                           uint32_t piece) {
  return KeyBuilder()
      .Text(LayoutPrefix(generation_uid))
      .Number(context)
      .Number(part)
      .Number(piece)
      .Take();
}

std::string LayoutPrefix(uint64_t generation_uid) {
  return KeyBuilder()
      .Number(static_cast<uint8_t>(DocumentSpace::kLayout))
      .Number(generation_uid)
      .Take();
}

std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  assert(!end.empty());
  end.back() = static_cast<char>(static_cast<uint8_t>(end.back()) + 1);
  return end;
}

uint64_t KeyNumber64(std::string_view key, size_t offset) {
  return KeyNumber<uint64_t>(key, offset);
}
uint32_t KeyNumber32(std::string_view key, size_t offset) {
  return KeyNumber<uint32_t>(key, offset);
}

}  // namespace lectern::storage
