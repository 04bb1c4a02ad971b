#include "engine/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "tests/engine/model/model_files.h"

namespace lectern::engine {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::Status Refused(const json& config) { return ParseModelConfig(config.dump()).status(); }

json With(const char* key, json value) {
  json config = SmallConfig();
  config[key] = std::move(value);
  return config;
}

json WithSparse(const char* key, json value) {
  json config = SmallConfig();
  config["sparse_attention_config"][key] = std::move(value);
  return config;
}

json Without(const char* key) {
  json config = SmallConfig();
  config.erase(key);
  return config;
}

TEST(ModelConfig, ReadsOurs) {
  const auto config = ParseModelConfig(SmallConfig().dump());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->group_size(), 2);
  EXPECT_EQ(config->kv_width(), 32);
  EXPECT_EQ(config->rotary_dim, 8);
  EXPECT_TRUE(config->gemma_norm && config->qk_norm && config->tied_embeddings);
  EXPECT_EQ(config->prompt_layout, "lectern-qa-1");
  EXPECT_THAT(config->eos_token_ids, ElementsAre(6));
  EXPECT_THAT(config->attention, ElementsAre(LayerAttention::kDense, LayerAttention::kSparse));
  EXPECT_EQ(config->sparse, (SparseAttentionConfig{2, 8, 128, 16}));
}

// The text model of MiniMax-M3 with a dense MLP: nested, partial_rotary_factor beside rotary_dim,
// sparse_disable_index_value.
TEST(ModelConfig, ReadsMiniMaxNested) {
  json text = SmallConfig();
  text["partial_rotary_factor"] = 0.5;
  text["attention_output_gate"] = false;
  text["num_mtp_modules"] = 7;
  text["sparse_attention_config"]["sparse_disable_index_value"] = {0, 1};
  const json config = {
      {"model_type", "minimax_m3_vl"}, {"image_token_index", 20}, {"text_config", text}};
  const auto parsed = ParseModelConfig(config.dump());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->model_type, "minimax_m3_vl");
  EXPECT_EQ(parsed->rotary_dim, 8);
  EXPECT_THAT(parsed->attention, ElementsAre(LayerAttention::kDense, LayerAttention::kSparse));
}

TEST(ModelConfig, ReadsFlatIndexKeys) {
  json flat = Without("sparse_attention_config");
  flat["model_type"] = "minimax_m3";
  flat.update({{"index_n_heads", 2},
               {"index_head_dim", 8},
               {"index_block_size", 128},
               {"index_topk_blocks", 16},
               {"index_local_blocks", 1},
               {"layer_types", {"full_attention", "minimax_m3_sparse"}}});
  const auto parsed = ParseModelConfig(flat.dump());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->CanonicalJson(), ParseModelConfig(SmallConfig().dump())->CanonicalJson());
  flat.erase("layer_types");
  EXPECT_EQ(ReasonOf(Refused(flat)), reason::kModelConfigBroken);
}

TEST(ModelConfig, ALostSparseSectionIsAnErrorForMiniMax) {
  json config = Without("sparse_attention_config");
  EXPECT_TRUE(
      ParseModelConfig(config.dump()).ok());  // an ordinary dense model, as far as the file tells
  config["model_type"] = "minimax_m3_vl";
  EXPECT_EQ(ReasonOf(Refused(config)), reason::kSparseConfigMissing);
}

TEST(ModelConfig, CanonicalJsonIgnoresSpellingAndSeesMeaning) {
  const std::string one = ParseModelConfig(SmallConfig().dump())->CanonicalJson();
  json same = SmallConfig();
  same["transformers_version"] = "9";
  same["rope_theta"] = 10000;  // a whole number means the same
  EXPECT_EQ(ParseModelConfig(same.dump(4))->CanonicalJson(), one);
  for (const json& other :
       {With("rope_theta", 10001.0), With("rms_norm_eps", 1e-5), With("use_gemma_norm", false),
        WithSparse("sparse_topk_blocks", 8), WithSparse("sparse_attention_freq", {1, 1})}) {
    EXPECT_NE(ParseModelConfig(other.dump())->CanonicalJson(), one);
  }
}

TEST(ModelConfig, RefusesWhatItCannotComputeByName) {
  const std::pair<json, const char*> cases[] = {
      {With("num_local_experts", 8), "num_local_experts"},
      {With("moe_layer_freq", {0, 1}), "moe_layer_freq"},
      {With("hidden_act", "swigluoai"), "swigluoai"},
      {With("sliding_window", 4096), "sliding_window"},
      {With("attention_output_gate", true), "attention_output_gate"},
      {With("attention_bias", true), "attention_bias"},
      {With("rope_scaling", {{"type", "yarn"}, {"factor", 4}}), "yarn"},
      {With("rope_parameters", {{"rope_type", "llama3"}}), "llama3"},
      {With("qk_norm_type", "full"), "qk_norm_type"},
      {With("final_logit_softcapping", 30.0), "final_logit_softcapping"},
      {WithSparse("sparse_block_size", 64), "sparse_block_size"},
      {WithSparse("sparse_score_type", "mean"), "sparse_score_type"},
      {WithSparse("sparse_init_block", 1), "sparse_init_block"},
      {WithSparse("sparse_local_block", 2), "sparse_local_block"},
      {WithSparse("sparse_num_index_heads", 4), "sparse_num_index_heads"},
      {WithSparse("sparse_disable_index_value", {0, 0}), "sparse_disable_index_value"},
  };
  for (const auto& [config, name] : cases) {
    const absl::Status status = Refused(config);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << name;
    EXPECT_EQ(ReasonOf(status), reason::kModelUnsupported) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(ModelConfig, RefusesBrokenFilesByKey) {
  EXPECT_EQ(ReasonOf(ParseModelConfig("").status()), reason::kModelConfigBroken);
  EXPECT_EQ(ReasonOf(ParseModelConfig("[1]").status()), reason::kModelConfigBroken);
  EXPECT_EQ(ReasonOf(ParseModelConfig("{\"text_config\": 3}").status()),
            reason::kModelConfigBroken);
  const std::pair<json, const char*> cases[] = {
      {Without("vocab_size"), "vocab_size"},
      {Without("rope_theta"), "rope_theta"},
      {Without("max_position_embeddings"), "max_position_embeddings"},
      {With("hidden_size", 0), "hidden_size"},
      {With("hidden_size", -5), "hidden_size"},
      {With("hidden_size", 18446744073709551615u), "hidden_size"},
      {With("hidden_size", "32"), "hidden_size"},
      {With("hidden_size", 32.5), "hidden_size"},
      {With("num_hidden_layers", 1e9), "num_hidden_layers"},
      {With("num_key_value_heads", 3), "num_attention_heads"},
      {With("num_key_value_heads", 8), "num_key_value_heads"},
      {With("rotary_dim", 7), "rotary_dim"},
      {With("rotary_dim", 32), "rotary_dim"},
      {With("partial_rotary_factor", 0.25), "rotary_dim"},
      {With("partial_rotary_factor", 2.0), "partial_rotary_factor"},
      {With("rms_norm_eps", 0), "rms_norm_eps"},
      {With("tie_word_embeddings", "yes"), "tie_word_embeddings"},
      {With("eos_token_id", 24), "eos_token_id"},
      {With("eos_token_id", {6, "x"}), "eos_token_id"},
      {With("sparse_attention_config", 1), "sparse_attention_config"},
      {WithSparse("sparse_attention_freq", {1}), "sparse_attention_freq"},
      {WithSparse("sparse_attention_freq", {1, 2}), "sparse_attention_freq"},
      {WithSparse("sparse_topk_blocks", 0), "sparse_topk_blocks"},
      {WithSparse("sparse_index_dim", 4), "sparse_index_dim"},
      {WithSparse("sparse_index_dim", nullptr), "sparse_index_dim"},
  };
  for (const auto& [config, key] : cases) {
    const absl::Status status = Refused(config);
    EXPECT_EQ(ReasonOf(status), reason::kModelConfigBroken) << key << " " << status;
    EXPECT_THAT(MetadataOf(status)["key"], HasSubstr(key)) << status;
  }
}

TEST(ModelConfig, EveryFieldOfAnyJsonTypeIsAnErrorOrAConfig) {
  const json values[] = {nullptr,
                         true,
                         -1,
                         0,
                         1e300,
                         "x",
                         json::array(),
                         json::object(),
                         {{"a", 1}},
                         json::array({nullptr, "x", -1})};
  const json small = SmallConfig();
  for (const auto& [key, ignored] : small.items()) {
    for (const json& value : values) {
      const auto parsed = ParseModelConfig(With(key.c_str(), value).dump());
      EXPECT_TRUE(parsed.ok() || !ReasonOf(parsed.status()).empty()) << key << value;
    }
  }
  for (const auto& [key, ignored] : small["sparse_attention_config"].items()) {
    for (const json& value : values) {
      const auto parsed = ParseModelConfig(WithSparse(key.c_str(), value).dump());
      EXPECT_TRUE(parsed.ok() || !ReasonOf(parsed.status()).empty()) << key << value;
    }
  }
}

TEST(ModelConfig, AMissingFileNamesItself) {
  const absl::Status status = LoadModelConfig("/nonexistent/config.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/config.json"));
}

}  // namespace
}  // namespace lectern::engine
