// A model directory with random weights of a fixed seed and the bundled tokenizer: small enough to
// prefill thousands of tokens in a test, large enough that selection is at work.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lectern::testing {

struct RandomModel {
  int layers = 2;
  int hidden = 64;
  int intermediate = 96;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 32;
  int index_dim = 16;
  int rotary_dim = 16;
  bool gemma_norm = true;
  int64_t max_positions = 1 << 20;
  std::vector<int> sparse_layers;  // [layers] of 0 or 1; empty: all sparse
  uint64_t seed = 1;
};

// Writes config.json, tokenizer.json and model.safetensors into `directory`, which is created.
void WriteRandomModel(const RandomModel& model, const std::string& directory);

}  // namespace lectern::testing
