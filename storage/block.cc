#include "storage/block.h"

#include <algorithm>

#include <fmt/format.h>

namespace lectern::storage {

int Geometry::IndexedLayers() const {
  return static_cast<int>(std::count(indexed.begin(), indexed.end(), 1));
}

absl::Status Geometry::Validate() const {
  if (layers == 0 || kv_heads == 0 || head_dim == 0) {
    return absl::InvalidArgumentError(
        fmt::format("geometry: layers {}, kv_heads {} and head_dim {} must be at least 1", layers,
                    kv_heads, head_dim));
  }
  if (indexed.size() != layers ||
      !std::all_of(indexed.begin(), indexed.end(), [](uint8_t flag) { return flag <= 1; })) {
    return absl::InvalidArgumentError(
        fmt::format("geometry: indexed must hold a 0 or 1 for each of {} layers", layers));
  }
  if ((index_dim > 0) != (IndexedLayers() > 0)) {
    return absl::InvalidArgumentError(fmt::format(
        "geometry: index_dim is {} with {} indexed layers", index_dim, IndexedLayers()));
  }
  return absl::OkStatus();
}

}  // namespace lectern::storage
