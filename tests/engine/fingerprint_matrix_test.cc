// What makes a cache another cache, field by field: a server that differs in one of them refuses
// the cache or finds nothing of it, and both are kept apart.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "engine/kv/prefix_chain.h"
#include "engine/model/config.h"
#include "engine/model/fingerprint.h"
#include "storage/store.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};

struct Variant {
  const char* name;
  std::function<void(const std::string& model)> change;
  AttentionMode attention = AttentionMode::kSparse;
};

void ChangeConfig(const std::string& model, const std::function<void(nlohmann::json&)>& change) {
  const std::string path = model + "/config.json";
  nlohmann::json config = nlohmann::json::parse(std::ifstream(path));
  change(config);
  std::ofstream(path) << config.dump(2);
}

// Every one of them gives a model of the same shapes.
std::vector<Variant> Variants() {
  return {
      {"other weights",
       [](const std::string& model) { testing::WriteRandomModel({.seed = 2}, model); }},
      {"one bit of the weights",
       [](const std::string& model) {
         std::fstream file(model + "/model.safetensors",
                           std::ios::in | std::ios::out | std::ios::binary);
         file.seekg(-2, std::ios::end);
         const int byte = file.get();
         file.seekp(-2, std::ios::end);
         file.put(static_cast<char>(byte ^ 1));
       }},
      {"tokenizer",
       [](const std::string& model) {
         std::ofstream(model + "/tokenizer.json", std::ios::app) << "\n";
       }},
      {"rope_theta",
       [](const std::string& model) {
         ChangeConfig(model, [](nlohmann::json& config) { config["rope_theta"] = 5e5; });
       }},
      {"rotary_dim",
       [](const std::string& model) {
         ChangeConfig(model, [](nlohmann::json& config) { config["rotary_dim"] = 8; });
       }},
      {"rms_norm_eps",
       [](const std::string& model) {
         ChangeConfig(model, [](nlohmann::json& config) { config["rms_norm_eps"] = 1e-5; });
       }},
      {"use_gemma_norm",
       [](const std::string& model) {
         ChangeConfig(model, [](nlohmann::json& config) { config["use_gemma_norm"] = false; });
       }},
      {"top-k",
       [](const std::string& model) {
         ChangeConfig(model, [](nlohmann::json& config) {
           config["sparse_attention_config"]["sparse_topk_blocks"] = 8;
         });
       }},
      {"attention mode", [](const std::string&) {}, AttentionMode::kDense},
  };
}

TEST(FingerprintMatrixTest, AServerThatDiffersInOneFieldRefusesTheCacheAndKeepsItsOwnApart) {
  testing::TemporaryDirectory original;
  testing::WriteRandomModel({}, original.path());
  testing::TemporaryDirectory data;
  const auto open = [&](const std::string& model, AttentionMode attention) {
    auto engine = Engine::Open({.data_dir = data / "data",
                                .model_dir = model,
                                .attention = attention,
                                .pool_bytes = 256 << 20,
                                .index_bytes = 64 << 20});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  };
  const auto ask = [](Engine& engine, const std::string& generation) {
    return testing::AskAndWait(engine, {.target = {.corpus = kCorpus, .generation = generation},
                                        .question = "where is the corden",
                                        .max_tokens = 6});
  };
  std::string generation, text;
  {
    const auto engine = open(original.path(), AttentionMode::kSparse);
    testing::Upload(*engine, kCorpus, "text", testing::RandomText(700, 5));
    ASSERT_TRUE(testing::IngestAndWait(*engine, kCorpus).error.ok());
    generation = engine->GetCorpus(kCorpus)->current_generation;
    text = ask(*engine, generation)->text;
  }
  for (const Variant& variant : Variants()) {
    SCOPED_TRACE(variant.name);
    testing::TemporaryDirectory model;
    std::filesystem::copy(original.path(), model.path(),
                          std::filesystem::copy_options::recursive |
                              std::filesystem::copy_options::overwrite_existing);
    variant.change(model.path());
    {
      const auto engine = open(model.path(), variant.attention);
      EXPECT_EQ(ReasonOf(ask(*engine, generation).status()), "MODEL_MISMATCH");
      // Its own ingest of the same documents takes nothing from the other's blocks.
      const Operation ingest = testing::IngestAndWait(*engine, kCorpus);
      ASSERT_TRUE(ingest.error.ok()) << ingest.error;
      EXPECT_EQ(ingest.tokens_cached, 0);
      EXPECT_TRUE(ask(*engine, "").ok());
    }
    const auto engine = open(original.path(), AttentionMode::kSparse);
    EXPECT_EQ(ReasonOf(ask(*engine, "").status()), "MODEL_MISMATCH");
    const auto answer = ask(*engine, generation);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->text, text);
    EXPECT_EQ(answer->usage.corpus_prefill_tokens, 0);
  }
}

// What no model directory can change: blocks of another program are not found under its hashes.
TEST(FingerprintMatrixTest, EveryInputNamesOtherBlocks) {
  testing::TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());
  std::ifstream file(model.path() + "/config.json");
  const std::string json((std::istreambuf_iterator<char>(file)), {});
  const auto config = ParseModelConfig(json);
  ASSERT_TRUE(config.ok()) << config.status();
  FingerprintInputs base;
  base.weights.fill(7);
  base.tokenizer = "{}";
  base.config = &*config;
  base.attention = config->attention;
  base.block_tokens = 128;
  base.selection_blocks = 16;
  base.prompt_layout = "lectern-qa-1";
  base.text_extractor_version = 1;
  std::vector<std::pair<std::string, FingerprintInputs>> changed(8, {"", base});
  changed[0].first = "K/V dtype";
  changed[0].second.kv_dtype = "fp8";
  changed[1].first = "index key dtype";
  changed[1].second.index_key_dtype = "int8";
  changed[2].first = "block size";
  changed[2].second.block_tokens = 64;
  changed[3].first = "selection budget";
  changed[3].second.selection_blocks = 8;
  changed[4].first = "layout version";
  changed[4].second.prompt_layout = "lectern-qa-2";
  changed[5].first = "extractor version";
  changed[5].second.text_extractor_version = 2;
  changed[6].first = "RoPE tables";
  changed[6].second.rope_tables = "hf-fp32";
  changed[7].first = "weights";
  changed[7].second.weights[31] ^= 1;

  const std::vector<int32_t> tokens(1000, 42);
  storage::Digest secret{};
  const auto hashes = [&](const FingerprintInputs& inputs, uint64_t tenant) {
    return PrefixChain(ModelFingerprint(inputs), secret, tenant).Blocks(tokens);
  };
  const std::vector<storage::BlockHash> own = hashes(base, 1);
  EXPECT_EQ(hashes(base, 1), own);
  for (const auto& [name, inputs] : changed) {
    const std::vector<storage::BlockHash> others = hashes(inputs, 1);
    for (size_t i = 0; i < own.size(); ++i) EXPECT_NE(others[i], own[i]) << name;
  }
  // The tenant's salt is one more.
  EXPECT_NE(hashes(base, 2)[0], own[0]);
}

}  // namespace
}  // namespace lectern::engine
