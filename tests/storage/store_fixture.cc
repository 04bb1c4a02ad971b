#include "store_fixture.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "storage/memory_store.h"
#include "storage/rocksdb_store.h"

namespace lectern::storage {
namespace {

constexpr uint8_t kIndexPart = 2;  // K and V are parts 0 and 1

uint64_t Mix(uint64_t value) {  // SplitMix64's finaliser
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

}  // namespace

ScratchDirectory::ScratchDirectory() {
  std::string pattern = std::filesystem::temp_directory_path() / "lectern_storage_XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TwinName(const testing::TestParamInfo<Twin>& info) {
  return info.param == Twin::kRocksDb ? "RocksDb" : "Memory";
}

std::unique_ptr<KeyValueStore> OpenTwin(Twin twin, const std::string& directory) {
  if (twin == Twin::kMemory) return NewMemoryStore();
  RocksDbOptions options;
  options.directory = directory + "/db";
  options.load_directory = directory + "/load";
  options.manifest_mark = directory + "/MANIFEST_MARK";
  return Must(OpenRocksDbStore(options));
}

size_t KeysIn(KeyValueStore& store, ColumnFamily family) {
  size_t keys = 0;
  for (auto cursor = store.NewCursor(family, "", "\xff"); cursor->Valid(); cursor->Next()) ++keys;
  return keys;
}

Geometry SmallGeometry() {
  Geometry geometry;
  geometry.layers = 3;
  geometry.kv_heads = 2;
  geometry.head_dim = 8;
  geometry.index_dim = 4;
  geometry.indexed = {1, 0, 1};
  return geometry;
}

std::byte* SampleCache::Row(uint64_t layer, uint64_t token, uint64_t head, uint64_t part,
                            uint64_t dims, std::byte* out) const {
  const uint64_t row = Mix(seed_ ^ Mix(layer ^ Mix(token ^ Mix(head * 131 + part * 17 + 7))));
  for (uint64_t dim = 0; dim < dims; ++dim, out += 2) {
    const auto element = static_cast<uint16_t>((row + dim * 0x9e3779b97f4a7c15ull) >> 40);
    std::memcpy(out, &element, 2);
  }
  return out;
}

std::vector<std::byte> SampleCache::Kv(uint16_t layer, uint32_t block, uint32_t tokens) const {
  std::vector<std::byte> bytes(geometry_.KvBytes(tokens));
  std::byte* out = bytes.data();
  for (uint64_t head = 0; head < geometry_.kv_heads; ++head) {
    for (uint64_t part = 0; part < 2; ++part) {
      for (uint64_t token = 0; token < tokens; ++token) {
        out =
            Row(layer, uint64_t{block} * kBlockTokens + token, head, part, geometry_.head_dim, out);
      }
    }
  }
  return bytes;
}

std::vector<std::byte> SampleCache::IndexKeys(uint16_t layer, uint64_t first_token,
                                              uint64_t end_token) const {
  std::vector<std::byte> bytes(
      geometry_.IndexBytes(static_cast<uint32_t>(end_token - first_token)));
  std::byte* out = bytes.data();
  for (uint64_t token = first_token; token < end_token; ++token) {
    out = Row(layer, token, 0, kIndexPart, geometry_.index_dim, out);
  }
  return bytes;
}

BlockHash SampleCache::Hash(uint32_t block, uint32_t tokens) const {
  BlockHash hash;
  for (size_t i = 0; i < hash.size(); i += 8) {
    const uint64_t word = Mix(seed_ ^ Mix(block * 1000003ull + tokens * 31 + i));
    std::memcpy(hash.data() + i, &word, 8);
  }
  return hash;
}

std::vector<BlockHash> SampleCache::FullHashes(uint64_t tokens) const {
  std::vector<BlockHash> hashes;
  for (uint32_t block = 0; block < tokens / kBlockTokens; ++block) {
    hashes.push_back(Hash(block, kBlockTokens));
  }
  return hashes;
}

BlockBatch SampleCache::Blocks(uint32_t first_block, uint64_t end_token) {
  Held& held = held_.emplace_back();
  for (uint64_t begin = uint64_t{first_block} * kBlockTokens; begin < end_token;
       begin += kBlockTokens) {
    const auto block = static_cast<uint32_t>(begin / kBlockTokens);
    const auto tokens = static_cast<uint32_t>(std::min<uint64_t>(kBlockTokens, end_token - begin));
    std::vector<const std::byte*>& kv = held.pointers.emplace_back();
    std::vector<const std::byte*>& index = held.pointers.emplace_back();
    for (uint16_t layer = 0; layer < geometry_.layers; ++layer) {
      // Handed over as the engine does: pages with room for a whole block.
      const std::vector<std::byte> tight = Kv(layer, block, tokens);
      const size_t part = tight.size() / (size_t{2} * geometry_.kv_heads);
      const size_t stride = geometry_.KvSliceBytes(kBlockTokens) / 2;
      std::vector<std::byte>& page =
          held.bytes.emplace_back(geometry_.KvBytes(kBlockTokens), std::byte{0xee});
      for (size_t i = 0; i < size_t{2} * geometry_.kv_heads; ++i) {
        std::memcpy(page.data() + i * stride, tight.data() + i * part, part);
      }
      kv.push_back(page.data());
      index.push_back(nullptr);
      if (geometry_.indexed[layer] != 0) {
        index.back() = held.bytes.emplace_back(IndexKeys(layer, begin, begin + tokens)).data();
      }
    }
    BlockInput& input = held.inputs.emplace_back();
    input.tokens = tokens;
    input.hash = Hash(block, tokens);
    input.kv = kv;
    input.index_keys = index;
  }
  BlockBatch batch;
  batch.first_block = first_block;
  batch.blocks = held.inputs;
  batch.provenance = "sample";
  return batch;
}

void ExpectContext(const ContextReader& reader, const SampleCache& cache) {
  const Geometry& geometry = cache.geometry();
  const uint64_t tokens = reader.token_count();
  std::vector<std::vector<std::byte>> all(geometry.layers);
  std::vector<std::byte*> out(geometry.layers, nullptr);
  for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
    if (geometry.indexed[layer] == 0) continue;
    const std::vector<std::byte> expected = cache.IndexKeys(layer, 0, tokens);
    std::vector<std::byte> read(expected.size());
    EXPECT_OK(reader.ReadIndexKeys(layer, 0, reader.block_count(), read));
    EXPECT_TRUE(read == expected) << "index keys of layer " << layer;
    all[layer].resize(expected.size());
    out[layer] = all[layer].data();
  }
  EXPECT_OK(reader.ReadAllIndexKeys(out));
  for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
    if (geometry.indexed[layer] == 0) continue;
    EXPECT_TRUE(all[layer] == cache.IndexKeys(layer, 0, tokens)) << "index keys of layer " << layer;
  }
  std::vector<KvRequest> requests;
  std::deque<std::vector<std::byte>> buffers;
  for (uint32_t block = 0; block < reader.block_count(); ++block) {
    const absl::StatusOr<BlockInfo> info = reader.Block(block);
    ASSERT_OK(info);
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      KvRequest& request = requests.emplace_back();
      request.layer = layer;
      request.block = block;
      request.token_capacity = info->tokens;
      request.out = buffers.emplace_back(geometry.KvBytes(info->tokens)).data();
    }
  }
  EXPECT_OK(reader.ReadKvBatch(requests));
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(buffers[i] ==
                cache.Kv(requests[i].layer, requests[i].block, requests[i].token_capacity))
        << "K/V of layer " << requests[i].layer << ", block " << requests[i].block;
  }
}

absl::Status CopyRound(Store* from, uint64_t corpus_uid, Store* to, uint64_t tenant_uid,
                       const SampleCache& there, const TransferRound& round,
                       std::unique_ptr<CorpusImport>* import, size_t records) {
  if (*import == nullptr) {
    const auto hashes = [&there](const Generation& generation, uint32_t context) {
      const uint64_t tokens = generation.contexts[context].token_count;
      std::vector<BlockHash> all = there.FullHashes(tokens);
      if (const uint64_t rest = tokens % kBlockTokens; rest != 0) {
        all.push_back(there.Hash(static_cast<uint32_t>(all.size()), static_cast<uint32_t>(rest)));
      }
      return absl::StatusOr<std::vector<BlockHash>>(std::move(all));
    };
    auto opened = to->ImportCorpus(tenant_uid, Must(from->catalog().GetCorpusByUid(corpus_uid)).id,
                                   from->store_id(), corpus_uid, hashes);
    if (!opened.ok()) return opened.status();
    *import = *std::move(opened);
  }
  const absl::StatusOr<TransferHave> have = (*import)->Have();
  if (!have.ok()) return have.status();
  auto out = from->ExportCorpus(corpus_uid, *have, round);
  if (!out.ok()) return out.status();
  (*import)->BeginRound();
  for (size_t i = 0; i < records; ++i) {
    auto record = (*out)->Next();
    if (!record.ok()) return record.status();
    if (!record->has_value()) return (*import)->EndRound();
    if (absl::Status status = (*import)->Add(**record); !status.ok()) return status;
  }
  return absl::OkStatus();
}

NewOperation IngestOperation() {
  NewOperation operation;
  operation.kind = "ingest";
  operation.phase = "prefill";
  return operation;
}

IngestRequest RequestFor(uint64_t operation_uid, const SampleCache& cache, uint64_t tokens) {
  IngestRequest request;
  request.operation_uid = operation_uid;
  request.geometry = cache.geometry();
  request.hashes = {cache.FullHashes(tokens)};
  return request;
}

GenerationSpec SpecFor(uint64_t tokens) {
  GenerationSpec spec;
  spec.layout_version = "layout-1";
  spec.extractor_version = "text-1";
  spec.contexts.push_back({tokens, std::vector<int32_t>(tokens % kBlockTokens, 42)});
  return spec;
}

Generation Ingest(Store* store, uint64_t corpus_uid, SampleCache* cache, uint64_t tokens,
                  uint32_t chunk_blocks) {
  Catalog& catalog = store->catalog();
  const Operation operation = Must(catalog.CreateOperation(corpus_uid, IngestOperation(), 10));
  IngestIntent intent = Must(catalog.BeginIngest(RequestFor(operation.uid, *cache, tokens), 11));
  while (intent.contexts[0].token_count < tokens) {
    const uint32_t first = intent.contexts[0].end_block;
    const uint64_t end = std::min<uint64_t>(tokens, uint64_t{first + chunk_blocks} * kBlockTokens);
    intent = Must(catalog.CommitIngestBlocks(operation.uid, 0, cache->Blocks(first, end)));
  }
  return Must(catalog.PublishGeneration(operation.uid, SpecFor(tokens), 12));
}

}  // namespace lectern::storage
