// UTF-8 at the level of bytes and code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lectern::engine {

// Offset of the first byte that cannot stand in UTF-8 (overlong forms, surrogates and values over
// U+10FFFF included), or std::string_view::npos. For a sequence cut short it is the sequence's
// first byte.
size_t FirstInvalidUtf8(std::string_view bytes);

// A code point and its length in bytes.
struct CodePoint {
  char32_t value = 0;
  uint32_t length = 0;
};

// The code point at `offset` of valid UTF-8; offset < text.size().
CodePoint DecodeUtf8(std::string_view text, size_t offset);

inline bool IsUtf8Continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xc0) == 0x80; }

// Appends `value`, a Unicode scalar value.
void AppendUtf8(char32_t value, std::string* out);

// Length of the longest prefix of `bytes` that is not waiting for more bytes of a character: all of
// it, unless it ends in the beginning of a sequence that could still become valid.
size_t CompleteUtf8Prefix(std::string_view bytes);

// `bytes` with every byte that cannot stand in UTF-8 replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view bytes);

}  // namespace lectern::engine
