// kill -9 at random moments: what was acknowledged is there, what is visible verifies, nothing else
// is left.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "crash_workload.h"
#include "storage/keys.h"
#include "storage/records.h"

namespace lectern::storage {
namespace {

constexpr int kKills = 25;
constexpr int kLongestRunMilliseconds = 600;

// What children have said was acknowledged.
struct Acknowledged {
  std::set<uint64_t> uploaded;
  std::map<uint64_t, uint64_t> committed_tokens;
  std::set<uint64_t> published;
  std::map<uint64_t, uint32_t> turns;
  std::set<uint64_t> deleted;

  void Add(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    uint64_t number = 0;
    uint64_t value = 0;
    words >> verb >> number >> value;
    if (verb == "uploaded") uploaded.insert(number);
    if (verb == "committed") committed_tokens[number] = value;
    if (verb == "published") published.insert(number);
    if (verb == "turn") turns[number] = static_cast<uint32_t>(value);
    if (verb == "deleted") deleted.insert(number);
  }
};

// Runs a child until it is killed, and hears what it says.
void RunAndKill(const std::string& directory, uint64_t seed, int milliseconds,
                Acknowledged* acknowledged) {
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(channel[1], STDOUT_FILENO);
    close(channel[0]);
    close(channel[1]);
    execl(LECTERN_CRASH_CHILD, LECTERN_CRASH_CHILD, directory.c_str(), std::to_string(seed).c_str(),
          nullptr);
    _exit(127);
  }
  close(channel[1]);
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    kill(child, SIGKILL);
  });
  FILE* said = fdopen(channel[0], "r");
  char line[128];
  while (fgets(line, sizeof(line), said) != nullptr) acknowledged->Add(line);
  fclose(said);
  int result = 0;
  waitpid(child, &result, 0);
  killer.join();
  EXPECT_TRUE(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL)
      << "the child ended by itself: " << result;
}

void ExpectWhole(Store* store, uint64_t tenant, const std::vector<Segment>& segments,
                 uint64_t tokens, uint64_t seed) {
  auto reader = store->blocks().OpenContext(tenant, segments, tokens, CrashGeometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, SampleCache(CrashGeometry(), seed));
}

void ExpectCorpus(Store* store, uint64_t tenant, const Corpus& corpus,
                  const Acknowledged& acknowledged) {
  Catalog& catalog = store->catalog();
  const uint64_t number = std::stoull(corpus.id.substr(6));
  EXPECT_FALSE(acknowledged.deleted.contains(number)) << "a deleted corpus is back";
  const absl::StatusOr<Document> document = catalog.GetDocument(corpus.uid, "document");
  if (document.ok()) {
    EXPECT_TRUE(Must(catalog.ReadDocument(*document, 0, UINT64_MAX)) == DocumentBytes(number));
  } else {
    EXPECT_FALSE(acknowledged.uploaded.contains(number)) << "an acknowledged document is lost";
  }
  uint64_t stored_tokens = 0;
  for (const Operation& operation : Must(catalog.ListOperations(tenant, corpus.uid, {})).items) {
    const absl::StatusOr<IngestIntent> intent = catalog.GetIngest(operation.uid);
    if (!intent.ok()) continue;
    const IngestContext& context = intent->contexts[0];
    std::vector<Segment> segments = context.reused;
    if (context.end_block > context.first_block) {
      segments.push_back(
          {context.lineage, context.first_block, context.end_block - context.first_block});
    }
    stored_tokens = context.token_count;
    ExpectWhole(store, tenant, segments, stored_tokens, number);
  }
  if (corpus.current_generation != 0) {
    const Generation generation = Must(catalog.GetGeneration(corpus.current_generation));
    stored_tokens = generation.contexts[0].token_count;
    EXPECT_EQ(stored_tokens, kIngestTokens);
    ExpectWhole(store, tenant, generation.contexts[0].segments, stored_tokens, number);
  } else {
    EXPECT_FALSE(acknowledged.published.contains(number)) << "an acknowledged generation is lost";
  }
  if (const auto committed = acknowledged.committed_tokens.find(number);
      committed != acknowledged.committed_tokens.end()) {
    EXPECT_GE(stored_tokens, committed->second) << "acknowledged blocks are lost";
  }
  uint32_t turns = 0;
  for (const Session& session : Must(catalog.ListSessions(corpus.uid, {})).items) {
    ExpectWhole(store, tenant, session.segments, session.token_count, number);
    turns = session.turn_count;
    for (uint32_t turn = 0; turn < turns; ++turn) EXPECT_OK(catalog.GetTurn(session.uid, turn));
  }
  if (const auto told = acknowledged.turns.find(number); told != acknowledged.turns.end()) {
    EXPECT_GE(turns, told->second) << "an acknowledged turn is lost";
  }
}

// Below the store: every data record belongs to a block that is visible.
void ExpectNoOrphans(const std::string& directory) {
  const auto bytes = OpenTwin(Twin::kRocksDb, directory);
  const auto count = [&](ColumnFamily family) {
    uint64_t records = 0;
    auto cursor = bytes->NewCursor(family, "", "\xff");
    for (; cursor->Valid(); cursor->Next()) ++records;
    EXPECT_OK(cursor->status());
    return records;
  };
  uint64_t blocks = 0;
  uint64_t runs = 0;
  const std::string lineages(1, static_cast<char>(KeySpace::kLineage));
  for (auto cursor = bytes->NewCursor(ColumnFamily::kCatalog, lineages, PrefixEnd(lineages));
       cursor->Valid(); cursor->Next()) {
    blocks += Must(ParseRecord<Lineage>(cursor->key(), cursor->value())).block_count();
  }
  const std::string directory_keys(1, static_cast<char>(KeySpace::kBlockRun));
  for (auto cursor =
           bytes->NewCursor(ColumnFamily::kCatalog, directory_keys, PrefixEnd(directory_keys));
       cursor->Valid(); cursor->Next()) {
    ++runs;
  }
  const Geometry geometry = CrashGeometry();
  EXPECT_EQ(count(ColumnFamily::kKv), blocks * geometry.layers);
  EXPECT_EQ(count(ColumnFamily::kIndexKeys),
            runs * static_cast<uint64_t>(geometry.IndexedLayers()));
}

TEST(CrashTest, KilledAtRandomMoments) {
  ScratchDirectory scratch;
  const std::string directory = scratch.path() + "/data";
  std::mt19937_64 random(20261123);
  Acknowledged acknowledged;
  StoreOptions options;
  options.directory = directory;
  for (int round = 0; round < kKills && !HasFailure(); ++round) {
    SCOPED_TRACE(round);
    const int milliseconds = static_cast<int>(random() % kLongestRunMilliseconds);
    RunAndKill(directory, random(), milliseconds, &acknowledged);
    {
      const auto store = Must(Store::Open(options));
      const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
      for (const Corpus& corpus : Must(store->catalog().ListCorpora(tenant, {})).items) {
        ExpectCorpus(store.get(), tenant, corpus, acknowledged);
      }
      for (const uint64_t number : acknowledged.uploaded) {
        const absl::Status status = store->catalog().GetCorpus(tenant, CorpusId(number)).status();
        // The kill may have come between a deletion and its acknowledgement: only the oldest can be
        // gone so.
        if (!status.ok()) {
          EXPECT_LE(number + 2, *acknowledged.uploaded.rbegin()) << "a corpus is lost";
        }
      }
      Must(store->CollectGarbage());
      EXPECT_EQ(Must(store->GetStats()).purge_pending, 0u);
    }
    ExpectNoOrphans(directory);
  }
  // The work went on between the kills.
  EXPECT_GE(acknowledged.published.size(), 3u);
}

}  // namespace
}  // namespace lectern::storage
