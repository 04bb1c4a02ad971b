// What the storage tests share: both twins under one name, a scratch directory, and a cache whose
// bytes can be foretold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/block.h"
#include "storage/block_store.h"
#include "storage/key_value_store.h"
#include "storage/store.h"

namespace lectern::storage {

inline absl::Status ToTestStatus(absl::Status status) { return status; }
template <typename T>
absl::Status ToTestStatus(const absl::StatusOr<T>& status_or) {
  return status_or.status();
}
inline testing::AssertionResult HasCode(const absl::Status& status, absl::StatusCode expected) {
  if (status.code() == expected) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << status << " where " << absl::StatusCodeToString(expected) << " was expected";
}
#define ASSERT_CODE(expression, expected) \
  ASSERT_TRUE(HasCode(ToTestStatus((expression)), (expected)))
#define EXPECT_CODE(expression, expected) \
  EXPECT_TRUE(HasCode(ToTestStatus((expression)), (expected)))
#define ASSERT_OK(expression) ASSERT_CODE(expression, absl::StatusCode::kOk)
#define EXPECT_OK(expression) EXPECT_CODE(expression, absl::StatusCode::kOk)

// The value, or the end of the test: for steps that are not what is tested.
template <typename T>
T Must(absl::StatusOr<T> status_or) {
  if (!status_or.ok()) throw std::runtime_error(status_or.status().ToString());
  return *std::move(status_or);
}
inline void Must(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

enum class Twin { kRocksDb, kMemory };
std::string TwinName(const testing::TestParamInfo<Twin>& info);

std::unique_ptr<KeyValueStore> OpenTwin(Twin twin, const std::string& directory);

// Everything that is in a family, so that nothing is left behind unseen.
size_t KeysIn(KeyValueStore& store, ColumnFamily family);

// A cache of which every byte follows from (seed, layer, token position, head, part, dim): two runs
// of the same tokens agree, and a block that grew begins with what it had before.
class SampleCache {
 public:
  SampleCache(Geometry geometry, uint64_t seed) : geometry_(std::move(geometry)), seed_(seed) {}

  const Geometry& geometry() const { return geometry_; }
  // Blocks from first_block on, up to token `end_token` of the context. Borrows this object's
  // memory.
  BlockBatch Blocks(uint32_t first_block, uint64_t end_token);
  BlockHash Hash(uint32_t block, uint32_t tokens) const;
  std::vector<BlockHash> FullHashes(uint64_t tokens) const;

  // What a reader must return: tight, [kv_head][2][tokens][dim].
  std::vector<std::byte> Kv(uint16_t layer, uint32_t block, uint32_t tokens) const;
  std::vector<std::byte> IndexKeys(uint16_t layer, uint64_t first_token, uint64_t end_token) const;

 private:
  struct Held {
    std::deque<std::vector<std::byte>> bytes;
    std::deque<std::vector<const std::byte*>> pointers;
    std::vector<BlockInput> inputs;
  };

  std::byte* Row(uint64_t layer, uint64_t token, uint64_t head, uint64_t part, uint64_t dims,
                 std::byte* out) const;

  const Geometry geometry_;
  const uint64_t seed_;
  std::deque<Held> held_;
};

// Small: three layers (the second dense), two heads of 8, index keys of 4.
Geometry SmallGeometry();

// Reads everything a context shows and compares it with the sample.
void ExpectContext(const ContextReader& reader, const SampleCache& cache);

// A finished ingest of `tokens` tokens of `cache`, as one generation of the corpus, committed
// `chunk_blocks` at a time.
Generation Ingest(Store* store, uint64_t corpus_uid, SampleCache* cache, uint64_t tokens,
                  uint32_t chunk_blocks = 8);

// One round of a corpus's way to another store (transfer.h): up to `records` records of it, all by
// default. The hashes of blocks there are those of `there`.
absl::Status CopyRound(Store* from, uint64_t corpus_uid, Store* to, uint64_t tenant_uid,
                       const SampleCache& there, const TransferRound& round,
                       std::unique_ptr<CorpusImport>* import, size_t records = SIZE_MAX);

NewOperation IngestOperation();
IngestRequest RequestFor(uint64_t operation_uid, const SampleCache& cache, uint64_t tokens);
GenerationSpec SpecFor(uint64_t tokens);

}  // namespace lectern::storage
