// Damage to any file of a store: it is noticed, at open or when read, or it changes nothing. Never
// a wrong byte, never a corpus that is silently gone.
#include <filesystem>
#include <fstream>
#include <random>

#include <fmt/format.h>

#include "storage/store.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

constexpr int kDamages = 120;
constexpr uint64_t kTokens = 9 * kBlockTokens + 44;
constexpr size_t kDocumentBytes = 1'400'000;

class DamageTest : public testing::Test {
 protected:
  DamageTest() : cache_(SmallGeometry(), 8) {
    std::mt19937_64 random(4);
    for (size_t i = 0; i < kDocumentBytes; ++i) document_.push_back(static_cast<char>(random()));
    auto store = Must(Open(Original()));
    Catalog& catalog = store->catalog();
    tenant_ = Must(catalog.GetTenant(kDefaultTenantId)).uid;
    corpus_ = Must(catalog.CreateCorpus(tenant_, {"c", "", {}}, 1)).uid;
    auto writer = Must(catalog.WriteDocument(corpus_, {"d", "", ""}));
    Must(writer->Append(document_));
    Must(writer->Commit(1, std::nullopt));
    generation_ = Ingest(store.get(), corpus_, &cache_, kTokens);
    Must(store->Flush());  // part of it in tables, part in the log
    session_ = Must(catalog.CreateSession(generation_.uid, 0, {"s", "", {}}, 1));
    Must(catalog.CommitTurn(session_.uid, {0, kTokens + 5, 1, "turn"},
                            cache_.Blocks(9, kTokens + 5), 1));
    // As after a kill: RocksDB would write the log out when it closes.
    fs::copy(Original(), Killed(), fs::copy_options::recursive);
  }

  std::string Original() const { return scratch_.path() + "/original"; }
  std::string Killed() const { return scratch_.path() + "/killed"; }

  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& directory) {
    StoreOptions options;
    options.directory = directory;
    options.reader_threads = 1;
    return Store::Open(options);
  }

  // OK when all is as it was; the first error otherwise. Wrong bytes fail the test.
  absl::Status ReadEverything(const std::string& directory) {
    absl::StatusOr<std::unique_ptr<Store>> store = Open(directory);
    if (!store.ok()) return store.status();
    Catalog& catalog = (*store)->catalog();
    const absl::StatusOr<Corpus> corpus = catalog.GetCorpus(tenant_, "c");
    if (!corpus.ok()) return corpus.status();
    EXPECT_EQ(corpus->current_generation, generation_.uid);
    const absl::StatusOr<Generation> generation = catalog.GetGeneration(generation_.uid);
    if (!generation.ok()) return generation.status();
    EXPECT_EQ(*generation, generation_);
    const absl::StatusOr<Document> document = catalog.GetDocument(corpus_, "d");
    if (!document.ok()) return document.status();
    const absl::StatusOr<std::string> bytes = catalog.ReadDocument(*document, 0, UINT64_MAX);
    if (!bytes.ok()) return bytes.status();
    EXPECT_TRUE(*bytes == document_);
    const absl::StatusOr<Session> session = catalog.GetSession(corpus_, "s");
    if (!session.ok()) return session.status();
    EXPECT_EQ(session->turn_count, 1u);
    const absl::StatusOr<Turn> turn = catalog.GetTurn(session_.uid, 0);
    if (!turn.ok()) return turn.status();
    EXPECT_EQ(turn->payload, "turn");
    const auto prefix = (*store)->blocks().LookupPrefix(tenant_, cache_.FullHashes(kTokens));
    if (!prefix.ok()) return prefix.status();
    EXPECT_EQ(prefix->size(), 1u);
    absl::Status status = ReadContext(store->get(), generation_.contexts[0].segments, kTokens);
    if (status.ok()) status = ReadContext(store->get(), session->segments, session->token_count);
    return status;
  }

  absl::Status ReadContext(Store* store, const std::vector<Segment>& segments, uint64_t tokens) {
    const Geometry& geometry = cache_.geometry();
    auto reader = store->blocks().OpenContext(tenant_, segments, tokens, geometry);
    if (!reader.ok()) return reader.status();
    for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
      for (uint32_t block = 0; block < (*reader)->block_count(); ++block) {
        const uint32_t count = (*reader)->Block(block)->tokens;
        std::vector<std::byte> kv(geometry.KvBytes(count));
        absl::Status status = (*reader)->ReadKv({layer, block, 0, 0, kv.data(), count});
        if (!status.ok()) return status;
        EXPECT_TRUE(kv == cache_.Kv(layer, block, count));
      }
      if (geometry.indexed[layer] == 0) continue;
      const std::vector<std::byte> expected = cache_.IndexKeys(layer, 0, tokens);
      std::vector<std::byte> keys(expected.size());
      absl::Status status = (*reader)->ReadIndexKeys(layer, 0, (*reader)->block_count(), keys);
      if (!status.ok()) return status;
      EXPECT_TRUE(keys == expected);
    }
    return absl::OkStatus();
  }

  ScratchDirectory scratch_;
  SampleCache cache_;
  std::string document_;
  uint64_t tenant_ = 0;
  uint64_t corpus_ = 0;
  Generation generation_;
  Session session_;
};

// Files whose bytes matter: not the info log, and not what only says how RocksDB was configured.
std::vector<fs::path> Targets(const std::string& directory) {
  std::vector<fs::path> targets;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (!entry.is_regular_file() || entry.file_size() == 0 || name == "LOG" || name == "LOCK" ||
        name.starts_with("LOG.old") || name.starts_with("OPTIONS")) {
      continue;
    }
    targets.push_back(entry.path());
  }
  std::sort(targets.begin(), targets.end());
  return targets;
}

std::string Damage(const fs::path& path, std::mt19937_64* random) {
  const uint64_t size = fs::file_size(path);
  const uint64_t at = (*random)() % size;
  switch ((*random)() % 4) {
    case 0: {
      fs::resize_file(path, at);
      return fmt::format("cut at {}", at);
    }
    case 1: {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(at));
      const uint64_t zeros = std::min<uint64_t>(4096, size - at);
      file.write(std::string(zeros, '\0').data(), static_cast<std::streamsize>(zeros));
      return fmt::format("{} zeros at {}", zeros, at);
    }
    default: {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(at));
      const int byte = file.get();
      const int bit = static_cast<int>((*random)() % 8);
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(byte ^ (1 << bit)));
      return fmt::format("bit {} of byte {}", bit, at);
    }
  }
}

TEST_F(DamageTest, IsDetectedOrChangesNothing) {
  ASSERT_OK(ReadEverything(Original()));
  const std::string intact = scratch_.path() + "/intact";
  fs::copy(Killed(), intact, fs::copy_options::recursive);
  ASSERT_OK(ReadEverything(intact));
  std::mt19937_64 random(99);
  int detected = 0;
  for (int i = 0; i < kDamages && !HasFailure(); ++i) {
    const std::string directory = scratch_.path() + "/damaged";
    fs::remove_all(directory);
    fs::copy(Killed(), directory, fs::copy_options::recursive);
    const std::vector<fs::path> targets = Targets(directory);
    const fs::path& target = targets[static_cast<size_t>(i) % targets.size()];
    const std::string damage = Damage(target, &random);
    SCOPED_TRACE(target.filename().string() + ": " + damage);
    const absl::Status status = ReadEverything(directory);
    detected += status.ok() ? 0 : 1;
    // Damage is told as such, and never as the absence of what was damaged. A directory whose
    // CURRENT or FORMAT is gone may also be taken for a foreign one.
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status) || absl::IsFailedPrecondition(status))
        << status;
  }
  EXPECT_GE(detected, kDamages / 2);
}

TEST_F(DamageTest, AFileThatIsGoneIsALossAndNothingToRetry) {
  for (const fs::path& target : Targets(Killed())) {
    if (!target.filename().string().starts_with("MANIFEST-") && target.extension() != ".sst") {
      continue;
    }
    SCOPED_TRACE(target.filename());
    const std::string directory = scratch_.path() + "/damaged";
    fs::remove_all(directory);
    fs::copy(Killed(), directory, fs::copy_options::recursive);
    fs::remove(directory / fs::relative(target, Killed()));
    EXPECT_CODE(ReadEverything(directory), absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace lectern::storage
