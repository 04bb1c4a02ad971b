// Verifying everything a store holds, at a pace that leaves the disk to those who ask questions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "storage/block.h"

namespace lectern::storage {

// Something that is not as it was written. The uids that are known are set, the others 0.
struct Damage {
  enum class Kind {
    kCatalog,   // a record of the catalog, or one that another names and that is not there
    kDocument,  // bytes of a document: nothing can bring them back but another upload
    kLayout,    // source maps of a generation: rebuilt from its documents
    kBlocks,    // blocks of a lineage: rebuilt from the documents, or lost with a session's turn
    kHash,      // an entry of the hash map: only sharing is lost
  };
  Kind kind = Kind::kCatalog;
  std::string what;  // kind and key of the record, and what is wrong with it
  uint64_t tenant_uid = 0;
  uint64_t document_uid = 0;
  uint64_t generation_uid = 0;
  // Of kBlocks.
  Segment blocks;
  // Corpora that are affected: those of the generations, sessions and ingests that refer to it.
  std::vector<uint64_t> corpora;
  std::vector<uint64_t> generations;  // likewise
  std::vector<uint64_t> sessions;
};

struct ScrubOptions {
  uint64_t bytes_per_second = 0;  // read at most so fast; 0: as fast as it goes
  uint64_t corpus_uid = 0;        // not 0: its documents, layouts and blocks alone
  // Asked between records; true ends the walk. May be empty.
  std::function<bool()> stop;
  // Told of each damage when it is met, before the walk goes on. May be empty.
  std::function<void(const Damage&)> found;
};

struct ScrubReport {
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::vector<Damage> damages;
  bool complete = false;  // false: stopped before the end
};

// "catalog", "document", "layout", "blocks", "hash".
const char* DamageKindName(Damage::Kind kind);

}  // namespace lectern::storage
