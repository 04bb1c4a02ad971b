#include "services/security/api_key.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <vector>

#include "engine/error/check.h"

namespace lectern::services {
namespace {

constexpr std::string_view kPrefix = "lectern_";
constexpr size_t kIdBytes = 8;
constexpr size_t kSecretBytes = 32;
constexpr size_t kIdDigits = 2 * kIdBytes;
constexpr size_t kKeyLength = kPrefix.size() + kIdDigits + 1 + 2 * kSecretBytes;

template <typename Bytes>
std::string Hex(const Bytes& bytes) {
  std::string hex;
  for (const uint8_t byte : bytes) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string RandomHex(size_t count) {
  std::vector<uint8_t> bytes(count);
  LECTERN_CHECK(RAND_bytes(bytes.data(), static_cast<int>(count)) == 1);
  return Hex(bytes);
}

int Digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return Digit(c) >= 0; });
}

}  // namespace

NewKey MakeKey() {
  NewKey key;
  key.id = RandomHex(kIdBytes);
  key.text = fmt::format("{}{}_{}", kPrefix, key.id, RandomHex(kSecretBytes));
  key.hash = HashKey(key.text);
  return key;
}

std::optional<std::string_view> KeyIdOf(std::string_view text) {
  if (text.size() != kKeyLength || !text.starts_with(kPrefix)) return std::nullopt;
  const std::string_view id = text.substr(kPrefix.size(), kIdDigits);
  const std::string_view secret = text.substr(kPrefix.size() + kIdDigits + 1);
  if (text[kPrefix.size() + kIdDigits] != '_' || !IsHex(id) || !IsHex(secret)) return std::nullopt;
  return id;
}

KeyHash HashKey(std::string_view text) {
  KeyHash hash;
  unsigned int size = 0;
  LECTERN_CHECK(EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha256(), nullptr) ==
                1);
  LECTERN_CHECK(size == hash.size());
  return hash;
}

bool SameHash(const KeyHash& a, const KeyHash& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string ToHex(const KeyHash& hash) { return Hex(hash); }

std::optional<KeyHash> KeyHashFromHex(std::string_view hex) {
  KeyHash hash;
  if (hex.size() != 2 * hash.size() || !IsHex(hex)) return std::nullopt;
  for (size_t i = 0; i < hash.size(); ++i) {
    hash[i] = static_cast<uint8_t>(Digit(hex[2 * i]) << 4 | Digit(hex[2 * i + 1]));
  }
  return hash;
}

}  // namespace lectern::services
