// safetensors files, mapped into memory, one or many.
//
// A file: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}},
// the data. Nothing a file says is believed: header length against file size and its limit,
// every range against the data section, sizes against shape and dtype (without overflow), no two
// tensors overlapping, no name twice, no gap the format forbids.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

enum class TensorDtype : uint8_t { kBf16, kF16, kF32, kI8 };

std::string_view TensorDtypeName(TensorDtype dtype);  // as safetensors spells it: "BF16"
size_t TensorDtypeBytes(TensorDtype dtype);

// The format's own limit.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

// A tensor inside a mapping: row-major, little-endian; valid as long as its file.
struct TensorView {
  std::string name;
  // As spelled in the header. A dtype not in TensorDtype is listed too, so that a tensor nobody
  // asks for does not stop a load.
  std::string dtype_name;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;

  // "BF16 [256, 64]".
  std::string Describe() const;
};

// Thread-safe. Errors: NOT_FOUND / MODEL_FILE_UNREADABLE; INVALID_ARGUMENT / SAFETENSORS_BROKEN,
// with the file's path and the tensor.
class SafetensorsFile {
 public:
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);
  // Checks the header of `bytes`, which must outlive the tensors returned; `path` is for messages.
  // Open does this with its mapping.
  static absl::StatusOr<std::vector<TensorView>> ParseTensors(std::span<const std::byte> bytes,
                                                              std::string_view path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }  // the whole file
  std::span<const TensorView> tensors() const { return tensors_; }

 private:
  SafetensorsFile(std::string path, std::span<const std::byte> bytes)
      : path_(std::move(path)), bytes_(bytes) {}
  std::string path_;
  std::span<const std::byte> bytes_;
  std::vector<TensorView> tensors_;
};

// All tensors of a model directory: model.safetensors, or the shards that
// model.safetensors.index.json names (every name in its weight_map must be in the shard it names,
// every shard inside the directory). Thread-safe.
class SafetensorsSet {
 public:
  static absl::StatusOr<SafetensorsSet> Open(const std::string& directory);

  const TensorView* Find(std::string_view name) const;  // nullptr: none
  const std::map<std::string, const TensorView*, std::less<>>& tensors() const { return by_name_; }
  std::span<const std::unique_ptr<SafetensorsFile>> files() const { return files_; }

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> files_;  // in order of path
  std::map<std::string, const TensorView*, std::less<>> by_name_;
};

}  // namespace lectern::engine
