// API keys: "lectern_<id>_<secret>", an id of 16 hexadecimal digits that names the key in lists and
// logs, and a secret of 256 random bits in 64.
//
// Only SHA-256 of the whole key is stored. Slow or salted hashes guard passwords, which can be
// guessed; 256 random bits cannot, whatever a guess costs, and no two keys are alike. What a slow
// hash would add is a way to keep the server busy.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lectern::services {

using KeyHash = std::array<uint8_t, 32>;

struct NewKey {
  std::string id;
  std::string text;  // shown once, never stored
  KeyHash hash;
};
NewKey MakeKey();

// The id in a key's text; nothing if the text does not have the form of a key.
std::optional<std::string_view> KeyIdOf(std::string_view text);
KeyHash HashKey(std::string_view text);
// In a time that does not depend on where they differ.
bool SameHash(const KeyHash& a, const KeyHash& b);

std::string ToHex(const KeyHash& hash);
std::optional<KeyHash> KeyHashFromHex(std::string_view hex);

}  // namespace lectern::services
