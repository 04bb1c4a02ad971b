// The prefix chain: what makes two blocks the same. hash(block) = SHA-256(fingerprint, salt, hash
// of the block before, tokens), so that equal prefixes of one tenant under one model share blocks,
// and nothing else can: a block's keys and values depend on exactly these.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "storage/block.h"

namespace lectern::engine {

class PrefixChain {
 public:
  // secret: of the store; tenant_uid: immutable. The tenant's salt is HMAC-SHA-256(secret,
  // tenant_uid): nobody outside can compute a hash, and no tenant can meet another's.
  PrefixChain(const storage::Digest& fingerprint, const storage::Digest& secret,
              uint64_t tenant_uid);

  // Of one block of 1 to 128 tokens; `previous` is all zeros for block 0.
  storage::BlockHash Next(const storage::BlockHash& previous,
                          std::span<const int32_t> tokens) const;

  // Of all blocks of a context, the partial last one included.
  std::vector<storage::BlockHash> Blocks(std::span<const int32_t> tokens) const;

 private:
  storage::Digest fingerprint_;
  storage::Digest salt_;
};

}  // namespace lectern::engine
