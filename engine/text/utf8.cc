#include "engine/text/utf8.h"

#include <cstring>

namespace lectern::engine {
namespace {

constexpr char kReplacement[] = "\xef\xbf\xbd";

// Bytes of the sequence that `lead` begins and the range its second byte must lie in (Unicode 15,
// table 3-7); length 0: no sequence begins so.
struct Sequence {
  int length;
  uint8_t second_low;
  uint8_t second_high;
};

Sequence SequenceOf(uint8_t lead) {
  if (lead < 0x80) return {1, 0, 0};
  if (lead < 0xc2) return {0, 0, 0};
  if (lead < 0xe0) return {2, 0x80, 0xbf};
  if (lead == 0xe0) return {3, 0xa0, 0xbf};
  if (lead == 0xed) return {3, 0x80, 0x9f};
  if (lead < 0xf0) return {3, 0x80, 0xbf};
  if (lead == 0xf0) return {4, 0x90, 0xbf};
  if (lead < 0xf4) return {4, 0x80, 0xbf};
  if (lead == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

// Bytes at `offset` that form a valid sequence or the valid beginning of one; `*length` is the
// length the sequence should have, 0 if none begins here.
int ValidBytes(std::string_view bytes, size_t offset, int* length) {
  const Sequence sequence = SequenceOf(static_cast<uint8_t>(bytes[offset]));
  *length = sequence.length;
  if (sequence.length == 0) return 0;
  int valid = 1;
  while (valid < sequence.length && offset + valid < bytes.size()) {
    const auto byte = static_cast<uint8_t>(bytes[offset + valid]);
    const uint8_t low = valid == 1 ? sequence.second_low : 0x80;
    const uint8_t high = valid == 1 ? sequence.second_high : 0xbf;
    if (byte < low || byte > high) break;
    ++valid;
  }
  return valid;
}

}  // namespace

size_t FirstInvalidUtf8(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    // Most text is ASCII: eight bytes at a time.
    uint64_t word = 0;
    while (i + sizeof(word) <= bytes.size()) {
      std::memcpy(&word, bytes.data() + i, sizeof(word));
      if ((word & 0x8080808080808080u) != 0) break;
      i += sizeof(word);
    }
    if (i >= bytes.size()) break;
    int length = 0;
    const int valid = ValidBytes(bytes, i, &length);
    if (valid != length || length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

CodePoint DecodeUtf8(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<uint8_t>(text[offset + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xe0) return {((lead & 0x1f) << 6) | (byte(1) & 0x3f), 2};
  if (lead < 0xf0) return {((lead & 0x0f) << 12) | ((byte(1) & 0x3f) << 6) | (byte(2) & 0x3f), 3};
  return {
      ((lead & 0x07) << 18) | ((byte(1) & 0x3f) << 12) | ((byte(2) & 0x3f) << 6) | (byte(3) & 0x3f),
      4};
}

void AppendUtf8(char32_t value, std::string* out) {
  const auto put = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xc0 | (value >> 6));
    put(0x80 | (value & 0x3f));
  } else if (value < 0x10000) {
    put(0xe0 | (value >> 12));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  } else {
    put(0xf0 | (value >> 18));
    put(0x80 | ((value >> 12) & 0x3f));
    put(0x80 | ((value >> 6) & 0x3f));
    put(0x80 | (value & 0x3f));
  }
}

size_t CompleteUtf8Prefix(std::string_view bytes) {
  // A waiting sequence is at most three bytes long.
  const size_t from = bytes.size() < 3 ? 0 : bytes.size() - 3;
  for (size_t i = from; i < bytes.size(); ++i) {
    int length = 0;
    const int valid = ValidBytes(bytes, i, &length);
    if (length > valid && valid > 0 && i + valid == bytes.size()) return i;
  }
  return bytes.size();
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  size_t i = 0;
  while (i < bytes.size()) {
    int length = 0;
    const int valid = ValidBytes(bytes, i, &length);
    if (valid == length && length > 0) {
      out.append(bytes, i, length);
    } else {
      out += kReplacement;
    }
    // A sequence broken off after some valid bytes is one replacement (as Unicode recommends).
    i += valid > 0 ? valid : 1;
  }
  return out;
}

}  // namespace lectern::engine
