#include "engine/model/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/engine/model/model_files.h"

namespace lectern::engine {
namespace {

ModelConfig Config() { return *ParseModelConfig(SmallConfig().dump()); }

FingerprintInputs Inputs(const ModelConfig* config) {
  FingerprintInputs inputs;
  inputs.weights.fill(7);
  inputs.tokenizer = "{}";
  inputs.config = config;
  inputs.attention = config->attention;
  inputs.block_tokens = 128;
  inputs.selection_blocks = 16;
  inputs.prompt_layout = "lectern-qa-1";
  inputs.text_extractor_version = 1;
  return inputs;
}

TEST(Fingerprint, SeesEveryInput) {
  const ModelConfig config = Config();
  ModelConfig other_config = config;
  other_config.rope_theta *= 2;
  std::vector<FingerprintInputs> all(12, Inputs(&config));
  all[1].weights[31] ^= 1;
  all[2].tokenizer = "{ }";
  all[3].config = &other_config;
  all[4].attention[0] = LayerAttention::kSparse;
  all[5].block_tokens = 64;
  all[6].selection_blocks = 8;
  all[7].rope_tables = "hf-fp32";
  all[8].kv_dtype = "fp8";
  all[9].index_key_dtype = "int8";
  all[10].prompt_layout = "lectern-qa-2";
  all[11].text_extractor_version = 2;
  std::set<std::string> seen;
  for (const FingerprintInputs& inputs : all) seen.insert(ToHex(ModelFingerprint(inputs)));
  EXPECT_EQ(seen.size(), all.size());
  EXPECT_EQ(ModelFingerprint(all[0]), ModelFingerprint(Inputs(&config)));
}

TEST(Fingerprint, ForcedDenseIsAnotherModelAndItsBudgetDoesNotMatter) {
  const ModelConfig config = Config();
  FingerprintInputs dense = Inputs(&config);
  dense.attention.assign(2, LayerAttention::kDense);
  EXPECT_NE(ModelFingerprint(dense), ModelFingerprint(Inputs(&config)));
  FingerprintInputs other = dense;
  other.selection_blocks = 4;
  EXPECT_EQ(ModelFingerprint(dense), ModelFingerprint(other));
  EXPECT_THAT(DescribeFingerprint(dense), testing::HasSubstr("layer_attention: dd\n"));
}

TEST(Fingerprint, WeightsAreTheBytesInEveryFile) {
  const auto hash = [](const std::map<std::string, std::string>& shards, int threads) {
    TempDirectory directory;
    nlohmann::json map;
    int number = 0;
    for (const auto& [name, value] : shards) {
      const std::string tensor = "t" + std::to_string(number++);
      map[tensor] = name;
      WriteFile(directory.File(name),
                SafetensorsBytes({{tensor, {"I8", {static_cast<int64_t>(value.size())}, value}}}));
    }
    WriteFile(directory.File("model.safetensors.index.json"),
              nlohmann::json{{"weight_map", map}}.dump());
    return ToHex(HashWeights(*SafetensorsSet::Open(directory.path()), threads));
  };
  const std::map<std::string, std::string> shards = {{"a", "one"}, {"b", "two"}, {"c", "three"}};
  const std::string expected = hash(shards, 1);
  EXPECT_EQ(hash(shards, 4), expected);  // other directory, other threads
  for (const char* name : {"a", "b", "c"}) {
    auto changed = shards;
    changed[name][1] ^= 1;
    EXPECT_NE(hash(changed, 2), expected);
  }
}

TEST(Fingerprint, HexHasSixtyFourDigits) {
  Sha256Digest digest{};
  digest[0] = 0xab;
  EXPECT_EQ(ToHex(digest), "ab" + std::string(62, '0'));
}

}  // namespace
}  // namespace lectern::engine
