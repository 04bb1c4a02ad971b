#include "tests/support/stored_cache.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "storage/store.h"
#include "tests/support/byte_digest.h"

namespace lectern::testing {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "stored cache: %s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

std::vector<std::string> StoredCacheSamples(const std::string& data_dir,
                                            const std::string& tenant_id,
                                            const std::string& corpus_id) {
  constexpr size_t kSampleBytes = 48;
  auto store = Must(storage::Store::Open({.directory = data_dir}));
  const auto tenant = Must(store->catalog().GetTenant(tenant_id));
  const auto corpus = Must(store->catalog().GetCorpus(tenant.uid, corpus_id));
  const auto generation = Must(store->catalog().GetGeneration(corpus.current_generation));
  const storage::GenerationContext& context = generation.contexts[0];
  const storage::Geometry& geometry = generation.geometry;
  auto reader = Must(
      store->blocks().OpenContext(tenant.uid, context.segments, context.token_count, geometry));
  std::vector<std::string> samples;
  const auto add = [&](const std::vector<std::byte>& bytes) {
    // Far from the first tokens: those of the layout are the same in every corpus.
    samples.emplace_back(
        reinterpret_cast<const char*>(bytes.data()) + bytes.size() - 2 * kSampleBytes,
        kSampleBytes);
  };
  // The first layer's depend on one token each, and other corpora have those tokens, too.
  for (uint16_t layer = 1; layer < geometry.layers; ++layer) {
    for (const uint32_t block : {0u, reader->block_count() - 1}) {
      const uint32_t tokens = Must(reader->Block(block)).tokens;
      std::vector<std::byte> kv(geometry.KvBytes(tokens));
      const absl::Status status = reader->ReadKv(
          {.layer = layer, .block = block, .out = kv.data(), .token_capacity = tokens});
      if (!status.ok()) Must<int>(status);
      add(kv);
    }
    if (geometry.indexed[layer] == 0) continue;
    std::vector<std::byte> keys(geometry.IndexBytes(static_cast<uint32_t>(context.token_count)));
    const absl::Status status = reader->ReadIndexKeys(layer, 0, reader->block_count(), keys);
    if (!status.ok()) Must<int>(status);
    add(keys);
  }
  return samples;
}

std::string FileWith(const std::string& directory, const std::string& bytes) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)), {});
    if (content.find(bytes) != std::string::npos) return entry.path();
  }
  return "";
}

std::string StoredCacheDigest(const std::string& data_dir, const std::string& corpus_id) {
  auto store = Must(storage::Store::Open({.directory = data_dir}));
  const auto tenant = Must(store->catalog().GetTenant("default"));
  const auto corpus = Must(store->catalog().GetCorpus(tenant.uid, corpus_id));
  const auto generation = Must(store->catalog().GetGeneration(corpus.current_generation));
  const storage::Geometry& geometry = generation.geometry;
  ByteDigest digest;
  for (const storage::GenerationContext& context : generation.contexts) {
    auto reader = Must(
        store->blocks().OpenContext(tenant.uid, context.segments, context.token_count, geometry));
    digest.Add(&context.token_count, sizeof(context.token_count));
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      for (uint32_t block = 0; block < reader->block_count(); ++block) {
        const uint32_t tokens = Must(reader->Block(block)).tokens;
        std::vector<std::byte> kv(geometry.KvBytes(tokens));
        const absl::Status status = reader->ReadKv(
            {.layer = layer, .block = block, .out = kv.data(), .token_capacity = tokens});
        if (!status.ok()) Must<int>(status);
        digest.Add(kv.data(), kv.size());
      }
      if (geometry.indexed[layer] == 0) continue;
      std::vector<std::byte> keys(geometry.IndexBytes(static_cast<uint32_t>(context.token_count)));
      const absl::Status status = reader->ReadIndexKeys(layer, 0, reader->block_count(), keys);
      if (!status.ok()) Must<int>(status);
      digest.Add(keys.data(), keys.size());
    }
  }
  return digest.Hex();
}

}  // namespace lectern::testing
