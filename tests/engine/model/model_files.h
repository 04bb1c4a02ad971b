// Writes model directories for tests: a small one that loads, to be spoiled in one place at a time.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace lectern::engine {

// A directory that goes away with the object.
class TempDirectory {
 public:
  TempDirectory() {
    std::string path = (std::filesystem::temp_directory_path() / "lectern_test_XXXXXX").string();
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

struct TestTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

using TestTensors = std::map<std::string, TestTensor>;

// The bytes of a safetensors file; `edit` may spoil the header before it is written.
inline std::string SafetensorsBytes(const TestTensors& tensors,
                                    const std::function<void(nlohmann::json&)>& edit = nullptr) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  if (edit) edit(header);
  std::string text = header.dump();
  while (text.size() % 8 != 0) text += ' ';
  const uint64_t size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof(size));
  return bytes + text + data;
}

inline nlohmann::json SmallConfig() {
  return {{"model_type", "lectern_msa"},
          {"architectures", {"LecternMsaForCausalLM"}},
          {"vocab_size", 24},
          {"hidden_size", 32},
          {"intermediate_size", 40},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"rms_norm_eps", 1e-6},
          {"use_gemma_norm", true},
          {"use_qk_norm", true},
          {"qk_norm_type", "per_head"},
          {"rope_theta", 10000.0},
          {"rotary_dim", 8},
          {"max_position_embeddings", 4096},
          {"tie_word_embeddings", true},
          {"hidden_act", "silu"},
          {"torch_dtype", "bfloat16"},
          {"bos_token_id", 1},
          {"eos_token_id", 6},
          {"pad_token_id", 0},
          {"prompt_layout", "lectern-qa-1"},
          {"sparse_attention_config",
           {{"use_sparse_attention", true},
            {"sparse_index_dim", 8},
            {"sparse_num_index_heads", 2},
            {"sparse_topk_blocks", 16},
            {"sparse_block_size", 128},
            {"sparse_score_type", "max"},
            {"sparse_init_block", 0},
            {"sparse_local_block", 1},
            {"sparse_attention_freq", {0, 1}}}}};
}

inline TestTensor RandomBf16(const std::vector<int64_t>& shape, std::mt19937& random) {
  TestTensor tensor{"BF16", shape, ""};
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  for (int64_t i = 0; i < count; ++i) {
    const float value = std::ldexp(static_cast<float>(static_cast<int>(random() % 255) - 127), -9);
    const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    tensor.bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  }
  return tensor;
}

// The tensors of SmallConfig(): layer 0 dense, layer 1 sparse.
inline TestTensors SmallTensors(const std::string& prefix = "") {
  std::mt19937 random(1);
  TestTensors tensors;
  const auto put = [&](const std::string& name, const std::vector<int64_t>& shape) {
    tensors[prefix + name] = RandomBf16(shape, random);
  };
  put("model.embed_tokens.weight", {24, 32});
  put("model.norm.weight", {32});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string base = "model.layers." + std::to_string(layer) + ".";
    put(base + "input_layernorm.weight", {32});
    put(base + "post_attention_layernorm.weight", {32});
    put(base + "self_attn.q_proj.weight", {64, 32});
    put(base + "self_attn.k_proj.weight", {32, 32});
    put(base + "self_attn.v_proj.weight", {32, 32});
    put(base + "self_attn.o_proj.weight", {32, 64});
    put(base + "self_attn.q_norm.weight", {16});
    put(base + "self_attn.k_norm.weight", {16});
    put(base + "mlp.gate_proj.weight", {40, 32});
    put(base + "mlp.up_proj.weight", {40, 32});
    put(base + "mlp.down_proj.weight", {32, 40});
    if (layer == 0) continue;
    put(base + "self_attn.index_q_proj.weight", {16, 32});
    put(base + "self_attn.index_k_proj.weight", {8, 32});
    put(base + "self_attn.index_q_norm.weight", {8});
    put(base + "self_attn.index_k_norm.weight", {8});
  }
  return tensors;
}

inline void WriteModel(const TempDirectory& directory, const nlohmann::json& config,
                       const TestTensors& tensors) {
  WriteFile(directory.File("config.json"), config.dump(2));
  WriteFile(directory.File("model.safetensors"), SafetensorsBytes(tensors));
}

}  // namespace lectern::engine
