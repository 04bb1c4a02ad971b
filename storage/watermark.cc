#include "storage/watermark.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>
#include <xxhash.h>

#include "storage/data_directory.h"
#include "storage/encoding.h"

namespace lectern::storage {
namespace {

constexpr size_t kSequenceBytes = 8;
constexpr size_t kFileBytes =
    2 * kSequenceBytes;  // the number and its XXH3-64; one sector, so one write is whole

std::string Format(uint64_t sequence) {
  Encoder encoder;
  encoder.Fixed64(sequence);
  encoder.Fixed64(XXH3_64bits(encoder.bytes().data(), kSequenceBytes));
  return encoder.Take();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Watermark>> Watermark::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return SystemError(errno, fmt::format("open {}", path));
  std::unique_ptr<Watermark> watermark(new Watermark(path, file));
  char bytes[kFileBytes];
  if (pread(file, bytes, kFileBytes, 0) == static_cast<ssize_t>(kFileBytes)) {
    const std::string_view text(bytes, kFileBytes);
    const uint64_t sequence = Decoder(text).Fixed64();
    if (Format(sequence) == text) watermark->sequence_ = sequence;
  }
  return watermark;
}

Watermark::~Watermark() { close(file_); }

absl::Status Watermark::Check(uint64_t database_sequence) const {
  std::lock_guard lock(mutex_);
  if (database_sequence >= sequence_) return absl::OkStatus();
  return absl::DataLossError(fmt::format(
      "the database ends at write {}, and writes up to {} were acknowledged: its log or manifest "
      "is damaged "
      "or was replaced by an older one. Restore a backup; to go on with what is left, delete {}",
      database_sequence, sequence_, path_));
}

void Watermark::Raise(uint64_t sequence) {
  std::lock_guard lock(mutex_);
  if (sequence <= sequence_) return;
  sequence_ = sequence;
  const std::string bytes = Format(sequence);
  [[maybe_unused]] const ssize_t written = pwrite(file_, bytes.data(), bytes.size(), 0);
}

}  // namespace lectern::storage
