#include "tests/support/byte_digest.h"

#include <openssl/evp.h>

namespace lectern::testing {

ByteDigest::ByteDigest() : context_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(context_, EVP_sha256(), nullptr);
}

ByteDigest::~ByteDigest() { EVP_MD_CTX_free(context_); }

void ByteDigest::Add(const void* bytes, size_t size) { EVP_DigestUpdate(context_, bytes, size); }

std::string ByteDigest::Hex() {
  constexpr char kDigits[] = "0123456789abcdef";
  unsigned char bytes[32];
  EVP_DigestFinal_ex(context_, bytes, nullptr);
  std::string hex;
  for (const unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace lectern::testing
