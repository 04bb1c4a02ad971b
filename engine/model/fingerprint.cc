#include "engine/model/fingerprint.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "engine/error/check.h"

namespace lectern::engine {
namespace {

// Raise it when the list below changes its meaning: every fingerprint changes with it.
constexpr uint32_t kFingerprintVersion = 1;

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    LECTERN_CHECK(context_ != nullptr &&
                  EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void Add(const void* data, size_t size) {
    LECTERN_CHECK(EVP_DigestUpdate(context_.get(), data, size) == 1);
  }
  // Length first, so that no two lists of strings have the same bytes.
  void AddString(std::string_view text) {
    const uint64_t size = text.size();
    Add(&size, sizeof(size));
    Add(text.data(), text.size());
  }
  Sha256Digest Finish() {
    Sha256Digest digest;
    unsigned size = 0;
    LECTERN_CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1 &&
                  size == digest.size());
    return digest;
  }

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

Sha256Digest HashBytes(const void* data, size_t size) {
  Sha256 hash;
  hash.Add(data, size);
  return hash.Finish();
}

std::string FileName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::vector<std::pair<std::string, std::string>> NamedInputs(const FingerprintInputs& inputs) {
  LECTERN_CHECK(inputs.config != nullptr);
  LECTERN_CHECK(inputs.attention.size() == static_cast<size_t>(inputs.config->num_layers));
  std::string attention;
  for (const LayerAttention layer : inputs.attention)
    attention += layer == LayerAttention::kSparse ? 's' : 'd';
  const bool sparse = attention.find('s') != std::string::npos;
  return {
      {"fingerprint_version", std::to_string(kFingerprintVersion)},
      {"weights_sha256", ToHex(inputs.weights)},
      {"tokenizer_sha256", ToHex(HashBytes(inputs.tokenizer.data(), inputs.tokenizer.size()))},
      {"config", inputs.config->CanonicalJson()},
      {"rope_tables", std::string(inputs.rope_tables)},
      {"kv_dtype", std::string(inputs.kv_dtype)},
      {"index_key_dtype", std::string(inputs.index_key_dtype)},
      {"block_tokens", std::to_string(inputs.block_tokens)},
      {"layer_attention", attention},
      {"selection_blocks", std::to_string(sparse ? inputs.selection_blocks : 0)},
      {"prompt_layout", std::string(inputs.prompt_layout)},
      {"text_extractor_version", std::to_string(inputs.text_extractor_version)},
  };
}

}  // namespace

std::string ToHex(const Sha256Digest& digest) {
  std::string hex;
  for (const uint8_t byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

Sha256Digest HashWeights(const SafetensorsSet& files, int threads) {
  const auto all = files.files();
  std::vector<Sha256Digest> digests(all.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < all.size(); i = next++) {
      digests[i] = HashBytes(all[i]->bytes().data(), all[i]->bytes().size());
    }
  };
  std::vector<std::thread> helpers;
  const size_t wanted = std::min(all.size(), static_cast<size_t>(std::max(1, threads)));
  for (size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  Sha256 hash;
  for (size_t i = 0; i < all.size(); ++i) {
    hash.AddString(FileName(all[i]->path()));
    const uint64_t size = all[i]->bytes().size();
    hash.Add(&size, sizeof(size));
    hash.Add(digests[i].data(), digests[i].size());
  }
  return hash.Finish();
}

Sha256Digest ModelFingerprint(const FingerprintInputs& inputs) {
  Sha256 hash;
  for (const auto& [name, value] : NamedInputs(inputs)) {
    hash.AddString(name);
    hash.AddString(value);
  }
  return hash.Finish();
}

std::string DescribeFingerprint(const FingerprintInputs& inputs) {
  std::string lines;
  for (const auto& [name, value] : NamedInputs(inputs))
    lines += fmt::format("{}: {}\n", name, value);
  return lines;
}

}  // namespace lectern::engine
