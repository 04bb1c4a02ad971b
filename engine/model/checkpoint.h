// A model directory's weights, as the forward pass reads them.
//
// Matrices are bf16, row-major [out, in], straight from the file's mapping when they are stored so
// and aligned; F16 and F32 are rounded to nearest even and counted; I8 with a per-row "_scale" (a
// power of two) is expanded, which is exact. Norm gains are fp32, as stored: the forward pass adds
// the 1 of Gemma norms.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/safetensors.h"

namespace lectern::engine {

// Row-major bf16 bits, [rows, cols], no padding; points into the Checkpoint. Empty (data ==
// nullptr) where a layer has none. Data is aligned to at least 2 bytes, and to 64 where the loader
// owns it.
struct Bf16Matrix {
  const uint16_t* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;

  bool empty() const { return data == nullptr; }
  std::span<const uint16_t> row(int64_t r) const {
    return {data + r * cols, static_cast<size_t>(cols)};
  }
};

using Gain = std::span<const float>;

// D = hidden_size, H / H_kv = query / KV heads, d = head_dim, d_i = sparse.index_dim, F =
// intermediate_size.
struct LayerWeights {
  Gain input_norm;           // [D]
  Gain post_attention_norm;  // [D], before the MLP
  Bf16Matrix q;              // [H * d, D]
  Bf16Matrix k;              // [H_kv * d, D]
  Bf16Matrix v;              // [H_kv * d, D]
  Bf16Matrix o;              // [D, H * d]
  Gain q_norm;               // [d] with qk_norm, else empty
  Gain k_norm;               // [d] with qk_norm, else empty
  Bf16Matrix index_q;        // [H_kv * d_i, D] in sparse layers, else empty
  Bf16Matrix index_k;        // [d_i, D] in sparse layers, else empty
  Gain index_q_norm;         // [d_i] in sparse layers, else empty
  Gain index_k_norm;         // [d_i] in sparse layers, else empty
  Bf16Matrix gate;           // [F, D]
  Bf16Matrix up;             // [F, D]
  Bf16Matrix down;           // [D, F]
};

// What loading did, for the log line and the README's truth.
struct CheckpointStats {
  int64_t mapped_bytes = 0;     // used in place
  int64_t expanded_bytes = 0;   // owned bf16 and fp32 copies
  int64_t int8_tensors = 0;     // expanded exactly
  int64_t rounded_tensors = 0;  // F16 or F32 matrices rounded to bf16
  int64_t rounded_values = 0;   // values that the rounding changed
  int64_t ignored_tensors = 0;  // tensors outside the text model (vision tower and the like)
};

// Immutable; const members are thread-safe. Owns or maps all it points to.
class Checkpoint {
 public:
  // Reads config.json and the safetensors of `directory`. Beside the errors of config.h and
  // safetensors.h, INVALID_ARGUMENT with `tensor` as metadata:
  //   TENSOR_MISSING: with the shape expected
  //   TENSOR_SHAPE, TENSOR_DTYPE: with what was expected and found
  //   TENSOR_VALUE: a scale that is no power of two, a value that is not finite in bf16
  //   TENSOR_UNEXPECTED: a text-model tensor that this configuration does not use (a bias, a layer
  //     too many, an lm_head that differs from the embedding it should be tied to)
  //   SPARSE_CONFIG_MISSING: index weights in a layer that the configuration calls dense; it must
  //     not silently run dense
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Load(const std::string& directory);

  const ModelConfig& config() const { return config_; }
  const Bf16Matrix& embedding() const { return embedding_; }  // [vocab_size, D]
  const Bf16Matrix& lm_head() const { return lm_head_; }      // the same; the embedding when tied
  Gain final_norm() const { return final_norm_; }             // [D]
  std::span<const LayerWeights> layers() const { return layers_; }
  const CheckpointStats& stats() const { return stats_; }
  // The mapped files, for the fingerprint: what is hashed is what is computed with.
  const SafetensorsSet& files() const { return files_; }

 private:
  friend class CheckpointLoader;
  Checkpoint() = default;

  ModelConfig config_;
  SafetensorsSet files_;
  Bf16Matrix embedding_;
  Bf16Matrix lm_head_;
  Gain final_norm_;
  std::vector<LayerWeights> layers_;
  CheckpointStats stats_;
  std::vector<std::shared_ptr<const void>> owned_;
};

}  // namespace lectern::engine
