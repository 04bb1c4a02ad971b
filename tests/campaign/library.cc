#include "tests/campaign/library.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <memory>

#include "tests/support/byte_digest.h"
#include "tests/support/test_engine.h"

namespace lectern::campaign {
namespace {

constexpr int kCommonWords = 3000;
constexpr int kOwnWords = 3300;
constexpr int kExtraWords = 250;
constexpr int kLargeWords = 230'000;  // over 1 MiB
constexpr int kAnswerTokens = 8;

template <typename T>
T Must(absl::StatusOr<T> value, const char* what) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s: %s\n", what, value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

std::string CorpusId(uint64_t number) { return fmt::format("c{}", number); }
uint64_t CorpusNumber(std::string_view id) { return std::stoull(std::string(id.substr(1))); }
engine::CorpusName NameOf(uint64_t number) {
  return {.tenant = "default", .corpus = CorpusId(number)};
}

std::string DocumentText(std::string_view id, uint64_t number) {
  const uint64_t variant = number % kVariants;
  if (id == "common") return testing::RandomText(kCommonWords, 100);
  if (id == "own") return testing::RandomText(kOwnWords, 200 + variant);
  if (id == "extra") return testing::RandomText(kExtraWords, 300 + variant);
  return testing::RandomText(kLargeWords, 400);
}

engine::EngineOptions CampaignEngine(const std::string& data, const std::string& model, int chunk) {
  return {.data_dir = data,
          .model_dir = model,
          .pool_bytes = 96 << 20,
          .index_bytes = 32 << 20,
          .threads = 1,
          .prefill_chunk_tokens = chunk};
}

engine::Operation Await(engine::Engine& engine, const engine::ResourceName& operation) {
  auto ended = std::make_shared<std::promise<engine::Operation>>();
  std::future<engine::Operation> future = ended->get_future();
  const auto ticket = Must(
      engine.WatchOperation(operation, [ended](engine::Operation done) { ended->set_value(done); }),
      "watch");
  return future.get();
}

engine::AskRequest Question(uint64_t number) {
  return {.target = {.corpus = NameOf(number)},
          .question = "where does the corden feljo stand",
          .max_tokens = kAnswerTokens};
}

engine::AskRequest TurnQuestion(uint64_t number, int turn) {
  return {.target = {.corpus = NameOf(number), .session = "talk"},
          .question = turn == 0 ? "who is the grahon" : "and what did the quira say to it",
          .max_tokens = kAnswerTokens};
}

std::string AnswerDigest(const engine::Answer& answer) {
  std::string text =
      fmt::format("{}|{:.9g}|{:.9g}", answer.text, answer.coverage.mean, answer.coverage.min_row);
  for (const engine::Evidence& evidence : answer.evidence) {
    text += fmt::format("|{} {} {} {:.9g}", evidence.document, evidence.byte_begin,
                        evidence.byte_end, evidence.mass);
  }
  testing::ByteDigest digest;
  digest.Add(text.data(), text.size());
  return digest.Hex();
}

absl::StatusOr<std::string> CacheDigest(storage::Store* store, uint64_t tenant_uid,
                                        const storage::Generation& generation) {
  const storage::GenerationContext& context = generation.contexts[0];
  const storage::Geometry& geometry = generation.geometry;
  auto reader =
      store->blocks().OpenContext(tenant_uid, context.segments, context.token_count, geometry);
  if (!reader.ok()) return reader.status();
  testing::ByteDigest digest;
  digest.Add(&context.token_count, sizeof(context.token_count));
  digest.Add(context.tail_tokens.data(), context.tail_tokens.size() * sizeof(int32_t));
  for (uint16_t layer = 0; layer < geometry.layers; ++layer) {
    for (uint32_t block = 0; block < (*reader)->block_count(); ++block) {
      absl::StatusOr<storage::BlockInfo> info = (*reader)->Block(block);
      if (!info.ok()) return info.status();
      std::vector<std::byte> kv(geometry.KvBytes(info->tokens));
      absl::Status status = (*reader)->ReadKv(
          {.layer = layer, .block = block, .out = kv.data(), .token_capacity = info->tokens});
      if (!status.ok()) return status;
      digest.Add(kv.data(), kv.size());
    }
    if (geometry.indexed[layer] == 0) continue;
    std::vector<std::byte> keys(geometry.IndexBytes(static_cast<uint32_t>(context.token_count)));
    absl::Status status = (*reader)->ReadIndexKeys(layer, 0, (*reader)->block_count(), keys);
    if (!status.ok()) return status;
    digest.Add(keys.data(), keys.size());
  }
  return digest.Hex();
}

std::string ExpectedKey(uint64_t number, size_t documents) {
  return fmt::format("{}/{}", number % kVariants, documents);
}

std::map<std::string, Expected> MakeExpected(const std::string& scratch, const std::string& model) {
  std::map<std::string, Expected> all;
  const auto ingest = [&](engine::Engine& engine, uint64_t number, std::string_view document) {
    testing::Upload(engine, NameOf(number), std::string(document), DocumentText(document, number));
  };
  for (uint64_t number = 0; number < kVariants; ++number) {
    for (const size_t documents : {2, 3}) {
      Expected& expected = all[ExpectedKey(number, documents)];
      // A directory of its own: nothing is shared, nothing was there before.
      const std::string data = fmt::format("{}/expected-{}-{}", scratch, number, documents);
      {
        auto engine = Must(engine::Engine::Open(CampaignEngine(data, model, 1024)), "open");
        ingest(*engine, number, "common");
        ingest(*engine, number, "own");
        if (documents == 3) ingest(*engine, number, "extra");
        const engine::Operation ended = testing::IngestAndWait(*engine, NameOf(number));
        if (!ended.error.ok()) Must<int>(ended.error, "ingest");
        const engine::Answer answer = Must(testing::AskAndWait(*engine, Question(number)), "ask");
        expected.text = answer.text;
        expected.answer = AnswerDigest(answer);
        Must(engine->CreateSession({.corpus = NameOf(number), .id = "talk"}, "", 0), "session");
        for (int turn = 0; turn < kTurns; ++turn) {
          expected.turns[turn] =
              AnswerDigest(Must(testing::AskAndWait(*engine, TurnQuestion(number, turn)), "turn"));
        }
      }
      auto store = Must(storage::Store::Open({.directory = data}), "open");
      const auto tenant = Must(store->catalog().GetTenant(storage::kDefaultTenantId), "tenant");
      const auto corpus = Must(store->catalog().GetCorpus(tenant.uid, CorpusId(number)), "corpus");
      const auto generation =
          Must(store->catalog().GetGeneration(corpus.current_generation), "generation");
      expected.tokens = generation.contexts[0].token_count;
      expected.cache = Must(CacheDigest(store.get(), tenant.uid, generation), "digest");
    }
  }
  return all;
}

}  // namespace lectern::campaign
