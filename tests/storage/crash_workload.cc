#include "crash_workload.h"

#include <sstream>

#include <fmt/format.h>

#include "storage/keys.h"
#include "storage/records.h"

namespace lectern::storage {
namespace {

constexpr uint64_t kIngestTokens = 24 * kBlockTokens + 37;
constexpr size_t kDocumentBytes = 2'300'000;
constexpr uint32_t kTurns = 3;

// 768 KiB of K/V a block: chunks of eight blocks are bulk loaded, turns go through the log.
Geometry CrashGeometry() {
  Geometry geometry = SmallGeometry();
  geometry.kv_heads = 4;
  geometry.head_dim = 128;
  geometry.index_dim = 64;
  return geometry;
}

std::string CorpusId(uint64_t number) { return "corpus" + std::to_string(number); }
uint64_t CorpusNumber(const std::string& id) { return std::stoull(id.substr(6)); }

std::string DocumentBytes(uint64_t number) {
  std::string bytes(kDocumentBytes, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 7 + i / 251 + number);
  }
  return bytes;
}

template <typename T>
std::optional<T> IfFound(absl::StatusOr<T> status_or) {
  if (absl::IsNotFound(status_or.status())) return std::nullopt;
  return Must(std::move(status_or));
}

void ExpectWhole(Store* store, uint64_t tenant, const std::vector<Segment>& segments,
                 uint64_t tokens, uint64_t seed) {
  auto reader = store->blocks().OpenContext(tenant, segments, tokens, CrashGeometry());
  ASSERT_OK(reader);
  ExpectContext(**reader, SampleCache(CrashGeometry(), seed));
}

// Tokens of the corpus's ingest or generation, whichever there is.
uint64_t ExpectWholeCache(Store* store, const Corpus& corpus) {
  Catalog& catalog = store->catalog();
  const uint64_t number = CorpusNumber(corpus.id);
  uint64_t tokens = 0;
  for (const Operation& operation :
       Must(catalog.ListOperations(corpus.tenant_uid, corpus.uid, {})).items) {
    const std::optional<IngestIntent> intent = IfFound(catalog.GetIngest(operation.uid));
    if (!intent.has_value()) continue;
    const IngestContext& context = intent->contexts[0];
    std::vector<Segment> segments = context.reused;
    if (context.end_block > context.first_block) {
      segments.push_back(
          {context.lineage, context.first_block, context.end_block - context.first_block});
    }
    tokens = context.token_count;
    ExpectWhole(store, corpus.tenant_uid, segments, tokens, number);
  }
  if (corpus.current_generation != 0) {
    const Generation generation = Must(catalog.GetGeneration(corpus.current_generation));
    tokens = generation.contexts[0].token_count;
    EXPECT_EQ(tokens, kIngestTokens);
    ExpectWhole(store, corpus.tenant_uid, generation.contexts[0].segments, tokens, number);
  }
  return tokens;
}

void ExpectCorpus(Store* store, const Corpus& corpus, const Acknowledged& acknowledged) {
  Catalog& catalog = store->catalog();
  const uint64_t number = CorpusNumber(corpus.id);
  EXPECT_FALSE(acknowledged.deleted.contains(number)) << "a deleted corpus is back";
  const std::optional<Document> document = IfFound(catalog.GetDocument(corpus.uid, "document"));
  EXPECT_TRUE(document.has_value() || !acknowledged.uploaded.contains(number))
      << "an acknowledged document is lost";
  if (document.has_value()) {
    EXPECT_TRUE(Must(catalog.ReadDocument(*document, 0, UINT64_MAX)) == DocumentBytes(number));
  }
  EXPECT_TRUE(corpus.current_generation != 0 || !acknowledged.published.contains(number))
      << "an acknowledged generation is lost";
  const uint64_t tokens = ExpectWholeCache(store, corpus);
  if (acknowledged.committed_tokens.contains(number)) {
    EXPECT_GE(tokens, acknowledged.committed_tokens.at(number)) << "acknowledged blocks are lost";
  }
  uint32_t turns = 0;
  for (const Session& session : Must(catalog.ListSessions(corpus.uid, {})).items) {
    ExpectWhole(store, corpus.tenant_uid, session.segments, session.token_count, number);
    turns = session.turn_count;
    for (uint32_t turn = 0; turn < turns; ++turn) EXPECT_OK(catalog.GetTurn(session.uid, turn));
  }
  if (acknowledged.turns.contains(number)) {
    EXPECT_GE(turns, acknowledged.turns.at(number)) << "an acknowledged turn is lost";
  }
}

}  // namespace

void Acknowledged::Add(const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  uint64_t number = 0;
  uint64_t value = 0;
  words >> verb >> number >> value;
  if (verb == "uploaded") uploaded.insert(number);
  if (verb == "committed") committed_tokens[number] = value;
  if (verb == "published") published.insert(number);
  if (verb == "turn") turns[number] = static_cast<uint32_t>(value);
  if (verb == "deleting") deletions_begun.insert(number);
  if (verb == "deleted") deleted.insert(number);
}

CrashWorker::CrashWorker(Store* store, uint64_t seed,
                         std::function<void(const std::string&)> acknowledge)
    : store_(store), random_(seed), acknowledge_(std::move(acknowledge)) {
  tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
}

void CrashWorker::Run() {
  uint64_t number = 0;
  for (const Corpus& corpus : Must(catalog().ListCorpora(tenant_, {})).items) {
    number = std::max(number, CorpusNumber(corpus.id));
  }
  for (;; ++number) {
    Advance(number);
    if (number >= 2) Delete(number - 2);
  }
}

void CrashWorker::Advance(uint64_t number) {
  const std::string id = CorpusId(number);
  std::optional<Corpus> corpus = IfFound(catalog().GetCorpus(tenant_, id));
  if (!corpus.has_value()) corpus = Must(catalog().CreateCorpus(tenant_, {id, "", {}}, 1));
  if (!IfFound(catalog().GetDocument(corpus->uid, "document")).has_value()) {
    Upload(number, *corpus);
  }
  if (corpus->current_generation == 0) IngestAll(number, *corpus);
  Talk(number, Must(catalog().GetCorpusByUid(corpus->uid)));
}

void CrashWorker::Upload(uint64_t number, const Corpus& corpus) {
  auto writer = Must(catalog().WriteDocument(corpus.uid, {"document", "", ""}));
  const std::string bytes = DocumentBytes(number);
  for (size_t at = 0; at < bytes.size(); at += 100'000) {
    Must(writer->Append(bytes.substr(at, 100'000)));
  }
  Must(writer->Commit(1, std::nullopt));
  acknowledge_(fmt::format("uploaded {}", number));
}

void CrashWorker::IngestAll(uint64_t number, const Corpus& corpus) {
  const auto operations = Must(catalog().ListOperations(tenant_, corpus.uid, {})).items;
  const Operation operation =
      operations.empty() ? Must(catalog().CreateOperation(corpus.uid, IngestOperation(), 1))
                         : operations.back();
  std::optional<IngestIntent> intent = IfFound(catalog().GetIngest(operation.uid));
  if (!intent.has_value()) {
    const SampleCache hashes(CrashGeometry(), number);
    intent = Must(catalog().BeginIngest(RequestFor(operation.uid, hashes, kIngestTokens), 1));
  }
  while (intent->contexts[0].token_count < kIngestTokens) {
    SampleCache cache(CrashGeometry(), number);
    const uint32_t first = intent->contexts[0].end_block;
    const uint64_t end =
        std::min<uint64_t>(kIngestTokens, (first + 1 + random_() % 8) * kBlockTokens);
    intent = Must(catalog().CommitIngestBlocks(operation.uid, 0, cache.Blocks(first, end)));
    acknowledge_(fmt::format("committed {} {}", number, intent->contexts[0].token_count));
    if (random_() % 3 == 0) Must(store_->Flush());
  }
  Must(catalog().PublishGeneration(operation.uid, SpecFor(kIngestTokens), 1));
  acknowledge_(fmt::format("published {}", number));
}

void CrashWorker::Talk(uint64_t number, const Corpus& corpus) {
  std::optional<Session> session = IfFound(catalog().GetSession(corpus.uid, "session"));
  if (!session.has_value()) {
    session = Must(catalog().CreateSession(corpus.current_generation, 0, {"session", "", {}}, 1));
  }
  while (session->turn_count < kTurns) {
    SampleCache cache(CrashGeometry(), number);
    // The second turn is so long that it is bulk loaded over a partial tail.
    const uint64_t tokens = session->token_count + (session->turn_count == 1 ? 1000 : 50);
    const auto first = static_cast<uint32_t>(session->token_count / kBlockTokens);
    session = Must(catalog().CommitTurn(session->uid, {session->turn_count, tokens, 1, "turn"},
                                        cache.Blocks(first, tokens), 1));
    acknowledge_(fmt::format("turn {} {}", number, session->turn_count));
  }
}

void CrashWorker::Delete(uint64_t number) {
  const std::optional<Corpus> corpus = IfFound(catalog().GetCorpus(tenant_, CorpusId(number)));
  if (!corpus.has_value()) return;
  acknowledge_(fmt::format("deleting {}", number));
  Must(catalog().DeleteCorpus(corpus->uid, 1));
  acknowledge_(fmt::format("deleted {}", number));
  Must(store_->CollectGarbage());
}

void ExpectAcknowledged(Store* store, const Acknowledged& acknowledged) {
  const uint64_t tenant = Must(store->catalog().GetTenant(kDefaultTenantId)).uid;
  for (const Corpus& corpus : Must(store->catalog().ListCorpora(tenant, {})).items) {
    ExpectCorpus(store, corpus, acknowledged);
  }
  // The end may have come between a deletion and its acknowledgement, so one that was begun may be
  // done or not. Nothing else that was acknowledged can be gone.
  for (const uint64_t number : acknowledged.uploaded) {
    if (IfFound(store->catalog().GetCorpus(tenant, CorpusId(number))).has_value()) continue;
    EXPECT_TRUE(acknowledged.deletions_begun.contains(number)) << "a corpus is lost";
  }
  Must(store->CollectGarbage());
  EXPECT_EQ(Must(store->GetStats()).purge_pending, 0u);
}

void ExpectNoOrphans(const std::string& directory) {
  const auto bytes = OpenTwin(Twin::kRocksDb, directory);
  const auto count = [&](ColumnFamily family) {
    uint64_t records = 0;
    auto cursor = bytes->NewCursor(family, "", "\xff");
    for (; cursor->Valid(); cursor->Next()) ++records;
    EXPECT_OK(cursor->status());
    return records;
  };
  const auto scan = [&](KeySpace space, auto&& visit) {
    const std::string prefix(1, static_cast<char>(space));
    auto cursor = bytes->NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
    for (; cursor->Valid(); cursor->Next()) visit(*cursor);
    EXPECT_OK(cursor->status());
  };
  uint64_t blocks = 0;
  scan(KeySpace::kLineage, [&](const Cursor& cursor) {
    blocks += Must(ParseRecord<Lineage>(cursor.key(), cursor.value())).block_count();
  });
  uint64_t runs = 0;
  scan(KeySpace::kBlockRun, [&](const Cursor&) { ++runs; });
  const Geometry geometry = CrashGeometry();
  EXPECT_EQ(count(ColumnFamily::kKv), blocks * geometry.layers);
  EXPECT_EQ(count(ColumnFamily::kIndexKeys),
            runs * static_cast<uint64_t>(geometry.IndexedLayers()));
}

}  // namespace lectern::storage
