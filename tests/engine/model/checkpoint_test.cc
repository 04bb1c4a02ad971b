#include "engine/model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/error/error.h"
#include "engine/error/reason.h"
#include "tests/engine/model/model_files.h"

namespace lectern::engine {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kQ[] = "model.layers.1.self_attn.q_proj.weight";
constexpr char kNorm[] = "model.layers.1.input_layernorm.weight";

absl::StatusOr<std::unique_ptr<Checkpoint>> Load(const json& config, const TestTensors& tensors) {
  TempDirectory directory;
  WriteModel(directory, config, tensors);
  return Checkpoint::Load(directory.path());  // a mapping outlives the file's name
}

void ExpectRefused(const json& config, const TestTensors& tensors, std::string_view reason,
                   const std::string& tensor) {
  const absl::Status status = Load(config, tensors).status();
  EXPECT_EQ(ReasonOf(status), reason) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(tensor));
  EXPECT_EQ(MetadataOf(status)["tensor"], tensor);
}

template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

float Value(uint16_t bf16) { return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16); }

TEST(Checkpoint, MapsBf16InPlaceUnderEitherPrefix) {
  for (const std::string prefix : {"", "language_model."}) {
    TestTensors tensors = SmallTensors(prefix);
    tensors["vision_tower.patch.weight"] = {"U8", {3}, "abc"};
    const auto checkpoint = Load(SmallConfig(), tensors);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const Checkpoint& c = **checkpoint;
    ASSERT_EQ(c.layers().size(), 2u);
    const Bf16Matrix& q = c.layers()[1].q;
    EXPECT_EQ(q.rows, 64);
    EXPECT_EQ(q.cols, 32);
    const std::string& stored = tensors[prefix + kQ].bytes;
    EXPECT_EQ(std::memcmp(q.data, stored.data(), stored.size()), 0);
    EXPECT_EQ(q.row(3).data(), q.data + 3 * 32);
    EXPECT_TRUE(c.layers()[0].index_q.empty());
    EXPECT_EQ(c.layers()[1].index_q.rows, 16);
    EXPECT_EQ(c.layers()[1].index_k_norm.size(), 8u);
    EXPECT_EQ(c.lm_head().data, c.embedding().data);
    uint16_t first = 0;
    std::memcpy(&first, tensors[prefix + kNorm].bytes.data(), 2);
    EXPECT_EQ(c.layers()[1].input_norm[0], Value(first));
    EXPECT_EQ(c.stats().ignored_tensors, 1);
    EXPECT_EQ(c.stats().rounded_tensors, 0);
    EXPECT_GT(c.stats().mapped_bytes, 0);
  }
}

TEST(Checkpoint, MisalignedDataIsCopied) {
  TestTensors tensors = SmallTensors();
  tensors["aaa.odd"] = {
      "I8", {1}, "x"};  // first in the file: everything after it is at odd addresses
  const auto checkpoint = Load(SmallConfig(), tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->stats().mapped_bytes, 0);
  EXPECT_EQ(std::memcmp((*checkpoint)->layers()[1].q.data, tensors[kQ].bytes.data(),
                        tensors[kQ].bytes.size()),
            0);
}

TEST(Checkpoint, RoundsF32AndF16ToNearestEven) {
  TestTensors tensors = SmallTensors();
  std::vector<float> q(64 * 32, 1.0f);
  q[0] = std::bit_cast<float>(0x3f808000u);  // between 1 and the next: to the even 1
  q[1] = std::bit_cast<float>(0x3f818000u);  // to the even one above
  q[2] = std::bit_cast<float>(0x3f808001u);  // above the middle
  q[3] = -std::bit_cast<float>(0x3f807fffu);
  tensors[kQ] = {"F32", {64, 32}, BytesOf(q)};
  std::vector<uint16_t> k(32 * 32, 0x3c00);  // 1.0
  k[0] = 0x0001;                             // 2^-24, subnormal in F16
  k[1] = 0xbc01;                             // -(1 + 2^-10): rounds to -1
  tensors["model.layers.1.self_attn.k_proj.weight"] = {"F16", {32, 32}, BytesOf(k)};
  tensors[kNorm] = {"F16", {32}, BytesOf(std::vector<uint16_t>(32, 0x3c01))};
  const auto checkpoint = Load(SmallConfig(), tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const LayerWeights& layer = (*checkpoint)->layers()[1];
  EXPECT_EQ(layer.q.data[0], 0x3f80);
  EXPECT_EQ(layer.q.data[1], 0x3f82);
  EXPECT_EQ(layer.q.data[2], 0x3f81);
  EXPECT_EQ(layer.q.data[3], 0xbf80);
  EXPECT_EQ(Value(layer.k.data[0]), std::ldexp(1.0f, -24));
  EXPECT_EQ(Value(layer.k.data[1]), -1.0f);
  EXPECT_EQ(layer.input_norm[0], 1.0f + std::ldexp(1.0f, -10));  // gains keep fp32
  EXPECT_EQ((*checkpoint)->stats().rounded_tensors, 2);
  EXPECT_EQ((*checkpoint)->stats().rounded_values, 5);
}

TEST(Checkpoint, ExpandsInt8Exactly) {
  TestTensors tensors = SmallTensors();
  std::vector<int8_t> weights(64 * 32);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<int8_t>(i % 256 - 128);
  std::vector<float> scales(64);
  for (int r = 0; r < 64; ++r) scales[r] = std::ldexp(1.0f, r % 20 - 15);
  tensors[kQ] = {"I8", {64, 32}, BytesOf(weights)};
  tensors[std::string(kQ) + "_scale"] = {"F32", {64}, BytesOf(scales)};
  std::vector<int8_t> embedding(24 * 32, 3);
  tensors["model.embed_tokens.weight"] = {"I8", {24, 32}, BytesOf(embedding)};
  tensors["model.embed_tokens.weight_scale"] = {"F32", {24}, BytesOf(std::vector<float>(24, 0.5f))};
  const auto checkpoint = Load(SmallConfig(), tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const Bf16Matrix& q = (*checkpoint)->layers()[1].q;
  for (int r = 0; r < 64; ++r) {
    for (int c = 0; c < 32; ++c) ASSERT_EQ(Value(q.row(r)[c]), weights[r * 32 + c] * scales[r]);
  }
  EXPECT_EQ(Value((*checkpoint)->embedding().data[5]), 1.5f);
  EXPECT_EQ((*checkpoint)->stats().int8_tensors, 2);
}

TEST(Checkpoint, RefusesScalesThatLoseSomething) {
  for (const float scale : {0.0f, -0.5f, 0.3f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(), 1e-40f}) {
    TestTensors tensors = SmallTensors();
    tensors[kQ] = {"I8", {64, 32}, std::string(64 * 32, '\1')};
    std::vector<float> scales(64, 0.25f);
    scales[63] = scale;
    tensors[std::string(kQ) + "_scale"] = {"F32", {64}, BytesOf(scales)};
    ExpectRefused(SmallConfig(), tensors, reason::kTensorValue, std::string(kQ) + "_scale");
  }
  TestTensors tensors = SmallTensors();
  tensors[kQ] = {"I8", {64, 32}, std::string(64 * 32, '\1')};
  ExpectRefused(SmallConfig(), tensors, reason::kTensorMissing, std::string(kQ) + "_scale");
  tensors[std::string(kQ) + "_scale"] = {"BF16", {64}, std::string(128, '\0')};
  ExpectRefused(SmallConfig(), tensors, reason::kTensorDtype, std::string(kQ) + "_scale");
}

TEST(Checkpoint, EveryTensorIsNeeded) {
  for (const auto& [name, tensor] : SmallTensors()) {
    TestTensors tensors = SmallTensors();
    tensors.erase(name);
    ExpectRefused(SmallConfig(), tensors, reason::kTensorMissing, name);
  }
}

TEST(Checkpoint, EveryShapeIsChecked) {
  for (const auto& [name, tensor] : SmallTensors()) {
    TestTensors tensors = SmallTensors();
    tensors[name].shape.push_back(1);
    ExpectRefused(SmallConfig(), tensors, reason::kTensorShape, name);
  }
  TestTensors tensors = SmallTensors();
  tensors[kQ].shape = {32, 64};
  const absl::Status status = Load(SmallConfig(), tensors).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("[64, 32]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("BF16 [32, 64]"));
}

TEST(Checkpoint, RefusesOtherDtypesAndValues) {
  TestTensors tensors = SmallTensors();
  tensors[kQ] = {"U8", {64, 32}, std::string(64 * 32, '\1')};
  ExpectRefused(SmallConfig(), tensors, reason::kTensorDtype, kQ);
  tensors = SmallTensors();
  tensors[kNorm] = {"I8", {32}, std::string(32, '\1')};
  ExpectRefused(SmallConfig(), tensors, reason::kTensorDtype, kNorm);
  tensors = SmallTensors();
  tensors[kQ].bytes[101] = '\x7f';
  tensors[kQ].bytes[100] = '\xc0';  // a NaN
  ExpectRefused(SmallConfig(), tensors, reason::kTensorValue, kQ);
  tensors = SmallTensors();
  tensors[kQ] = {"F32", {64, 32}, BytesOf(std::vector<float>(64 * 32, 3.4e38f))};  // beyond bf16
  ExpectRefused(SmallConfig(), tensors, reason::kTensorValue, kQ);
  tensors = SmallTensors();
  tensors[kNorm] = {
      "F32", {32}, BytesOf(std::vector<float>(32, std::numeric_limits<float>::infinity()))};
  ExpectRefused(SmallConfig(), tensors, reason::kTensorValue, kNorm);
}

TEST(Checkpoint, ALostSparseSectionNeverRunsDense) {
  json config = SmallConfig();
  config.erase("sparse_attention_config");
  const absl::Status lost = Load(config, SmallTensors()).status();
  EXPECT_EQ(ReasonOf(lost), reason::kSparseConfigMissing) << lost;
  config = SmallConfig();
  config["sparse_attention_config"]["use_sparse_attention"] = false;
  EXPECT_EQ(ReasonOf(Load(config, SmallTensors()).status()), reason::kSparseConfigMissing);
  // Without index weights the same configuration is an ordinary dense model.
  TestTensors dense = SmallTensors();
  std::erase_if(dense,
                [](const auto& entry) { return entry.first.find("index_") != std::string::npos; });
  const auto checkpoint = Load(config, dense);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_FALSE((*checkpoint)->config().any_sparse());
}

TEST(Checkpoint, TensorsThatTheModelDoesNotUseAreErrors) {
  for (const char* name :
       {"model.layers.1.self_attn.q_proj.bias", "model.layers.2.input_layernorm.weight",
        "model.layers.1.self_attn.q_proj.weight_scale", "lm_head.bias"}) {
    TestTensors tensors = SmallTensors();
    tensors[name] = {"BF16", {1}, std::string(2, '\0')};
    ExpectRefused(SmallConfig(), tensors, reason::kTensorUnexpected, name);
  }
  TestTensors tensors = SmallTensors();
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {1}, std::string(4, '\0')};
  EXPECT_TRUE(Load(SmallConfig(), tensors).ok());
}

TEST(Checkpoint, HeadsTiedAndUntied) {
  json untied = SmallConfig();
  untied["tie_word_embeddings"] = false;
  ExpectRefused(untied, SmallTensors(), reason::kTensorMissing, "lm_head.weight");
  TestTensors tensors = SmallTensors();
  std::mt19937 random(99);
  tensors["lm_head.weight"] = RandomBf16({24, 32}, random);
  const auto checkpoint = Load(untied, tensors);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(std::memcmp((*checkpoint)->lm_head().data, tensors["lm_head.weight"].bytes.data(),
                        24 * 32 * 2),
            0);
  ExpectRefused(SmallConfig(), tensors, reason::kTensorUnexpected, "lm_head.weight");
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"];
  EXPECT_TRUE(Load(SmallConfig(), tensors).ok());
}

TEST(Checkpoint, TruncatedAndMissingFilesAreErrors) {
  TempDirectory directory;
  EXPECT_EQ(ReasonOf(Checkpoint::Load(directory.path()).status()), reason::kModelFileUnreadable);
  WriteModel(directory, SmallConfig(), SmallTensors());
  ASSERT_TRUE(Checkpoint::Load(directory.path()).ok());
  const std::string whole = SafetensorsBytes(SmallTensors());
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    WriteFile(directory.File("model.safetensors"), whole.substr(0, size));
    EXPECT_EQ(ReasonOf(Checkpoint::Load(directory.path()).status()), reason::kSafetensorsBroken)
        << size;
  }
  std::filesystem::remove(directory.File("model.safetensors"));
  EXPECT_EQ(ReasonOf(Checkpoint::Load(directory.path()).status()), reason::kModelFileUnreadable);
}

}  // namespace
}  // namespace lectern::engine
