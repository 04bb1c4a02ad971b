// The tokens of words already met in this text: running text repeats itself.
#pragma once

#include <absl/hash/hash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "engine/text/bpe.h"

namespace lectern::engine {

// Direct-mapped, of fixed size, with the words' bytes in its slots. One call's own, so it needs no
// lock and cannot grow with what a stranger sends.
class WordCache {
 public:
  // Sized for a text of `text_bytes`.
  explicit WordCache(size_t text_bytes)
      : slots_(std::bit_ceil(std::clamp(text_bytes / kBytesPerSlot, kMinSlots, kMaxSlots))) {}

  // Empty: not known.
  std::span<const WordToken> Find(std::string_view word) {
    if (word.size() > kMaxWord) return {};
    const Slot& slot = SlotOf(word);
    if (std::string_view(slot.word.data(), slot.size) != word) return {};
    return {slot.tokens.data(), slot.count};
  }

  void Insert(std::string_view word, std::span<const WordToken> tokens) {
    if (word.size() > kMaxWord || tokens.size() > kMaxTokens) return;
    Slot& slot = SlotOf(word);
    std::memcpy(slot.word.data(), word.data(), word.size());
    std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
    slot.size = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(tokens.size());
  }

 private:
  static constexpr size_t kMaxWord = 30;
  static constexpr size_t kMaxTokens = 8;
  static constexpr size_t kBytesPerSlot = 16;
  static constexpr size_t kMinSlots = 16;
  static constexpr size_t kMaxSlots = 16384;

  struct Slot {
    std::array<char, kMaxWord> word;
    uint8_t size = 0;
    uint8_t count = 0;
    std::array<WordToken, kMaxTokens> tokens;
  };

  Slot& SlotOf(std::string_view word) {
    return slots_[absl::Hash<std::string_view>()(word) & (slots_.size() - 1)];
  }

  std::vector<Slot> slots_;
};

}  // namespace lectern::engine
