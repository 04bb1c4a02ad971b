#include "storage/manifest_mark.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <xxhash.h>

#include "storage/data_directory.h"
#include "storage/encoding.h"
#include "storage/log_format.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

// Numbers, lengths and checksums of two manifests, and the XXH3-64 of them; one sector, so one
// write is whole.
constexpr size_t kBodyBytes = 6 * sizeof(uint64_t);
constexpr size_t kFileBytes = kBodyBytes + sizeof(uint64_t);

constexpr std::string_view kPrefix = "MANIFEST-";

}  // namespace

uint64_t ManifestNumber(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  uint64_t number = 0;
  if (!name.starts_with(kPrefix)) return 0;
  name.remove_prefix(kPrefix.size());
  std::from_chars(name.data(), name.data() + name.size(), number);
  return number;
}

ManifestMark::~ManifestMark() {
  if (file_ >= 0) close(file_);
}

absl::Status ManifestMark::Open() {
  if (path_.empty()) return absl::OkStatus();
  file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0) return SystemError(errno, fmt::format("open {}", path_));
  char bytes[kFileBytes];
  if (pread(file_, bytes, kFileBytes, 0) != static_cast<ssize_t>(kFileBytes)) {
    return absl::OkStatus();
  }
  Decoder decoder(std::string_view(bytes, kFileBytes));
  Manifest installed, candidate;
  for (Manifest* manifest : {&installed, &candidate}) {
    manifest->number = decoder.Fixed64();
    manifest->bytes = decoder.Fixed64();
    manifest->checksum = decoder.Fixed64();
  }
  if (decoder.Fixed64() != XXH3_64bits(bytes, kBodyBytes)) return absl::OkStatus();
  installed_ = installed;
  candidate_ = candidate;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ManifestMark::Apply(const std::string& directory) {
  if (file_ < 0) return 0;
  std::lock_guard lock(mutex_);
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(
        fmt::format("{}: {}. It is damaged or was replaced by an older one: restore a backup; to "
                    "go on with what is left, delete {}",
                    directory, what, path_));
  };
  std::string name;
  std::ifstream current(directory + "/CURRENT");
  // New, or killed while it was made.
  if (!current && installed_.number == 0) return 0;
  std::getline(current, name);
  const uint64_t number = ManifestNumber(name);
  if (number == 0) return damaged("CURRENT names no manifest");
  if (number < installed_.number) {
    return damaged(
        fmt::format("CURRENT names {}, and {}{:06} was in use", name, kPrefix, installed_.number));
  }
  if (number == candidate_.number) {
    installed_ = candidate_;
  } else if (number != installed_.number) {
    installed_ = {.number = number};
  }
  candidate_ = Manifest();
  if (installed_.bytes == 0) return 0;
  const fs::path path = fs::path(directory) / name;
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) return damaged(name + " cannot be read");
  const std::string_view bytes = content.view();
  if (bytes.size() < installed_.bytes) {
    return damaged(fmt::format("{} ends at byte {}, and {} were synced", name, bytes.size(),
                               installed_.bytes));
  }
  if (XXH3_64bits(bytes.data(), installed_.bytes) != installed_.checksum) return 0;
  const uint64_t end = std::max(WholeRecordsEnd(bytes), installed_.bytes);
  if (end == bytes.size()) return 0;
  std::error_code error;
  fs::resize_file(path, end, error);
  if (error) return absl::UnavailableError(fmt::format("cut {}: {}", name, error.message()));
  return bytes.size() - end;
}

absl::Status ManifestMark::Raise(uint64_t number, uint64_t bytes, uint64_t checksum) {
  if (file_ < 0) return absl::OkStatus();
  std::lock_guard lock(mutex_);
  Manifest installed = installed_;
  Manifest candidate = {.number = number, .bytes = bytes, .checksum = checksum};
  if (number == installed.number || number == candidate_.number) {
    installed = candidate;
    candidate = Manifest();
  }
  Encoder encoder;
  for (const Manifest& manifest : {installed, candidate}) {
    encoder.Fixed64(manifest.number);
    encoder.Fixed64(manifest.bytes);
    encoder.Fixed64(manifest.checksum);
  }
  encoder.Fixed64(XXH3_64bits(encoder.bytes().data(), kBodyBytes));
  const std::string record = encoder.Take();
  if (pwrite(file_, record.data(), record.size(), 0) != static_cast<ssize_t>(record.size()) ||
      fdatasync(file_) != 0) {
    return SystemError(errno, fmt::format("write {}", path_));
  }
  installed_ = installed;
  candidate_ = candidate;
  return absl::OkStatus();
}

}  // namespace lectern::storage
