#include "engine/model/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is used in place");

namespace lectern::engine {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 8;
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

absl::Status Broken(std::string_view path, std::string_view what) {
  return InvalidArgument(
      reason::kSafetensorsBroken,
      fmt::format("{}: {}; the file is damaged or incomplete, copy it anew", path, what),
      {{"path", std::string(path)}});
}

absl::Status Unreadable(std::string_view path, int error) {
  return Error(absl::StatusCode::kNotFound, reason::kModelFileUnreadable,
               fmt::format("cannot read {}: {}", path, std::strerror(error)),
               {{"path", std::string(path)}});
}

// Bytes of one element of any dtype of the format; 0: no such dtype.
size_t ElementBytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, size_t> kSizes[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8},  {"F32", 4},     {"I32", 4},
      {"U32", 4}, {"F16", 2}, {"BF16", 2}, {"I16", 2},     {"U16", 2},
      {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, size] : kSizes) {
    if (name == dtype) return size;
  }
  return 0;
}

std::optional<uint64_t> Unsigned(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<uint64_t>();
}

// One entry of the header. `data` is the file's data section.
absl::StatusOr<TensorView> ParseTensor(const std::string& name, const nlohmann::json& entry,
                                       std::span<const std::byte> data, std::string_view path) {
  const auto broken = [&](std::string_view what) {
    return Broken(path, fmt::format("tensor \"{}\": {}", name, what));
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
    return broken("its header entry lacks dtype, shape or data_offsets");
  }
  TensorView tensor;
  tensor.name = name;
  tensor.dtype_name = entry["dtype"].get<std::string>();
  const size_t element = ElementBytes(tensor.dtype_name);
  if (element == 0) return broken(fmt::format("unknown dtype \"{}\"", tensor.dtype_name));
  if (entry["shape"].size() > kMaxDimensions) return broken("over eight dimensions");
  uint64_t expected = element;
  for (const nlohmann::json& dimension : entry["shape"]) {
    const std::optional<uint64_t> extent = Unsigned(dimension);
    if (!extent || __builtin_mul_overflow(expected, *extent, &expected) ||
        *extent > static_cast<uint64_t>(INT64_MAX)) {
      return broken("its shape is not a list of sizes that can be multiplied");
    }
    tensor.shape.push_back(static_cast<int64_t>(*extent));
  }
  const std::optional<uint64_t> begin = Unsigned(entry["data_offsets"][0]);
  const std::optional<uint64_t> end = Unsigned(entry["data_offsets"][1]);
  if (!begin || !end || *begin > *end || *end > data.size()) {
    return broken(fmt::format("its data_offsets {} lie outside of the {} bytes of data",
                              entry["data_offsets"].dump(), data.size()));
  }
  if (*end - *begin != expected) {
    return broken(fmt::format("{} has {} bytes by its shape and {} by its data_offsets",
                              tensor.Describe(), expected, *end - *begin));
  }
  tensor.bytes = data.subspan(*begin, *end - *begin);
  return tensor;
}

// The data section must be the tensors' bytes, each byte once.
absl::Status CheckCovers(std::vector<TensorView>& tensors, std::span<const std::byte> data,
                         std::string_view path) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
    if (a.bytes.data() != b.bytes.data()) return a.bytes.data() < b.bytes.data();
    return a.bytes.size() < b.bytes.size();
  });
  const std::byte* next = data.data();
  for (const TensorView& tensor : tensors) {
    if (tensor.bytes.data() < next) {
      return Broken(path, fmt::format("tensor \"{}\" overlaps another", tensor.name));
    }
    if (tensor.bytes.data() > next) {
      return Broken(path, fmt::format("{} bytes before tensor \"{}\" belong to none",
                                      tensor.bytes.data() - next, tensor.name));
    }
    next += tensor.bytes.size();
  }
  if (next != data.data() + data.size()) {
    return Broken(path, fmt::format("{} bytes after the last tensor belong to none",
                                    data.data() + data.size() - next));
  }
  return absl::OkStatus();
}

// nlohmann keeps the last of equal keys: whoever parses must look while it parses.
struct ParsedHeader {
  nlohmann::json json;
  std::string duplicate;
};

ParsedHeader ParseHeader(std::string_view text) {
  ParsedHeader header;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (event == nlohmann::json::parse_event_t::object_start) keys.emplace_back();
    if (event == nlohmann::json::parse_event_t::object_end) keys.pop_back();
    if (event == nlohmann::json::parse_event_t::key) {
      if (!keys.back().insert(value.get<std::string>()).second && header.duplicate.empty()) {
        header.duplicate = value.get<std::string>();
      }
    }
    return true;
  };
  header.json = nlohmann::json::parse(text, watch, /*allow_exceptions=*/false);
  return header;
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (!file || !(bytes << file.rdbuf())) return Unreadable(path, errno);
  return std::move(bytes).str();
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

std::string_view TensorDtypeName(TensorDtype dtype) {
  switch (dtype) {
    case TensorDtype::kBf16:
      return "BF16";
    case TensorDtype::kF16:
      return "F16";
    case TensorDtype::kF32:
      return "F32";
    case TensorDtype::kI8:
      return "I8";
  }
  return "";
}

size_t TensorDtypeBytes(TensorDtype dtype) { return ElementBytes(TensorDtypeName(dtype)); }

std::string TensorView::Describe() const {
  return fmt::format("{} [{}]", dtype_name, fmt::join(shape, ", "));
}

absl::StatusOr<std::vector<TensorView>> SafetensorsFile::ParseTensors(
    std::span<const std::byte> bytes, std::string_view path) {
  if (bytes.size() < kLengthBytes) {
    return Broken(path, fmt::format("{} bytes are too few for a safetensors file", bytes.size()));
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return Broken(path, fmt::format("its header says it has {} bytes, the format allows {}",
                                    header_bytes, kMaxSafetensorsHeaderBytes));
  }
  if (header_bytes > bytes.size() - kLengthBytes) {
    return Broken(path, fmt::format("its header says it has {} bytes, the file has {} in all",
                                    header_bytes, bytes.size()));
  }
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + header_bytes);
  const ParsedHeader header =
      ParseHeader({reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                   static_cast<size_t>(header_bytes)});
  if (!header.json.is_object()) return Broken(path, "its header is not a JSON object");
  if (!header.duplicate.empty()) {
    return Broken(path, fmt::format("\"{}\" is twice in its header", header.duplicate));
  }
  std::vector<TensorView> tensors;
  for (const auto& [name, entry] : header.json.items()) {
    if (name == "__metadata__") continue;
    LECTERN_ASSIGN_OR_RETURN(TensorView tensor, ParseTensor(name, entry, data, path));
    tensors.push_back(std::move(tensor));
  }
  LECTERN_RETURN_IF_ERROR(CheckCovers(tensors, data, path));
  return tensors;
}

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Unreadable(path, errno);
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    const int error = S_ISREG(status.st_mode) ? errno : EINVAL;
    close(fd);
    return Unreadable(path, error);
  }
  const auto size = static_cast<size_t>(status.st_size);
  if (size < kLengthBytes) {
    close(fd);
    return Broken(path, fmt::format("{} bytes are too few for a safetensors file", size));
  }
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (mapped == MAP_FAILED) return Unreadable(path, error);
  std::unique_ptr<SafetensorsFile> file(
      new SafetensorsFile(path, {static_cast<const std::byte*>(mapped), size}));
  LECTERN_ASSIGN_OR_RETURN(file->tensors_, ParseTensors(file->bytes_, path));
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

namespace {

// Shard names and, by tensor, the shard it should be in.
struct ShardIndex {
  std::set<std::string> shards;
  std::map<std::string, std::string> shard_of;
};

absl::StatusOr<ShardIndex> ReadShardIndex(const std::string& path) {
  LECTERN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    return Broken(path, "it has no \"weight_map\"");
  }
  ShardIndex index;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    // A shard is a file of this directory: a path could name any file of the machine.
    if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
      return Broken(path, fmt::format("tensor \"{}\" is in shard {}, which is no file name", tensor,
                                      shard.dump()));
    }
    index.shards.insert(name);
    index.shard_of[tensor] = name;
  }
  if (index.shards.empty()) return Broken(path, "its \"weight_map\" is empty");
  return index;
}

}  // namespace

absl::StatusOr<SafetensorsSet> SafetensorsSet::Open(const std::string& directory) {
  const std::string single = fmt::format("{}/{}", directory, kSingleFile);
  const std::string index_path = fmt::format("{}/{}", directory, kIndexFile);
  ShardIndex index;
  const bool sharded = !Exists(single) && Exists(index_path);
  if (sharded) {
    LECTERN_ASSIGN_OR_RETURN(index, ReadShardIndex(index_path));
  } else {
    index.shards.insert(std::string(kSingleFile));
  }
  SafetensorsSet set;
  std::map<std::string, std::string> found_in;
  for (const std::string& shard : index.shards) {
    LECTERN_ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> file,
                             SafetensorsFile::Open(fmt::format("{}/{}", directory, shard)));
    for (const TensorView& tensor : file->tensors()) {
      if (!set.by_name_.emplace(tensor.name, &tensor).second) {
        return Broken(file->path(),
                      fmt::format("tensor \"{}\" is in another shard, too", tensor.name));
      }
      found_in[tensor.name] = shard;
    }
    set.files_.push_back(std::move(file));
  }
  for (const auto& [tensor, shard] : index.shard_of) {
    if (const auto found = found_in.find(tensor);
        found == found_in.end() || found->second != shard) {
      return Broken(index_path, fmt::format("tensor \"{}\" is not in {}", tensor, shard));
    }
  }
  return set;
}

const TensorView* SafetensorsSet::Find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

}  // namespace lectern::engine
