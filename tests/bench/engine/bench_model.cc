#include "bench_model.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "bench_report.h"
#include "kernels/bf16/bf16.h"

namespace lectern::engine {
namespace {

constexpr uint64_t kSeed = 20261124;
constexpr int kLayers = 8;
constexpr int64_t kHidden = 4096;
constexpr int64_t kIntermediate = 12288;
constexpr int64_t kHeads = 64;
constexpr int64_t kKvHeads = 4;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kIndexDim = 128;
constexpr int64_t kVocabulary = 32768;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  double deviation;
};

int64_t Elements(const Tensor& tensor) {
  int64_t count = 1;
  for (const int64_t n : tensor.shape) count *= n;
  return count;
}

std::vector<Tensor> Tensors() {
  std::vector<Tensor> tensors = {{"model.embed_tokens.weight", {kVocabulary, kHidden}, 0.5},
                                 {"model.norm.weight", {kHidden}, 0.1}};
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
    tensors.push_back({name, {out, in}, 1.0 / std::sqrt(static_cast<double>(in))});
  };
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const std::string attention = prefix + "self_attn.";
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"})
      tensors.push_back({prefix + norm, {kHidden}, 0.1});
    matrix(attention + "q_proj.weight", kHeads * kHeadDim, kHidden);
    matrix(attention + "k_proj.weight", kKvHeads * kHeadDim, kHidden);
    matrix(attention + "v_proj.weight", kKvHeads * kHeadDim, kHidden);
    matrix(attention + "o_proj.weight", kHidden, kHeads * kHeadDim);
    matrix(attention + "index_q_proj.weight", kKvHeads * kIndexDim, kHidden);
    matrix(attention + "index_k_proj.weight", kIndexDim, kHidden);
    for (const char* norm : {"q_norm.weight", "k_norm.weight"})
      tensors.push_back({attention + norm, {kHeadDim}, 0.1});
    for (const char* norm : {"index_q_norm.weight", "index_k_norm.weight"})
      tensors.push_back({attention + norm, {kIndexDim}, 0.1});
    matrix(prefix + "mlp.gate_proj.weight", kIntermediate, kHidden);
    matrix(prefix + "mlp.up_proj.weight", kIntermediate, kHidden);
    matrix(prefix + "mlp.down_proj.weight", kHidden, kIntermediate);
  }
  return tensors;
}

// 64 bits that depend on all of `x` (SplitMix64, Steele, Lea and Flood 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

void WriteConfig(const std::string& directory, const std::string& bundled) {
  nlohmann::json config = nlohmann::json::parse(std::ifstream(bundled + "/config.json"));
  config["vocab_size"] = kVocabulary;
  config["hidden_size"] = kHidden;
  config["intermediate_size"] = kIntermediate;
  config["num_hidden_layers"] = kLayers;
  config["num_attention_heads"] = kHeads;
  config["num_key_value_heads"] = kKvHeads;
  config["head_dim"] = kHeadDim;
  config["rotary_dim"] = kHeadDim / 2;
  nlohmann::json& sparse = config["sparse_attention_config"];
  sparse["sparse_index_dim"] = kIndexDim;
  sparse["sparse_num_index_heads"] = kKvHeads;
  sparse["sparse_attention_freq"] = std::vector<int>(kLayers, 1);
  std::ofstream(directory + "/config.json") << config.dump(2);
}

}  // namespace

void WriteBenchModel(const std::string& directory) {
  const std::string bundled = LECTERN_SOURCE_DIR "/models/default";
  std::filesystem::create_directories(directory);
  std::filesystem::copy_file(bundled + "/tokenizer.json", directory + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  WriteConfig(directory, bundled);

  const std::vector<Tensor> tensors = Tensors();
  nlohmann::json header;
  int64_t end = 0;
  for (const Tensor& tensor : tensors) {
    const int64_t begin = end;
    end += 2 * Elements(tensor);
    header[tensor.name] = {
        {"dtype", "BF16"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::ofstream file(directory + "/model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), sizeof(size));
  file << text;

  // Normal numbers, picked from a table by a hash of their place: a second a gigabyte.
  std::mt19937_64 random(kSeed);
  std::normal_distribution<float> normal;
  std::vector<float> table(1 << 16);
  for (float& x : table) x = normal(random);
  std::vector<kernels::Bf16> numbers;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto deviation = static_cast<float>(tensors[t].deviation);
    std::vector<kernels::Bf16> scaled(table.size());
    for (size_t i = 0; i < table.size(); ++i) scaled[i] = kernels::ToBf16(table[i] * deviation);
    numbers.resize(static_cast<size_t>(Elements(tensors[t])));
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = scaled[Mix(kSeed + (t << 40) + i) >> 48];
    file.write(reinterpret_cast<const char*>(numbers.data()),
               static_cast<std::streamsize>(numbers.size() * sizeof(kernels::Bf16)));
  }
  file.close();
  if (!file) Must(absl::UnavailableError(fmt::format("{} cannot be written", directory)));
}

}  // namespace lectern::engine
