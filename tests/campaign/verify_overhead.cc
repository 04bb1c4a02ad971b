// What it costs to verify everything that is read: the share of loading time that goes into
// checksums of K/V and index keys, read cold (past the page cache) and warm.
//   verify_overhead --work=DIR [--results=FILE]
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "storage/store.h"
#include "tests/campaign/results.h"

ABSL_FLAG(std::string, work, "", "directory to write about 300 MB to; removed at the end");
ABSL_FLAG(std::string, results, "", "trust.json to merge the rows into");

namespace lectern::campaign {
namespace {

using namespace storage;  // NOLINT: what is measured

constexpr uint32_t kBlocks = 512;
constexpr uint32_t kChunkBlocks = 64;
constexpr double kMostPercent = 5;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}
void Must(const absl::Status& status) {
  if (!status.ok()) Must<int>(status);
}

// Records of 128 KiB, as of a model with four KV heads of 64.
Geometry MeasuredGeometry() {
  return {.layers = 4, .kv_heads = 4, .head_dim = 64, .index_dim = 64, .indexed = {1, 1, 1, 1}};
}

Generation Write(Store* store, uint64_t tenant) {
  const Geometry geometry = MeasuredGeometry();
  Catalog& catalog = store->catalog();
  const Corpus corpus = Must(catalog.CreateCorpus(tenant, {.id = "c"}, 1));
  const Operation operation = Must(catalog.CreateOperation(corpus.uid, {.kind = "ingest"}, 1));
  std::vector<BlockHash> hashes(kBlocks);
  std::mt19937_64 random(3);
  for (BlockHash& hash : hashes) hash[0] = static_cast<uint8_t>(random()), hash[1] = random() & 255;
  Must(catalog.BeginIngest(
      {.operation_uid = operation.uid, .geometry = geometry, .hashes = {hashes}}, 1));
  std::vector<std::byte> bytes(geometry.KvBytes(kBlockTokens) + geometry.IndexBytes(kBlockTokens));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  const std::vector<const std::byte*> kv(geometry.layers, bytes.data());
  for (uint32_t first = 0; first < kBlocks; first += kChunkBlocks) {
    std::vector<BlockInput> blocks;
    for (uint32_t block = first; block < first + kChunkBlocks; ++block) {
      blocks.push_back({.tokens = kBlockTokens, .hash = hashes[block], .kv = kv, .index_keys = kv});
    }
    Must(catalog.CommitIngestBlocks(operation.uid, 0, {.first_block = first, .blocks = blocks})
             .status());
  }
  GenerationSpec spec = {.layout_version = "1", .extractor_version = "1"};
  spec.contexts.push_back({.token_count = uint64_t{kBlocks} * kBlockTokens});
  return Must(catalog.PublishGeneration(operation.uid, spec, 1));
}

// Percent of the time of reading everything that verification took.
double Measure(const std::string& directory, bool cold) {
  const auto store =
      Must(Store::Open({.directory = directory, .direct_reads = cold, .reader_threads = 1}));
  const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
  const Corpus corpus = Must(store->catalog().GetCorpus(tenant, "c"));
  const Generation generation = Must(store->catalog().GetGeneration(corpus.current_generation));
  const Geometry& geometry = generation.geometry;
  const auto read = [&] {
    const auto reader = Must(store->blocks().OpenContext(
        tenant, generation.contexts[0].segments, generation.contexts[0].token_count, geometry));
    std::vector<std::byte> kv(geometry.KvBytes(kBlockTokens));
    std::vector<std::byte> keys(geometry.IndexBytes(kBlockTokens) * kChunkBlocks);
    for (uint32_t block = 0; block < kBlocks; ++block) {
      for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
        Must(reader->ReadKv({.layer = layer, .block = block, .out = kv.data()}));
        if (block % kChunkBlocks == 0) {
          Must(reader->ReadIndexKeys(layer, block, kChunkBlocks, keys));
        }
      }
    }
  };
  if (!cold) read();  // into the page cache
  const BlockCounters before = store->blocks().Counters();
  read();
  const BlockCounters after = store->blocks().Counters();
  return 100.0 * static_cast<double>(after.verify_nanoseconds - before.verify_nanoseconds) /
         static_cast<double>(after.read_nanoseconds - before.read_nanoseconds);
}

int Main() {
  const std::string work = absl::GetFlag(FLAGS_work);
  if (work.empty()) {
    fmt::print(stderr, "--work names a directory\n");
    return 2;
  }
  std::filesystem::create_directories(work);
  const std::string data = work + "/data";
  std::filesystem::remove_all(data);
  {
    const auto store = Must(Store::Open({.directory = data}));
    Write(store.get(), Must(store->catalog().GetTenant(kDefaultTenantId)).uid);
  }
  const double cold = Measure(data, /*cold=*/true);
  const double warm = Measure(data, /*cold=*/false);
  std::filesystem::remove_all(data);
  fmt::print("verification takes {:.1f}% of loading from disk, {:.1f}% of loading from memory\n",
             cold, warm);
  const Geometry geometry = MeasuredGeometry();
  const auto size =
      static_cast<int64_t>(kBlocks * geometry.layers *
                           (geometry.KvBytes(kBlockTokens) + geometry.IndexBytes(kBlockTokens)));
  WriteRows(absl::GetFlag(FLAGS_results), {{.metric = "verify_overhead_percent",
                                            .size = size,
                                            .value = cold,
                                            .unit = "% of load time from disk",
                                            .against = "at most 5",
                                            .ratio = cold / kMostPercent},
                                           {.metric = "verify_overhead_warm_percent",
                                            .size = size,
                                            .value = warm,
                                            .unit = "% of load time from the page cache",
                                            .against = "no limit: nothing is loaded",
                                            .ratio = 0}});
  return cold <= kMostPercent ? 0 : 1;
}

}  // namespace
}  // namespace lectern::campaign

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return lectern::campaign::Main();
}
