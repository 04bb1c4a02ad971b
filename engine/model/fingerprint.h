// What makes two caches the same: everything that can change one bit of a stored key or value.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/checkpoint.h"
#include "engine/model/config.h"

namespace lectern::engine {

using Sha256Digest = std::array<uint8_t, 32>;

std::string ToHex(const Sha256Digest& digest);  // 64 lower-case digits

// SHA-256 of the mapped safetensors files' bytes: of the list of (file name, size, SHA-256 of the
// file), in order of name. One thread a file, at most `threads` at a time. Hashed anew at each
// call: a path, a size and a time do not prove that bytes are the same.
Sha256Digest HashWeights(const SafetensorsSet& files, int threads);

struct FingerprintInputs {
  Sha256Digest weights{};      // HashWeights
  std::string_view tokenizer;  // the bytes of tokenizer.json
  const ModelConfig* config = nullptr;
  // How each layer attends in this process: config->attention, or all dense under
  // --attention=dense. One entry a layer.
  std::vector<LayerAttention> attention;
  int32_t block_tokens = 0;      // tokens of a stored block
  int32_t selection_blocks = 0;  // blocks a query keeps during prefill, the own one among them;
                                 // ignored (hashed as 0) if no layer is sparse
  // How the RoPE tables were made: "fp64" (ours) or "hf-fp32" (parity tests).
  std::string_view rope_tables = "fp64";
  std::string_view kv_dtype = "bf16";
  std::string_view index_key_dtype = "bf16";
  std::string_view prompt_layout;  // kPromptLayoutName
  uint32_t text_extractor_version = 0;
};

// SHA-256 over the inputs, each named and length-prefixed under a version of its own.
Sha256Digest ModelFingerprint(const FingerprintInputs& inputs);

// The list that is hashed, one "name: value" a line, for `lectern stats` and for telling why two
// fingerprints differ.
std::string DescribeFingerprint(const FingerprintInputs& inputs);

}  // namespace lectern::engine
