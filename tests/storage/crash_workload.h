// The work that is killed, and what must be true of a store at any moment of it. Shared by the
// child that works and the parent that kills it.
#pragma once

#include <cstdint>
#include <string>

#include "storage/store.h"
#include "store_fixture.h"

namespace lectern::storage {

inline constexpr uint32_t kIngestBlocks = 24;
inline constexpr uint64_t kIngestTokens = kIngestBlocks * kBlockTokens + 37;
inline constexpr size_t kDocumentBytes = 2'300'000;

// 768 KiB of K/V a block: chunks of eight blocks are bulk loaded, turns go through the log.
inline Geometry CrashGeometry() {
  Geometry geometry = SmallGeometry();
  geometry.kv_heads = 4;
  geometry.head_dim = 128;
  geometry.index_dim = 64;
  return geometry;
}

inline std::string CorpusId(uint64_t number) { return "corpus" + std::to_string(number); }

inline std::string DocumentBytes(uint64_t number) {
  std::string bytes(kDocumentBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 7 + i / 251 + number);
  return bytes;
}

}  // namespace lectern::storage
