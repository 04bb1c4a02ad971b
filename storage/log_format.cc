#include "storage/log_format.h"

#include <array>
#include <bit>
#include <cstring>

namespace lectern::storage {
namespace {

constexpr uint64_t kBlockBytes = 32768;
constexpr uint64_t kHeaderBytes = 7;  // u32 checksum, u16 length, u8 type

enum PieceType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

// CRC-32C by table, reflected polynomial.
constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    table[i] = crc;
  }
  return table;
}();

uint32_t MaskedCrc(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  }
  constexpr uint32_t kMaskDelta = 0xa282ead8u;
  return std::rotr(~crc, 15) + kMaskDelta;
}

}  // namespace

uint64_t WholeRecordsEnd(std::string_view file) {
  static_assert(std::endian::native == std::endian::little);
  uint64_t end = 0;
  bool inside = false;  // of a record in several pieces
  for (uint64_t at = 0; at < file.size();) {
    const uint64_t left = kBlockBytes - at % kBlockBytes;
    if (left < kHeaderBytes) {  // a trailer, in which no header fits
      at += left;
      continue;
    }
    if (file.size() - at < kHeaderBytes) break;
    uint32_t checksum = 0;
    uint16_t length = 0;
    std::memcpy(&checksum, file.data() + at, sizeof(checksum));
    std::memcpy(&length, file.data() + at + sizeof(checksum), sizeof(length));
    if (length > left - kHeaderBytes || length > file.size() - at - kHeaderBytes) break;
    // The checksum covers the type and what follows.
    const std::string_view covered = file.substr(at + kHeaderBytes - 1, length + 1);
    if (MaskedCrc(covered) != checksum) break;
    const auto type = static_cast<uint8_t>(covered.front());
    const bool begins = type == kFull || type == kFirst;
    if (type < kFull || type > kLast || begins == inside) break;
    inside = type == kFirst || type == kMiddle;
    at += kHeaderBytes + length;
    if (!inside) end = at;
  }
  return end;
}

}  // namespace lectern::storage
