#include "engine/model/decoder.h"

#include <algorithm>

#include "engine/error/check.h"

namespace lectern::engine {

Decoder::Decoder(const Checkpoint* checkpoint, const DecoderOptions& options)
    : checkpoint_(checkpoint), options_(options) {
  LECTERN_CHECK(options.attention.size() == static_cast<size_t>(config().num_layers));
  for (int layer = 0; layer < config().num_layers; ++layer) {
    LECTERN_CHECK(!sparse(layer) || config().attention[layer] == LayerAttention::kSparse);
  }
}

SelectionCounts Sum(std::span<const SelectionCounts> counts) {
  SelectionCounts sum;
  for (const SelectionCounts& one : counts) sum.Add(one);
  return sum;
}

storage::Geometry Decoder::geometry() const {
  storage::Geometry geometry;
  geometry.layers = static_cast<uint16_t>(config().num_layers);
  geometry.kv_heads = static_cast<uint16_t>(config().num_kv_heads);
  geometry.head_dim = static_cast<uint16_t>(config().head_dim);
  for (int layer = 0; layer < config().num_layers; ++layer) {
    geometry.indexed.push_back(sparse(layer) ? 1 : 0);
  }
  geometry.index_dim =
      geometry.IndexedLayers() > 0 ? static_cast<uint16_t>(config().sparse.index_dim) : 0;
  return geometry;
}

}  // namespace lectern::engine
