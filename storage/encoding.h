// Typed payloads as bytes: fixed-width little-endian numbers, LEB128 varints, length-prefixed
// bytes, in a fixed order per record version. The decoder never trusts a length: every read is
// bounded by what is left, every count by what the rest could hold, so that hostile bytes cost an
// error and no memory. tests/storage/encoding_test.cc cuts and flips every byte of every record.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lectern::storage {

using Digest = std::array<uint8_t, 32>;  // a SHA-256, or a model fingerprint

class Encoder {
 public:
  void Fixed8(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void Fixed16(uint16_t value);
  void Fixed32(uint32_t value);
  void Fixed64(uint64_t value);
  void Varint(uint64_t value);
  void SignedVarint(int64_t value);  // zigzag
  void Bool(bool value) { Fixed8(value ? 1 : 0); }
  void Bytes(std::string_view value);  // varint length, then the bytes
  void Digest32(const Digest& value);
  void Raw(std::string_view value) { bytes_.append(value); }

  const std::string& bytes() const { return bytes_; }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads what Encoder wrote. After the first failure every read returns zero or empty and ok() stays
// false, so a record decodes straight through and is judged once, by Finish(). Borrows `bytes`.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : rest_(bytes) {}

  uint8_t Fixed8();
  uint16_t Fixed16();
  uint32_t Fixed32();
  uint64_t Fixed64();
  uint64_t Varint();  // the shortest form only
  uint32_t Varint32();
  int64_t SignedVarint();
  bool Bool();  // 0 or 1 only
  std::string_view Bytes();
  Digest Digest32();
  // A count of elements of at least `min_bytes` (>= 1) each: fails where the rest cannot hold that
  // many.
  size_t Count(size_t min_bytes);

  bool ok() const { return ok_; }
  void Fail() { ok_ = false; }
  size_t remaining() const { return rest_.size(); }
  // kDataLoss "<what>: malformed" unless every read succeeded and nothing is left over.
  absl::Status Finish(std::string_view what) const;

 private:
  std::string_view Take(size_t size);

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace lectern::storage
