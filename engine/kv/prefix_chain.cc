#include "engine/kv/prefix_chain.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <bit>

#include "engine/error/check.h"
#include "kernels/block_tile/block_tile.h"

namespace lectern::engine {

// Tokens are hashed as they lie in memory; the format is little-endian.
static_assert(std::endian::native == std::endian::little);

PrefixChain::PrefixChain(const storage::Digest& fingerprint, const storage::Digest& secret,
                         uint64_t tenant_uid)
    : fingerprint_(fingerprint) {
  unsigned int size = 0;
  LECTERN_CHECK(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                     reinterpret_cast<const unsigned char*>(&tenant_uid), sizeof(tenant_uid),
                     salt_.data(), &size) != nullptr);
  LECTERN_CHECK(size == salt_.size());
}

storage::BlockHash PrefixChain::Next(const storage::BlockHash& previous,
                                     std::span<const int32_t> tokens) const {
  storage::BlockHash hash;
  unsigned int size = 0;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool hashed = context != nullptr &&
                      EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1 &&
                      EVP_DigestUpdate(context, fingerprint_.data(), fingerprint_.size()) == 1 &&
                      EVP_DigestUpdate(context, salt_.data(), salt_.size()) == 1 &&
                      EVP_DigestUpdate(context, previous.data(), previous.size()) == 1 &&
                      EVP_DigestUpdate(context, tokens.data(), tokens.size_bytes()) == 1 &&
                      EVP_DigestFinal_ex(context, hash.data(), &size) == 1;
  EVP_MD_CTX_free(context);
  LECTERN_CHECK(hashed && size == hash.size());
  return hash;
}

std::vector<storage::BlockHash> PrefixChain::Blocks(std::span<const int32_t> tokens) const {
  std::vector<storage::BlockHash> hashes;
  storage::BlockHash previous = {};
  for (size_t first = 0; first < tokens.size(); first += kernels::kBlockTokens) {
    const size_t count = std::min<size_t>(kernels::kBlockTokens, tokens.size() - first);
    previous = Next(previous, tokens.subspan(first, count));
    hashes.push_back(previous);
  }
  return hashes;
}

}  // namespace lectern::engine
