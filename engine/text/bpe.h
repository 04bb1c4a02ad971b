// Byte-pair encoding of one word: the pair of neighbours with the lowest merge rank merges first,
// the leftmost of equals.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace lectern::engine {

// A token of a word and how many of the word's bytes it is.
struct WordToken {
  TokenId id = 0;
  uint32_t bytes = 0;
};

// The alphabet in which byte-level vocabularies spell bytes: printable Latin-1 stands for itself,
// the other bytes for U+0100 onwards, in order. (Fixed by the format since GPT-2.)
std::string SpellBytes(std::string_view bytes);
// The bytes that `spelled` stands for; false if it has a character outside of the alphabet.
bool ReadSpelled(std::string_view spelled, std::string* bytes);

// Immutable, thread-safe.
class BpeModel {
 public:
  // `json` is the value of "model". Errors as Tokenizer::Load.
  static absl::StatusOr<BpeModel> Parse(const nlohmann::json& json);

  // Takes `id` out of reach of text: no whole word may become it. A merge that makes it is
  // TOKENIZER_BROKEN.
  absl::Status Protect(TokenId id);

  // Appends the tokens of `word`. O(n^2) for short words, where that is quick, else O(n log n),
  // less where no token can span two neighbouring bytes. INVALID_ARGUMENT / WORD_TOO_LONG.
  absl::Status Encode(std::string_view word, std::vector<WordToken>* tokens) const;

  // Vocabulary entries as spelled in the file.
  const absl::flat_hash_map<std::string, TokenId>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank;
    TokenId result;
  };
  static uint64_t PairKey(TokenId left, TokenId right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  const Merge* FindMerge(TokenId left, TokenId right) const;
  absl::Status AddMerge(std::string_view left, std::string_view right, uint32_t rank);
  absl::Status ReadVocabulary(const nlohmann::json& json);
  absl::Status ReadMerges(const nlohmann::json& json);
  void EncodeShort(std::string_view word, std::vector<WordToken>* tokens) const;
  void EncodeLong(std::string_view word, std::vector<WordToken>* tokens) const;

  absl::flat_hash_map<std::string, TokenId> vocabulary_;
  absl::flat_hash_map<std::string, TokenId>
      whole_words_;  // by bytes; filled with ignore_merges only
  absl::flat_hash_map<uint64_t, Merge> merges_;
  std::array<TokenId, 256> byte_ids_{};
  // Bit 256 * a + b: some merged token has byte b right after byte a. Where the bit is clear,
  // tokens part.
  std::vector<bool> neighbours_ = std::vector<bool>(256 * 256);
  bool ignore_merges_ = false;
};

}  // namespace lectern::engine
