#include "tests/support/random_model.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "kernels/bf16/bf16.h"

namespace lectern::testing {
namespace {

constexpr int kVocabulary = 8192;

class SafetensorsWriter {
 public:
  explicit SafetensorsWriter(uint64_t seed) : random_(seed) {}

  // Normal numbers of the given deviation, as bf16.
  void Add(const std::string& name, std::vector<int64_t> shape, double deviation, double mean = 0) {
    int64_t size = 1;
    for (const int64_t n : shape) size *= n;
    std::normal_distribution<double> normal(mean, deviation);
    const size_t begin = data_.size();
    data_.resize(begin + static_cast<size_t>(size) * 2);
    for (int64_t i = 0; i < size; ++i) {
      const kernels::Bf16 value = kernels::ToBf16(static_cast<float>(normal(random_)));
      std::memcpy(data_.data() + begin + i * 2, &value, 2);
    }
    header_[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }

  void Write(const std::string& path) const {
    std::string header = nlohmann::json(header_).dump();
    header.resize((header.size() + 7) / 8 * 8, ' ');
    const uint64_t size = header.size();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof(size));
    file << header;
    file.write(data_.data(), static_cast<std::streamsize>(data_.size()));
  }

 private:
  std::mt19937_64 random_;
  std::map<std::string, nlohmann::json> header_;
  std::string data_;
};

}  // namespace

void WriteRandomModel(const RandomModel& m, const std::string& directory) {
  std::filesystem::create_directories(directory);
  std::filesystem::copy_file(LECTERN_SOURCE_DIR "/models/default/tokenizer.json",
                             directory + "/tokenizer.json",
                             std::filesystem::copy_options::overwrite_existing);
  std::vector<int> sparse = m.sparse_layers;
  if (sparse.empty()) sparse.assign(static_cast<size_t>(m.layers), 1);
  const nlohmann::json config = {{"model_type", "lectern_msa"},
                                 {"architectures", {"LecternMsaForCausalLM"}},
                                 {"vocab_size", kVocabulary},
                                 {"hidden_size", m.hidden},
                                 {"intermediate_size", m.intermediate},
                                 {"num_hidden_layers", m.layers},
                                 {"num_attention_heads", m.heads},
                                 {"num_key_value_heads", m.kv_heads},
                                 {"head_dim", m.head_dim},
                                 {"rms_norm_eps", 1e-6},
                                 {"use_gemma_norm", m.gemma_norm},
                                 {"use_qk_norm", true},
                                 {"qk_norm_type", "per_head"},
                                 {"rope_theta", 1e6},
                                 {"rotary_dim", m.rotary_dim},
                                 {"max_position_embeddings", m.max_positions},
                                 {"tie_word_embeddings", true},
                                 {"hidden_act", "silu"},
                                 {"torch_dtype", "bfloat16"},
                                 {"bos_token_id", 1},
                                 {"eos_token_id", 6},
                                 {"pad_token_id", 0},
                                 {"prompt_layout", "lectern-qa-1"},
                                 {"sparse_attention_config",
                                  {{"use_sparse_attention", true},
                                   {"sparse_index_dim", m.index_dim},
                                   {"sparse_num_index_heads", m.kv_heads},
                                   {"sparse_topk_blocks", 16},
                                   {"sparse_block_size", 128},
                                   {"sparse_score_type", "max"},
                                   {"sparse_init_block", 0},
                                   {"sparse_local_block", 1},
                                   {"sparse_attention_freq", sparse}}}};
  std::ofstream(directory + "/config.json") << config.dump(2);

  SafetensorsWriter weights(m.seed);
  const double gain = m.gemma_norm ? 0.0 : 1.0;
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
    weights.Add(name, {out, in}, 1.0 / std::sqrt(static_cast<double>(in)));
  };
  // A wide spread of logits, so that greedy tokens are no near-ties.
  weights.Add("model.embed_tokens.weight", {kVocabulary, m.hidden}, 0.5);
  weights.Add("model.norm.weight", {m.hidden}, 0.1, gain);
  for (int layer = 0; layer < m.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const std::string attention = prefix + "self_attn.";
    weights.Add(prefix + "input_layernorm.weight", {m.hidden}, 0.1, gain);
    weights.Add(prefix + "post_attention_layernorm.weight", {m.hidden}, 0.1, gain);
    matrix(attention + "q_proj.weight", m.heads * m.head_dim, m.hidden);
    matrix(attention + "k_proj.weight", m.kv_heads * m.head_dim, m.hidden);
    matrix(attention + "v_proj.weight", m.kv_heads * m.head_dim, m.hidden);
    matrix(attention + "o_proj.weight", m.hidden, m.heads * m.head_dim);
    weights.Add(attention + "q_norm.weight", {m.head_dim}, 0.1, gain + 0.5);
    weights.Add(attention + "k_norm.weight", {m.head_dim}, 0.1, gain + 0.5);
    if (sparse[layer] != 0) {
      matrix(attention + "index_q_proj.weight", m.kv_heads * m.index_dim, m.hidden);
      matrix(attention + "index_k_proj.weight", m.index_dim, m.hidden);
      weights.Add(attention + "index_q_norm.weight", {m.index_dim}, 0.1, gain);
      weights.Add(attention + "index_k_norm.weight", {m.index_dim}, 0.1, gain);
    }
    matrix(prefix + "mlp.gate_proj.weight", m.intermediate, m.hidden);
    matrix(prefix + "mlp.up_proj.weight", m.intermediate, m.hidden);
    matrix(prefix + "mlp.down_proj.weight", m.hidden, m.intermediate);
  }
  weights.Write(directory + "/model.safetensors");
}

}  // namespace lectern::testing
