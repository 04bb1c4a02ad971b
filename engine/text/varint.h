// Variable-length integers of our own stored formats: little-endian base 128, as in protobuf.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lectern::engine {

inline void AppendVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

// Small magnitudes of either sign become small numbers: 0, -1, 1, -2 ... -> 0, 1, 2, 3 ...
inline uint64_t ZigZag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
inline int64_t UnZigZag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

// Reads forward through `bytes`, which must outlive it.
class VarintReader {
 public:
  explicit VarintReader(std::string_view bytes, size_t offset = 0)
      : bytes_(bytes), offset_(offset) {}

  // False at the end of the bytes or on a number over 64 bits; the reader is then of no further
  // use.
  bool Read(uint64_t* value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (offset_ >= bytes_.size()) return false;
      const auto byte = static_cast<uint8_t>(bytes_[offset_++]);
      if (shift == 63 && byte > 1) return false;
      result |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) {
        *value = result;
        return true;
      }
    }
    return false;
  }

  bool ReadSigned(int64_t* value) {
    uint64_t coded = 0;
    if (!Read(&coded)) return false;
    *value = UnZigZag(coded);
    return true;
  }

  size_t offset() const { return offset_; }
  bool done() const { return offset_ >= bytes_.size(); }
  std::string_view rest() const { return bytes_.substr(offset_); }

 private:
  std::string_view bytes_;
  size_t offset_;
};

}  // namespace lectern::engine
