// config.json of a model directory, read, checked and made explicit.
//
// Two dialects: ours (model_type "lectern_msa") and MiniMax-M3's, whose text model sits under
// `text_config` and whose newer Hugging Face files spell the index branch with flat keys
// (index_n_heads, index_head_dim, index_block_size, index_topk_blocks, layer_types). What this
// engine cannot compute is refused by the key that asks for it, never skipped.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

enum class LayerAttention : uint8_t { kDense = 0, kSparse = 1 };

// The index branch and its selection (arXiv 2606.13392; keys of `sparse_attention_config`).
struct SparseAttentionConfig {
  // sparse_num_index_heads; equals num_key_value_heads: one index query head a KV group.
  int32_t index_heads = 0;
  int32_t index_dim = 0;     // sparse_index_dim
  int32_t block_tokens = 0;  // sparse_block_size
  int32_t topk_blocks = 0;   // sparse_topk_blocks, the own block among them
  friend bool operator==(const SparseAttentionConfig&, const SparseAttentionConfig&) = default;
};

struct ModelConfig {
  std::string model_type;
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  double rms_norm_eps = 0;
  bool gemma_norm = false;  // gains are 1 + w
  bool qk_norm = false;     // per-head RMSNorm of queries and keys before RoPE
  double rope_theta = 0;
  int32_t rotary_dim = 0;  // the first rotary_dim dimensions of a head turn; even
  int64_t max_positions = 0;
  bool tied_embeddings = false;
  std::string prompt_layout;  // "" when the file names none (a model that was not trained on ours)
  std::vector<int32_t> eos_token_ids;  // may be empty
  int32_t bos_token_id = -1;           // -1: not given
  int32_t pad_token_id = -1;

  // One entry a layer. `sparse` is meaningful if any layer is sparse.
  std::vector<LayerAttention> attention;
  SparseAttentionConfig sparse;

  bool any_sparse() const;
  // Dimensions of a token's keys (or values) in one layer: num_kv_heads * head_dim.
  int32_t kv_width() const { return num_kv_heads * head_dim; }
  // Query heads that share a KV head.
  int32_t group_size() const { return num_heads / num_kv_heads; }

  // One spelling for one meaning: every field that decides what the model computes, keys sorted, no
  // spaces. Goes into the fingerprint, so that a reformatted config.json is the same model.
  std::string CanonicalJson() const;
};

// Errors, with the key in message and metadata (`key`):
//   MODEL_CONFIG_BROKEN (INVALID_ARGUMENT): not JSON; a key that is missing, of the wrong type, out
//     of range or at odds with another
//   MODEL_UNSUPPORTED (UNIMPLEMENTED): mixture of experts, swigluoai, sliding window, attention
//     output gate, biases, RoPE scaling, soft caps, other norms, other block sizes
//   SPARSE_CONFIG_MISSING (INVALID_ARGUMENT): a MiniMax configuration that lost its sparse section
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json);

// The same from a file; NOT_FOUND / MODEL_FILE_UNREADABLE.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path);

}  // namespace lectern::engine
