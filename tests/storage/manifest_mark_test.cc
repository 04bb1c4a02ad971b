// A manifest whose end is garbage, short, older or another's, against its mark.
#include "storage/manifest_mark.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "storage/log_format.h"
#include "storage/store.h"
#include "store_fixture.h"

namespace lectern::storage {
namespace {

namespace fs = std::filesystem;

class ManifestMarkTest : public testing::Test {
 protected:
  ManifestMarkTest() {
    auto store = Open();
    const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
    Must(store->catalog().CreateCorpus(tenant, {"c", "", {}}, 1));
    Must(store->Flush());
    // As after a kill.
    fs::copy(Original(), Directory(), fs::copy_options::recursive);
  }

  std::string Original() const { return scratch_.path() + "/original"; }
  std::string Directory() const { return scratch_.path() + "/killed"; }
  std::unique_ptr<Store> Open() const {
    StoreOptions options;
    options.directory = Original();
    return Must(Store::Open(options));
  }
  absl::Status OpenKilled() const {
    StoreOptions options;
    options.directory = Directory();
    auto store = Store::Open(options);
    if (!store.ok()) return store.status();
    const uint64_t tenant = Must((*store)->catalog().GetTenant(kDefaultTenantId)).uid;
    return (*store)->catalog().GetCorpus(tenant, "c").status();
  }

  std::string Manifest() const {
    std::string name;
    std::getline(std::ifstream(Directory() + "/db/CURRENT"), name);
    return Directory() + "/db/" + name;
  }
  static std::string Read(const std::string& path) {
    std::ostringstream content;
    content << std::ifstream(path, std::ios::binary).rdbuf();
    return content.str();
  }
  static void Write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  }

  ScratchDirectory scratch_;
};

TEST_F(ManifestMarkTest, GarbageThatWasNeverSyncedIsCutOff) {
  const std::string whole = Read(Manifest());
  EXPECT_EQ(WholeRecordsEnd(whole), whole.size());
  // A length that fits, as a damaged record in the middle would have.
  for (const std::string& garbage : {std::string(100, '\x01'), std::string(5, 'x'),
                                     std::string("\x11\x22\x33\x44\x02\0\x01"
                                                 "ab",
                                                 9)}) {
    Write(Manifest(), whole + garbage);
    EXPECT_OK(OpenKilled());
    fs::remove_all(Directory());
    fs::copy(Original(), Directory(), fs::copy_options::recursive);
  }
}

TEST_F(ManifestMarkTest, ACutAtARecordIsDamageThoughRocksDbWouldOpenIt) {
  const std::string whole = Read(Manifest());
  size_t cuts = 0;
  for (uint64_t end = WholeRecordsEnd(std::string_view(whole).substr(0, whole.size() - 1)); end > 0;
       end = WholeRecordsEnd(std::string_view(whole).substr(0, end - 1))) {
    Write(Manifest(), whole.substr(0, end));
    EXPECT_CODE(OpenKilled(), absl::StatusCode::kDataLoss) << end;
    ++cuts;
  }
  EXPECT_GE(cuts, 5u);
  Write(Manifest(), whole);
  EXPECT_OK(OpenKilled());
}

TEST_F(ManifestMarkTest, AMarkThatIsGoneOrTornWitnessesNothing) {
  const std::string mark = Directory() + "/MANIFEST_MARK";
  std::string bytes = Read(mark);
  bytes[3] ^= 1;
  Write(mark, bytes);
  EXPECT_OK(OpenKilled());
  fs::remove(mark);
  EXPECT_OK(OpenKilled());
  EXPECT_FALSE(Read(mark).empty());
}

TEST_F(ManifestMarkTest, AnotherManifestOfTheSameNumberIsLeftAsItIs) {
  // As if a program without marks had made it.
  const std::string path = scratch_.path() + "/MARK";
  const std::string name = fs::path(Manifest()).filename();
  const uint64_t number = std::stoull(name.substr(name.find('-') + 1));
  {
    ManifestMark mark(path);
    Must(mark.Open());
    Must(mark.Raise(number, 10, /*checksum=*/1));
  }
  const std::string content = Read(Manifest()) + "garbage";
  Write(Manifest(), content);
  ManifestMark mark(path);
  Must(mark.Open());
  EXPECT_EQ(Must(mark.Apply(Directory() + "/db")), 0u);
  EXPECT_EQ(Read(Manifest()), content);
}

TEST_F(ManifestMarkTest, AnOlderCurrentIsDamage) {
  const std::string path = scratch_.path() + "/MARK";
  {
    ManifestMark mark(path);
    Must(mark.Open());
    // Synced once: CURRENT may not name it yet. Twice: it does.
    Must(mark.Raise(1'000'000, 10, 1));
    ManifestMark before(path);
    Must(before.Open());
    EXPECT_OK(before.Apply(Directory() + "/db"));
    Must(mark.Raise(1'000'000, 20, 2));
  }
  ManifestMark mark(path);
  Must(mark.Open());
  EXPECT_CODE(mark.Apply(Directory() + "/db").status(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lectern::storage
