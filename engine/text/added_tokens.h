// Added tokens of tokenizer.json: strings that become one token before anything else looks at the
// text.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace lectern::engine {

struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // not inside of a word
  bool lstrip = false;       // takes the blanks before it along
  bool rstrip = false;       // takes the blanks after it along
  bool normalized = false;   // looked for in the normalised text
};

// Finds added tokens: at each position the longest, from left to right, without overlap. Immutable,
// thread-safe.
class AddedTokenFinder {
 public:
  // An occurrence of `token`, or a stretch of text (token == nullptr).
  struct Piece {
    size_t begin = 0;
    size_t end = 0;
    const AddedToken* token = nullptr;
  };

  void Add(AddedToken token);

  // The pieces of `utf8` in order, without gaps. Special tokens are passed over unless
  // `parse_special`.
  std::vector<Piece> Split(std::string_view utf8, bool parse_special) const;

 private:
  const AddedToken* LongestAt(std::string_view utf8, size_t begin) const;

  // A trie: children_ by (node, byte), ends_[node] = 1 + index in tokens_, 0 for none.
  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<uint32_t> ends_{0};
  std::array<bool, 256> first_bytes_{};
};

}  // namespace lectern::engine
