#include "storage/encoding.h"

#include <algorithm>

#include <fmt/format.h>

namespace lectern::storage {
namespace {

template <typename T>
void AppendLittleEndian(T value, std::string* out) {
  for (size_t i = 0; i < sizeof(T); ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

template <typename T>
T LoadLittleEndian(std::string_view bytes) {
  T value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    value = static_cast<T>(value | static_cast<T>(T{static_cast<uint8_t>(bytes[i])} << (8 * i)));
  }
  return value;
}

constexpr int kMaxVarintBytes = 10;

}  // namespace

void Encoder::Fixed16(uint16_t value) { AppendLittleEndian(value, &bytes_); }
void Encoder::Fixed32(uint32_t value) { AppendLittleEndian(value, &bytes_); }
void Encoder::Fixed64(uint64_t value) { AppendLittleEndian(value, &bytes_); }

void Encoder::Varint(uint64_t value) {
  while (value >= 0x80) {
    bytes_.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  bytes_.push_back(static_cast<char>(value));
}

void Encoder::SignedVarint(int64_t value) {
  Varint((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
}

void Encoder::Bytes(std::string_view value) {
  Varint(value.size());
  bytes_.append(value);
}

void Encoder::Digest32(const Digest& value) {
  bytes_.append(reinterpret_cast<const char*>(value.data()), value.size());
}

std::string_view Decoder::Take(size_t size) {
  if (!ok_ || size > rest_.size()) {
    ok_ = false;
    return {};
  }
  const std::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

uint8_t Decoder::Fixed8() { return LoadLittleEndian<uint8_t>(Take(1)); }
uint16_t Decoder::Fixed16() { return LoadLittleEndian<uint16_t>(Take(2)); }
uint32_t Decoder::Fixed32() { return LoadLittleEndian<uint32_t>(Take(4)); }
uint64_t Decoder::Fixed64() { return LoadLittleEndian<uint64_t>(Take(8)); }

uint64_t Decoder::Varint() {
  uint64_t value = 0;
  for (int i = 0; i < kMaxVarintBytes; ++i) {
    const uint8_t byte = Fixed8();
    if (!ok_) return 0;
    // The tenth byte carries one bit; a last byte of zero would be a longer form of the same
    // number.
    if ((i == kMaxVarintBytes - 1 && byte > 1) || (i > 0 && byte == 0)) break;
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) return value;
  }
  ok_ = false;
  return 0;
}

uint32_t Decoder::Varint32() {
  const uint64_t value = Varint();
  if (value > UINT32_MAX) ok_ = false;
  return ok_ ? static_cast<uint32_t>(value) : 0;
}

int64_t Decoder::SignedVarint() {
  const uint64_t value = Varint();
  return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

bool Decoder::Bool() {
  const uint8_t value = Fixed8();
  if (value > 1) ok_ = false;
  return ok_ && value == 1;
}

std::string_view Decoder::Bytes() {
  const uint64_t size = Varint();
  if (size > rest_.size()) ok_ = false;
  return ok_ ? Take(static_cast<size_t>(size)) : std::string_view();
}

Digest Decoder::Digest32() {
  Digest digest = {};
  const std::string_view bytes = Take(digest.size());
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

size_t Decoder::Count(size_t min_bytes) {
  const uint64_t count = Varint();
  if (count > rest_.size() / min_bytes) ok_ = false;
  return ok_ ? static_cast<size_t>(count) : 0;
}

absl::Status Decoder::Finish(std::string_view what) const {
  if (ok_ && rest_.empty()) return absl::OkStatus();
  return absl::DataLossError(fmt::format("{}: malformed", what));
}

}  // namespace lectern::storage
