#include "engine/model/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "engine/error/status_macros.h"

namespace lectern::engine {
namespace {

using nlohmann::json;

// Bounds that no decoder comes near; inside them no product of two overflows 64 bits.
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kMaxPositions = int64_t{1} << 24;
constexpr int64_t kMaxTopkBlocks = 1024;
// What the cache and the kernels are built for (blocks of 128 tokens).
constexpr int64_t kBlockTokens = 128;

absl::Status Broken(std::string_view key, std::string_view what) {
  return InvalidArgument(reason::kModelConfigBroken, fmt::format("config.json: {} {}", key, what),
                         {{"key", std::string(key)}});
}

absl::Status Unsupported(std::string_view key, std::string_view what) {
  return Error(absl::StatusCode::kUnimplemented, reason::kModelUnsupported,
               fmt::format("config.json: {} {}, which this engine cannot compute", key, what),
               {{"key", std::string(key)}});
}

// The fields of one JSON object, with its place in the file for messages.
class Fields {
 public:
  Fields(const json& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

  std::string Key(std::string_view key) const { return fmt::format("{}{}", prefix_, key); }
  // Absent and null are the same.
  bool Has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  const json& At(const char* key) const { return object_.at(key); }

  absl::StatusOr<int64_t> Integer(const char* key, int64_t low, int64_t high) const {
    if (!Has(key)) return Broken(Key(key), "is missing");
    const json& value = At(key);
    if (!value.is_number_integer())
      return Broken(Key(key), fmt::format("is {}, not a whole number", value.dump()));
    const bool large =
        value.is_number_unsigned() &&
        value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    if (large || value.get<int64_t>() < low || value.get<int64_t>() > high) {
      return Broken(Key(key), fmt::format("is {}, expected {} to {}", value.dump(), low, high));
    }
    return value.get<int64_t>();
  }

  absl::StatusOr<int64_t> Integer(const char* key, int64_t low, int64_t high,
                                  int64_t fallback) const {
    if (!Has(key)) return fallback;
    return Integer(key, low, high);
  }

  absl::StatusOr<double> Positive(const char* key) const {
    if (!Has(key)) return Broken(Key(key), "is missing");
    const json& value = At(key);
    if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() <= 0) {
      return Broken(Key(key), fmt::format("is {}, expected a number above 0", value.dump()));
    }
    return value.get<double>();
  }

  absl::StatusOr<bool> Bool(const char* key, bool fallback) const {
    if (!Has(key)) return fallback;
    if (!At(key).is_boolean())
      return Broken(Key(key), fmt::format("is {}, not true or false", At(key).dump()));
    return At(key).get<bool>();
  }

  absl::StatusOr<std::string> String(const char* key, std::string_view fallback) const {
    if (!Has(key)) return std::string(fallback);
    if (!At(key).is_string())
      return Broken(Key(key), fmt::format("is {}, not a string", At(key).dump()));
    return At(key).get<std::string>();
  }

 private:
  const json& object_;
  std::string prefix_;
};

bool IsMiniMax(std::string_view model_type) { return model_type.starts_with("minimax"); }

absl::Status RefuseUnsupported(const Fields& fields) {
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts"}) {
    LECTERN_ASSIGN_OR_RETURN(const int64_t experts, fields.Integer(key, 0, kMaxWidth, 0));
    if (experts > 0)
      return Unsupported(fields.Key(key), fmt::format("asks for a mixture of {} experts", experts));
  }
  if (fields.Has("moe_layer_freq") && fields.At("moe_layer_freq").is_array()) {
    for (const json& layer : fields.At("moe_layer_freq")) {
      if (layer != 0)
        return Unsupported(fields.Key("moe_layer_freq"), "asks for a mixture of experts");
    }
  }
  if (fields.Has("mlp_layer_types")) {
    for (const json& layer : fields.At("mlp_layer_types")) {
      if (layer != "dense")
        return Unsupported(fields.Key("mlp_layer_types"), fmt::format("has {}", layer.dump()));
    }
  }
  LECTERN_ASSIGN_OR_RETURN(const std::string act, fields.String("hidden_act", "silu"));
  if (act != "silu" && act != "swish")
    return Unsupported(fields.Key("hidden_act"), fmt::format("is \"{}\"", act));
  LECTERN_ASSIGN_OR_RETURN(const bool gate, fields.Bool("attention_output_gate", false));
  if (gate) return Unsupported(fields.Key("attention_output_gate"), "is true");
  for (const char* key : {"attention_bias", "mlp_bias", "qkv_bias"}) {
    LECTERN_ASSIGN_OR_RETURN(const bool bias, fields.Bool(key, false));
    if (bias) return Unsupported(fields.Key(key), "is true");
  }
  LECTERN_ASSIGN_OR_RETURN(const bool use_sliding, fields.Bool("use_sliding_window", true));
  if (fields.Has("sliding_window") && use_sliding) {
    return Unsupported(fields.Key("sliding_window"),
                       fmt::format("is {}", fields.At("sliding_window").dump()));
  }
  for (const char* key :
       {"final_logit_softcapping", "attn_logit_softcapping", "logit_scale", "embedding_multiplier",
        "residual_multiplier", "attention_multiplier", "query_pre_attn_scalar"}) {
    if (fields.Has(key))
      return Unsupported(fields.Key(key), fmt::format("is {}", fields.At(key).dump()));
  }
  return absl::OkStatus();
}

// RoPE scaling that scales nothing ("default", or factor 1) is no scaling.
absl::Status RefuseRopeScaling(const Fields& fields) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!fields.Has(key)) continue;
    const json& scaling = fields.At(key);
    if (!scaling.is_object()) return Broken(fields.Key(key), "is not an object");
    const Fields inner(scaling, fmt::format("{}.", fields.Key(key)));
    LECTERN_ASSIGN_OR_RETURN(const std::string old_type, inner.String("type", "default"));
    LECTERN_ASSIGN_OR_RETURN(const std::string type, inner.String("rope_type", old_type));
    if (type != "default")
      return Unsupported(inner.Key("rope_type"), fmt::format("is \"{}\"", type));
  }
  return absl::OkStatus();
}

absl::StatusOr<double> ReadRopeTheta(const Fields& fields) {
  if (!fields.Has("rope_theta") && fields.Has("rope_parameters")) {
    return Fields(fields.At("rope_parameters"), fields.Key("rope_parameters."))
        .Positive("rope_theta");
  }
  return fields.Positive("rope_theta");
}

absl::Status ReadRotary(const Fields& fields, ModelConfig* config) {
  LECTERN_RETURN_IF_ERROR(RefuseRopeScaling(fields));
  LECTERN_ASSIGN_OR_RETURN(config->rope_theta, ReadRopeTheta(fields));
  double factor = 1.0;
  if (fields.Has("partial_rotary_factor")) {
    LECTERN_ASSIGN_OR_RETURN(factor, fields.Positive("partial_rotary_factor"));
    if (factor > 1.0) return Broken(fields.Key("partial_rotary_factor"), "is above 1");
  }
  const auto by_factor = static_cast<int64_t>(std::llround(factor * config->head_dim));
  LECTERN_ASSIGN_OR_RETURN(const int64_t rotary,
                           fields.Integer("rotary_dim", 2, config->head_dim, by_factor));
  if (fields.Has("rotary_dim") && fields.Has("partial_rotary_factor") && rotary != by_factor) {
    return Broken(
        fields.Key("rotary_dim"),
        fmt::format("is {}, but partial_rotary_factor of head_dim is {}", rotary, by_factor));
  }
  if (rotary < 2 || rotary % 2 != 0)
    return Broken(fields.Key("rotary_dim"), fmt::format("is {}, expected an even number", rotary));
  config->rotary_dim = static_cast<int32_t>(rotary);
  return absl::OkStatus();
}

absl::Status ReadNorms(const Fields& fields, ModelConfig* config) {
  LECTERN_ASSIGN_OR_RETURN(config->rms_norm_eps, fields.Positive("rms_norm_eps"));
  LECTERN_ASSIGN_OR_RETURN(config->gemma_norm, fields.Bool("use_gemma_norm", false));
  LECTERN_ASSIGN_OR_RETURN(config->qk_norm, fields.Bool("use_qk_norm", false));
  LECTERN_ASSIGN_OR_RETURN(const std::string type, fields.String("qk_norm_type", "per_head"));
  if (config->qk_norm && type != "per_head")
    return Unsupported(fields.Key("qk_norm_type"), fmt::format("is \"{}\"", type));
  return absl::OkStatus();
}

absl::Status ReadSizes(const Fields& fields, ModelConfig* config) {
  const auto read = [&](const char* key, int64_t high, int32_t* target) -> absl::Status {
    LECTERN_ASSIGN_OR_RETURN(const int64_t value, fields.Integer(key, 1, high));
    *target = static_cast<int32_t>(value);
    return absl::OkStatus();
  };
  LECTERN_RETURN_IF_ERROR(read("vocab_size", kMaxVocabulary, &config->vocab_size));
  LECTERN_RETURN_IF_ERROR(read("hidden_size", kMaxWidth, &config->hidden_size));
  LECTERN_RETURN_IF_ERROR(read("intermediate_size", kMaxWidth, &config->intermediate_size));
  LECTERN_RETURN_IF_ERROR(read("num_hidden_layers", kMaxLayers, &config->num_layers));
  LECTERN_RETURN_IF_ERROR(read("num_attention_heads", kMaxWidth, &config->num_heads));
  LECTERN_ASSIGN_OR_RETURN(
      const int64_t kv_heads,
      fields.Integer("num_key_value_heads", 1, config->num_heads, config->num_heads));
  config->num_kv_heads = static_cast<int32_t>(kv_heads);
  if (config->num_heads % config->num_kv_heads != 0) {
    return Broken(fields.Key("num_attention_heads"),
                  fmt::format("is {}, not a multiple of num_key_value_heads {}", config->num_heads,
                              config->num_kv_heads));
  }
  if (!fields.Has("head_dim") && config->hidden_size % config->num_heads != 0) {
    return Broken(fields.Key("head_dim"),
                  "is missing, and hidden_size is no multiple of num_attention_heads");
  }
  LECTERN_ASSIGN_OR_RETURN(
      const int64_t head_dim,
      fields.Integer("head_dim", 2, kMaxHeadDim, config->hidden_size / config->num_heads));
  config->head_dim = static_cast<int32_t>(head_dim);
  if (int64_t{config->num_heads} * config->head_dim > kMaxWidth) {
    return Broken(fields.Key("num_attention_heads"), "times head_dim is out of range");
  }
  LECTERN_ASSIGN_OR_RETURN(config->max_positions,
                           fields.Integer("max_position_embeddings", 1, kMaxPositions));
  LECTERN_ASSIGN_OR_RETURN(config->tied_embeddings, fields.Bool("tie_word_embeddings", false));
  return absl::OkStatus();
}

absl::StatusOr<int32_t> ReadTokenId(const Fields& fields, const char* key, int32_t vocab_size) {
  LECTERN_ASSIGN_OR_RETURN(const int64_t id, fields.Integer(key, 0, vocab_size - 1, -1));
  return static_cast<int32_t>(id);
}

absl::Status ReadTokenIds(const Fields& fields, ModelConfig* config) {
  LECTERN_ASSIGN_OR_RETURN(config->bos_token_id,
                           ReadTokenId(fields, "bos_token_id", config->vocab_size));
  LECTERN_ASSIGN_OR_RETURN(config->pad_token_id,
                           ReadTokenId(fields, "pad_token_id", config->vocab_size));
  if (!fields.Has("eos_token_id")) return absl::OkStatus();
  const json& eos = fields.At("eos_token_id");
  for (const json& id : eos.is_array() ? eos : json::array({eos})) {
    const json one = {{"eos_token_id", id}};
    LECTERN_ASSIGN_OR_RETURN(const int32_t checked,
                             ReadTokenId(Fields(one, ""), "eos_token_id", config->vocab_size));
    if (checked >= 0) config->eos_token_ids.push_back(checked);
  }
  return absl::OkStatus();
}

// One 0 or 1 a layer.
absl::Status ReadFrequency(const Fields& sparse, ModelConfig* config) {
  const char* key = "sparse_attention_freq";
  if (!sparse.Has(key)) return absl::OkStatus();  // every layer
  const json& freq = sparse.At(key);
  if (!freq.is_array() || freq.size() != static_cast<size_t>(config->num_layers)) {
    return Broken(sparse.Key(key), fmt::format("is not a list of num_hidden_layers = {} numbers",
                                               config->num_layers));
  }
  for (size_t layer = 0; layer < freq.size(); ++layer) {
    if (freq[layer] != 0 && freq[layer] != 1) {
      return Broken(sparse.Key(key),
                    fmt::format("has {} for layer {}, expected 0 or 1", freq[layer].dump(), layer));
    }
    config->attention[layer] = freq[layer] == 1 ? LayerAttention::kSparse : LayerAttention::kDense;
  }
  return absl::OkStatus();
}

// The names of the two spellings of the index branch's numbers.
struct SparseKeys {
  const char* heads;
  const char* dim;
  const char* block;
  const char* topk;
  const char* local;
};
constexpr SparseKeys kNestedKeys = {"sparse_num_index_heads", "sparse_index_dim",
                                    "sparse_block_size", "sparse_topk_blocks",
                                    "sparse_local_block"};
constexpr SparseKeys kFlatKeys = {"index_n_heads", "index_head_dim", "index_block_size",
                                  "index_topk_blocks", "index_local_blocks"};

absl::Status ReadSparseNumbers(const Fields& fields, const SparseKeys& keys, ModelConfig* config) {
  LECTERN_ASSIGN_OR_RETURN(const int64_t heads, fields.Integer(keys.heads, 1, kMaxWidth));
  if (heads != config->num_kv_heads) {
    return Unsupported(fields.Key(keys.heads), fmt::format("is {}, not num_key_value_heads = {}",
                                                           heads, config->num_kv_heads));
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t dim, fields.Integer(keys.dim, 2, kMaxHeadDim));
  if (dim < config->rotary_dim) {
    return Broken(fields.Key(keys.dim),
                  fmt::format("is {}, less than rotary_dim {}", dim, config->rotary_dim));
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t block, fields.Integer(keys.block, 1, kMaxWidth));
  if (block != kBlockTokens) {
    return Unsupported(fields.Key(keys.block), fmt::format("is {}, not {}", block, kBlockTokens));
  }
  LECTERN_ASSIGN_OR_RETURN(const int64_t topk, fields.Integer(keys.topk, 1, kMaxTopkBlocks));
  LECTERN_ASSIGN_OR_RETURN(const int64_t local, fields.Integer(keys.local, 0, kMaxTopkBlocks, 1));
  if (local != 1) return Unsupported(fields.Key(keys.local), fmt::format("is {}, not 1", local));
  config->sparse = {static_cast<int32_t>(heads), static_cast<int32_t>(dim),
                    static_cast<int32_t>(block), static_cast<int32_t>(topk)};
  return absl::OkStatus();
}

absl::Status ReadNestedSparse(const Fields& fields, ModelConfig* config) {
  if (!fields.At("sparse_attention_config").is_object()) {
    return Broken(fields.Key("sparse_attention_config"), "is not an object");
  }
  const Fields sparse(fields.At("sparse_attention_config"), fields.Key("sparse_attention_config."));
  LECTERN_ASSIGN_OR_RETURN(const bool used, sparse.Bool("use_sparse_attention", true));
  if (!used) return absl::OkStatus();
  std::fill(config->attention.begin(), config->attention.end(), LayerAttention::kSparse);
  LECTERN_RETURN_IF_ERROR(ReadFrequency(sparse, config));
  if (!config->any_sparse()) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(const std::string score, sparse.String("sparse_score_type", "max"));
  if (score != "max")
    return Unsupported(sparse.Key("sparse_score_type"), fmt::format("is \"{}\"", score));
  LECTERN_ASSIGN_OR_RETURN(const int64_t initial,
                           sparse.Integer("sparse_init_block", 0, kMaxTopkBlocks, 0));
  if (initial != 0)
    return Unsupported(sparse.Key("sparse_init_block"), fmt::format("is {}", initial));
  if (sparse.Has("sparse_disable_index_value") &&
      sparse.At("sparse_disable_index_value").is_array()) {
    const json& disabled = sparse.At("sparse_disable_index_value");
    for (size_t layer = 0; layer < disabled.size() && layer < config->attention.size(); ++layer) {
      if (config->attention[layer] == LayerAttention::kSparse && disabled[layer] != 1) {
        return Unsupported(sparse.Key("sparse_disable_index_value"),
                           fmt::format("is {} for sparse layer {}", disabled[layer].dump(), layer));
      }
    }
  }
  return ReadSparseNumbers(sparse, kNestedKeys, config);
}

// Newer Hugging Face files: flat keys, and layer_types says which layers are sparse.
absl::Status ReadFlatSparse(const Fields& fields, ModelConfig* config) {
  if (!fields.Has("layer_types") || !fields.At("layer_types").is_array() ||
      fields.At("layer_types").size() != static_cast<size_t>(config->num_layers)) {
    return Broken(fields.Key("layer_types"),
                  fmt::format("is not a list of num_hidden_layers = {} names", config->num_layers));
  }
  for (int32_t layer = 0; layer < config->num_layers; ++layer) {
    const json& type = fields.At("layer_types")[layer];
    if (type == "minimax_m3_sparse") {
      config->attention[layer] = LayerAttention::kSparse;
    } else if (type != "full_attention") {
      return Unsupported(fields.Key("layer_types"),
                         fmt::format("has {} for layer {}", type.dump(), layer));
    }
  }
  if (!config->any_sparse()) return absl::OkStatus();
  return ReadSparseNumbers(fields, kFlatKeys, config);
}

absl::Status ReadSparse(const Fields& fields, ModelConfig* config) {
  config->attention.assign(config->num_layers, LayerAttention::kDense);
  const bool flat = fields.Has(kFlatKeys.heads) || fields.Has(kFlatKeys.topk);
  if (fields.Has("sparse_attention_config")) return ReadNestedSparse(fields, config);
  if (flat) return ReadFlatSparse(fields, config);
  if (fields.Has("layer_types") && fields.At("layer_types").is_array()) {
    for (const json& type : fields.At("layer_types")) {
      if (type != "full_attention")
        return Unsupported(fields.Key("layer_types"), fmt::format("has {}", type.dump()));
    }
  }
  if (IsMiniMax(config->model_type)) {
    return InvalidArgument(
        reason::kSparseConfigMissing,
        "config.json: a MiniMax model without sparse_attention_config: whoever wrote this file "
        "lost the section, and "
        "the model would silently run dense; put it back from the original config.json",
        {{"key", fields.Key("sparse_attention_config")}});
  }
  return absl::OkStatus();
}

}  // namespace

bool ModelConfig::any_sparse() const {
  return std::find(attention.begin(), attention.end(), LayerAttention::kSparse) != attention.end();
}

std::string ModelConfig::CanonicalJson() const {
  // nlohmann::json sorts keys; numbers have one spelling. model_type and token ids do not change
  // what a layer computes.
  json canonical = {{"vocab_size", vocab_size},
                    {"hidden_size", hidden_size},
                    {"intermediate_size", intermediate_size},
                    {"num_hidden_layers", num_layers},
                    {"num_attention_heads", num_heads},
                    {"num_key_value_heads", num_kv_heads},
                    {"head_dim", head_dim},
                    {"rms_norm_eps", rms_norm_eps},
                    {"use_gemma_norm", gemma_norm},
                    {"use_qk_norm", qk_norm},
                    {"rope_theta", rope_theta},
                    {"rotary_dim", rotary_dim},
                    {"max_position_embeddings", max_positions},
                    {"tie_word_embeddings", tied_embeddings}};
  std::string layers;
  for (const LayerAttention layer : attention)
    layers += layer == LayerAttention::kSparse ? 's' : 'd';
  canonical["layers"] = layers;
  if (any_sparse()) {
    canonical["sparse"] = {{"index_heads", sparse.index_heads},
                           {"index_dim", sparse.index_dim},
                           {"block_tokens", sparse.block_tokens},
                           {"topk_blocks", sparse.topk_blocks}};
  }
  return canonical.dump();
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return Broken("the file", "is not a JSON object");
  const bool nested = root.contains("text_config");
  if (nested && !root["text_config"].is_object()) return Broken("text_config", "is not an object");
  const Fields top(root, "");
  const Fields fields(nested ? root["text_config"] : root, nested ? "text_config." : "");
  ModelConfig config;
  LECTERN_ASSIGN_OR_RETURN(config.model_type, top.String("model_type", ""));
  LECTERN_ASSIGN_OR_RETURN(config.prompt_layout, top.String("prompt_layout", ""));
  LECTERN_RETURN_IF_ERROR(RefuseUnsupported(fields));
  LECTERN_RETURN_IF_ERROR(ReadSizes(fields, &config));
  LECTERN_RETURN_IF_ERROR(ReadNorms(fields, &config));
  LECTERN_RETURN_IF_ERROR(ReadRotary(fields, &config));
  LECTERN_RETURN_IF_ERROR(ReadSparse(fields, &config));
  LECTERN_RETURN_IF_ERROR(ReadTokenIds(fields, &config));
  return config;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (!file || !(bytes << file.rdbuf())) {
    return Error(
        absl::StatusCode::kNotFound, reason::kModelFileUnreadable,
        fmt::format(
            "cannot read {}; a model directory holds config.json, tokenizer.json and safetensors",
            path),
        {{"path", path}});
  }
  absl::StatusOr<ModelConfig> config = ParseModelConfig(std::move(bytes).str());
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

}  // namespace lectern::engine
