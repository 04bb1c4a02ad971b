// The engine as services see it, on a small random model: what is stored, what survives, what must
// not change an answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <map>
#include <set>
#include <thread>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::IngestAndWait;
using testing::RandomModel;
using testing::RandomText;
using testing::RetrieveAndWait;
using testing::StoredCacheDigest;
using testing::TemporaryDirectory;
using testing::Upload;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};

class LocalEngineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TemporaryDirectory();
    testing::WriteRandomModel({}, model_->path());
  }
  static void TearDownTestSuite() { delete model_; }

  EngineOptions Options(const std::string& data_dir = "") const {
    return {.data_dir = data_dir,
            .model_dir = model_->path(),
            .pool_bytes = 64 << 20,
            .index_bytes = 64 << 20};
  }
  static std::unique_ptr<Engine> Open(const EngineOptions& options) {
    auto engine = Engine::Open(options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  static AskRequest Question(const std::string& text, int max_tokens = 24) {
    return {.target = {.corpus = kCorpus}, .question = text, .max_tokens = max_tokens};
  }

  static TemporaryDirectory* model_;
};
TemporaryDirectory* LocalEngineTest::model_ = nullptr;

TEST_F(LocalEngineTest, AnswersTheSameAfterARestartWithoutPrefill) {
  TemporaryDirectory data;
  Answer first;
  {
    auto engine = Open(Options(data.path()));
    Upload(*engine, kCorpus, "a", RandomText(3000, 1));
    Upload(*engine, kCorpus, "b", RandomText(500, 2));
    const Operation operation = IngestAndWait(*engine, kCorpus);
    ASSERT_TRUE(operation.error.ok()) << operation.error;
    EXPECT_EQ(operation.tokens_done, operation.tokens_total);
    EXPECT_EQ(operation.tokens_cached, 0);
    EXPECT_GT(operation.tokens_total, 4096) << "selection must be at work";
    std::string streamed;
    auto answer = AskAndWait(*engine, Question("what is it?"), &streamed);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(streamed, answer->text);
    EXPECT_EQ(answer->usage.cached_tokens, operation.tokens_total);
    EXPECT_GT(answer->usage.generated_tokens, 0);
    first = *answer;
  }
  auto engine = Open(Options(data.path()));
  auto answer = AskAndWait(*engine, Question("what is it?"));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->text, first.text);
  EXPECT_EQ(answer->usage.generated_tokens, first.usage.generated_tokens);
  EXPECT_EQ(answer->coverage.mean, first.coverage.mean);
  ASSERT_EQ(answer->evidence.size(), first.evidence.size());
  for (size_t i = 0; i < first.evidence.size(); ++i) {
    EXPECT_EQ(answer->evidence[i].document, first.evidence[i].document);
    EXPECT_EQ(answer->evidence[i].byte_begin, first.evidence[i].byte_begin);
    EXPECT_EQ(answer->evidence[i].mass, first.evidence[i].mass);
  }
  EXPECT_EQ(answer->usage.corpus_prefill_tokens, 0);
  EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, 0);
  EXPECT_GT(answer->usage.disk_bytes, 0);
}

// The numeric contract: a block's bytes do not depend on the chunks in which it was prefilled.
TEST_F(LocalEngineTest, StoredCacheIsBitwiseTheSameForEveryChunkSize) {
  const std::string text = RandomText(1900, 3);
  std::string expected;
  for (const int chunk : {1000, 1, 7, 128, 1 << 20}) {
    TemporaryDirectory data;
    EngineOptions options = Options(data.path());
    options.prefill_chunk_tokens = chunk;
    {
      auto engine = Open(options);
      Upload(*engine, kCorpus, "a", text);
      ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
    }
    const std::string digest = StoredCacheDigest(data.path(), kCorpus.corpus);
    if (expected.empty()) expected = digest;
    EXPECT_EQ(digest, expected) << "chunks of " << chunk;
  }
}

TEST_F(LocalEngineTest, APoolSmallerThanTheContextGivesTheSameTokens) {
  TemporaryDirectory data;
  {
    auto engine = Open(Options(data.path()));
    Upload(*engine, kCorpus, "a", RandomText(6000, 4));
    ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  }
  std::vector<std::string> texts;
  for (const int64_t pool_bytes : {int64_t{64} << 20, int64_t{5} << 20}) {
    EngineOptions options = Options(data.path());
    options.pool_bytes = pool_bytes;
    auto engine = Open(options);
    ASSERT_NE(engine, nullptr);
    auto answer = AskAndWait(*engine, Question("which one?", 48));
    ASSERT_TRUE(answer.ok()) << answer.status();
    texts.push_back(answer->text);
    const Stats stats = *engine->GetStats();
    if (pool_bytes == int64_t{5} << 20) {
      EXPECT_LT(stats.pool_blocks, stats.cached_tokens / 128 * 2)
          << "the pool was meant to be smaller than the context";
    }
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_FALSE(texts[0].empty());
}

TEST_F(LocalEngineTest, SparseEqualsDenseBelow2048Tokens) {
  std::vector<std::string> texts;
  for (const AttentionMode mode : {AttentionMode::kSparse, AttentionMode::kDense}) {
    EngineOptions options = Options();
    options.attention = mode;
    auto engine = Open(options);
    Upload(*engine, kCorpus, "a", RandomText(600, 5));
    const Operation operation = IngestAndWait(*engine, kCorpus);
    ASSERT_TRUE(operation.error.ok());
    ASSERT_LT(operation.tokens_total, 1900);
    ASSERT_GT(operation.tokens_total, 1024);
    auto answer = AskAndWait(*engine, Question("why?", 32));
    ASSERT_TRUE(answer.ok()) << answer.status();
    texts.push_back(answer->text);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

TEST_F(LocalEngineTest, DenseAndSparseCachesAreKeptApart) {
  TemporaryDirectory data;
  {
    auto engine = Open(Options(data.path()));
    Upload(*engine, kCorpus, "a", RandomText(300, 6));
    ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  }
  EngineOptions options = Options(data.path());
  options.attention = AttentionMode::kDense;
  auto engine = Open(options);
  auto answer = AskAndWait(*engine, Question("why?"));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(answer.status()), "MODEL_MISMATCH");
  const Operation operation = IngestAndWait(*engine, kCorpus);
  EXPECT_TRUE(operation.error.ok());
  EXPECT_EQ(operation.tokens_cached, 0) << "a sparse model's blocks must not serve a dense one";
  EXPECT_TRUE(AskAndWait(*engine, Question("why?")).ok());
}

TEST_F(LocalEngineTest, AGrownCorpusReusesTheBlocksOfItsPrefix) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(2000, 7));
  const Operation first = IngestAndWait(*engine, kCorpus);
  EXPECT_FALSE(engine->GetCorpus(kCorpus)->stale);
  Upload(*engine, kCorpus, "b", RandomText(400, 8));
  EXPECT_TRUE(engine->GetCorpus(kCorpus)->stale);
  const Operation second = IngestAndWait(*engine, kCorpus);
  ASSERT_TRUE(second.error.ok());
  EXPECT_EQ(second.tokens_cached, first.tokens_total / 128 * 128);
  EXPECT_NE(first.generation, second.generation);
  // The old generation still answers.
  AskRequest pinned = Question("when?");
  pinned.target.generation = first.generation;
  EXPECT_TRUE(AskAndWait(*engine, pinned).ok());
  // Another corpus of the tenant with the same beginning shares the blocks as well.
  const CorpusName other = {.tenant = "default", .corpus = "other"};
  Upload(*engine, other, "a", RandomText(2000, 7));
  EXPECT_EQ(IngestAndWait(*engine, other).tokens_cached, first.tokens_total / 128 * 128);
}

TEST_F(LocalEngineTest, ASessionGoesOnAfterARestartAsIfNothingHadHappened) {
  const std::string text = RandomText(2500, 9);
  const std::vector<std::string> questions = {"who?", "where did it go then?", "and why?"};
  std::vector<std::string> undisturbed;
  {
    auto engine = Open(Options());
    Upload(*engine, kCorpus, "a", text);
    ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
    ASSERT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = "s"}, "", 0).ok());
    for (const std::string& question : questions) {
      AskRequest request = Question(question, 70);
      request.target.session = "s";
      auto answer = AskAndWait(*engine, request);
      ASSERT_TRUE(answer.ok()) << answer.status();
      undisturbed.push_back(answer->text);
    }
  }
  TemporaryDirectory data;
  int64_t tokens_before = 0;
  for (size_t turn = 0; turn < questions.size(); ++turn) {
    auto engine = Open(Options(data.path()));
    if (turn == 0) {
      Upload(*engine, kCorpus, "a", text);
      ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
      ASSERT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = "s"}, "", 0).ok());
    }
    AskRequest request = Question(questions[turn], 70);
    request.target.session = "s";
    auto answer = AskAndWait(*engine, request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->text, undisturbed[turn]) << "turn " << turn;
    EXPECT_EQ(answer->turn, static_cast<int>(turn) + 1);
    if (turn > 0) {
      EXPECT_EQ(answer->usage.cached_tokens, tokens_before)
          << "earlier turns are read, not computed";
    }
    const Session session = *engine->GetSession({.corpus = kCorpus, .id = "s"});
    EXPECT_EQ(session.turn_count, static_cast<int>(turn) + 1);
    tokens_before = session.token_count;
  }
  auto engine = Open(Options(data.path()));
  auto turns = engine->ListTurns({.corpus = kCorpus, .id = "s"}, {});
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->items.size(), questions.size());
  for (size_t turn = 0; turn < questions.size(); ++turn) {
    EXPECT_EQ(turns->items[turn].question, questions[turn]);
    EXPECT_EQ(turns->items[turn].answer.text, undisturbed[turn]);
  }
}

TEST_F(LocalEngineTest, AForkSharesTheTurnsAndGoesItsOwnWay) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(2500, 10));
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  const ResourceName trunk = {.corpus = kCorpus, .id = "trunk"};
  ASSERT_TRUE(engine->CreateSession(trunk, "", 0).ok());
  const auto ask = [&](const std::string& session, const std::string& question) {
    AskRequest request = Question(question, 40);
    request.target.session = session;
    auto answer = AskAndWait(*engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->text : "";
  };
  ask("trunk", "one?");
  auto early = engine->ForkSession(trunk, std::nullopt, "early");
  ASSERT_TRUE(early.ok()) << early.status();
  EXPECT_EQ(early->turn_count, 1);
  EXPECT_EQ(early->forked_from, "trunk");
  const std::string second = ask("trunk", "two?");
  auto late =
      engine->ForkSession(trunk, 1, "late");  // after the trunk has grown past the fork's tail
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_EQ(ask("early", "two?"), second);
  EXPECT_EQ(ask("late", "two?"), second);
  EXPECT_EQ(ask("trunk", "three?"), ask("early", "three?"));
  EXPECT_EQ(ReasonOf(engine->ForkSession(trunk, 9, "x").status()), "TURN_OUT_OF_RANGE");
  ASSERT_TRUE(engine->DeleteSession(trunk).ok());
  EXPECT_FALSE(ask("late", "four?").empty());
}

TEST_F(LocalEngineTest, AnswersDoNotDependOnWhatElseRuns) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(4000, 11));
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  std::vector<std::string> alone;
  for (int i = 0; i < 6; ++i) {
    alone.push_back(AskAndWait(*engine, Question("question " + std::to_string(i)))->text);
  }
  const CorpusName busy = {.tenant = "default", .corpus = "busy"};
  Upload(*engine, busy, "b", RandomText(6000, 12));
  auto ingest = engine->IngestCorpus(busy, false);
  ASSERT_TRUE(ingest.ok());
  std::vector<std::future<absl::StatusOr<Answer>>> together;
  for (int i = 0; i < 6; ++i) {
    together.push_back(std::async(std::launch::async, [&, i] {
      return AskAndWait(*engine, Question("question " + std::to_string(i)));
    }));
  }
  for (int i = 0; i < 6; ++i) {
    auto answer = together[i].get();
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->text, alone[i]) << i;
  }
}

TEST_F(LocalEngineTest, EvidenceQuotesTheSourceByteForByte) {
  auto engine = Open(Options());
  const std::map<std::string, std::string> documents = {
      {"a", "\xEF\xBB\xBF" + RandomText(900, 13)},
      {"b",
       RandomText(50, 14) + "\r\n\r\n naïve café — 日本語 🙂\t" + RandomText(500, 15)},
      {"c", RandomText(1200, 16)}};
  for (const auto& [id, text] : documents) Upload(*engine, kCorpus, id, text);
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  auto found =
      RetrieveAndWait(*engine, {.target = {.corpus = kCorpus}, .query = "what?", .limit = 64});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_FALSE(found->spans.empty());
  for (const Evidence& span : found->spans) {
    ASSERT_TRUE(documents.contains(span.document));
    const std::string& source = documents.at(span.document);
    ASSERT_LE(0, span.byte_begin);
    ASSERT_LT(span.byte_begin, span.byte_end);
    ASSERT_LE(span.byte_end, static_cast<int64_t>(source.size()));
    EXPECT_EQ(span.quote, source.substr(span.byte_begin, span.byte_end - span.byte_begin));
    EXPECT_GT(span.mass, 0);
    EXPECT_LE(span.share, 1);
  }
  for (size_t i = 1; i < found->spans.size(); ++i)
    EXPECT_GE(found->spans[i - 1].mass, found->spans[i].mass);
  EXPECT_GT(found->coverage.mean, 0);
  EXPECT_LE(found->coverage.mean, 1);
  EXPECT_LE(found->coverage.min_row, found->coverage.mean);
}

// Every length around a block border, so that full, nearly full and barely begun tails all serve.
TEST_F(LocalEngineTest, CorporaOfEveryTailLength) {
  std::set<int64_t> tails;
  auto engine = Open(Options());
  for (int words = 100; words < 400 && tails.size() < 3; ++words) {
    const CorpusName corpus = {.tenant = "default", .corpus = "w" + std::to_string(words)};
    Upload(*engine, corpus, "a", RandomText(words, 17));
    const int64_t tail = engine->IngestCorpus(corpus, true)->tokens_total % 128;
    if ((tail != 0 && tail != 1 && tail != 127) || !tails.insert(tail).second) continue;
    ASSERT_TRUE(IngestAndWait(*engine, corpus).error.ok());
    AskRequest request = Question("how?");
    request.target.corpus = corpus;
    auto first = AskAndWait(*engine, request);
    auto again = AskAndWait(*engine, request);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_EQ(first->text, again->text);
  }
  EXPECT_THAT(tails, ::testing::ElementsAre(0, 1, 127));
}

TEST_F(LocalEngineTest, CancelledIngestKeepsWhatItHadAndBlocksNothing) {
  TemporaryDirectory data;
  EngineOptions options = Options(data.path());
  options.prefill_chunk_tokens = 256;
  auto engine = Open(options);
  Upload(*engine, kCorpus, "a", RandomText(20000, 18));
  const Operation begun = *engine->IngestCorpus(kCorpus, false);
  EXPECT_EQ(ReasonOf(engine->IngestCorpus(kCorpus, false).status()), "INGEST_RUNNING");
  while (engine->GetOperation(begun.name)->tokens_done < 2048)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ASSERT_TRUE(engine->CancelOperation(begun.name).ok());
  std::promise<Operation> ended;
  auto ticket =
      engine->WatchOperation(begun.name, [&](Operation operation) { ended.set_value(operation); });
  const Operation operation = ended.get_future().get();
  EXPECT_TRUE(operation.done);
  EXPECT_EQ(operation.error.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question("?")).status()), "CORPUS_NOT_INGESTED");
  EXPECT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
}

TEST_F(LocalEngineTest, SamplingIsAFunctionOfItsSeed) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(500, 19));
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  const auto ask = [&](double temperature, uint64_t seed) {
    AskRequest request = Question("say something", 30);
    request.sampling = {.temperature = temperature, .top_p = 0.95, .seed = seed};
    return AskAndWait(*engine, request)->text;
  };
  EXPECT_EQ(ask(1.2, 5), ask(1.2, 5));
  EXPECT_NE(ask(1.2, 5), ask(1.2, 6));
  EXPECT_EQ(ask(0, 5), ask(0, 6));
}

TEST_F(LocalEngineTest, RefusesWhatItCannotDoAndSaysWhy) {
  auto engine = Open(Options());
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question("?")).status()), "CORPUS_NOT_FOUND");
  ASSERT_TRUE(engine->CreateCorpus(kCorpus, "", 0).ok());
  EXPECT_EQ(ReasonOf(engine->CreateCorpus(kCorpus, "", 0).status()), "CORPUS_EXISTS");
  EXPECT_EQ(
      ReasonOf(engine->CreateCorpus({.tenant = "default", .corpus = "Not An Id"}, "", 0).status()),
      "ID_INVALID");
  EXPECT_EQ(ReasonOf(engine->CreateCorpus({.tenant = "nobody", .corpus = "x"}, "", 0).status()),
            "TENANT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->IngestCorpus(kCorpus, false).status()), "CORPUS_EMPTY");

  const auto upload = [&](const std::string& bytes,
                          UploadHeader header = {.corpus = kCorpus, .document_id = "d"}) {
    auto begun = engine->BeginUpload(header);
    if (!begun.ok()) return ReasonOf(begun.status());
    if (absl::Status status = (*begun)->Append(bytes); !status.ok()) return ReasonOf(status);
    return ReasonOf((*begun)->Finish().status());
  };
  EXPECT_EQ(upload(""), "DOCUMENT_EMPTY");
  EXPECT_EQ(upload(std::string("a\0b", 3)), "DOCUMENT_BINARY");
  EXPECT_EQ(upload("caf\xE9"), "DOCUMENT_NOT_UTF8");
  EXPECT_EQ(
      upload("text", {.corpus = kCorpus, .document_id = "d", .sha256 = std::array<uint8_t, 32>{}}),
      "CHECKSUM_MISMATCH");
  EXPECT_EQ(upload("text", {.corpus = kCorpus, .document_id = "d", .media_type = "image/png"}),
            "MEDIA_TYPE_UNKNOWN");
  EXPECT_EQ(engine->ListDocuments(kCorpus, {})->items.size(), 0u)
      << "nothing may be stored of a refused upload";
  EXPECT_EQ(upload("text <q> that spells <a> marks <end>"), "");
  EXPECT_EQ(upload("text <q> that spells <a> marks <end>"), "")
      << "the same bytes again are no error";
  EXPECT_EQ(upload("other bytes"), "DOCUMENT_EXISTS");
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());

  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question("")).status()), "QUESTION_EMPTY");
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question(RandomText(8000, 1))).status()),
            "QUESTION_TOO_LONG");
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question("?", 1 << 20)).status()),
            "ARGUMENT_OUT_OF_RANGE");
  AskRequest request = Question("?");
  request.target.generation = "g999";
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, request).status()), "GENERATION_NOT_FOUND");
  request = Question("?");
  request.target.session = "nobody";
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, request).status()), "SESSION_NOT_FOUND");
  EXPECT_EQ(ReasonOf(engine->ListCorpora("default", {.page_token = "junk"}).status()),
            "BAD_PAGE_TOKEN");
}

TEST_F(LocalEngineTest, DrainLetsAnswersFinishAndRefusesNewOnes) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(2000, 21));
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  std::promise<absl::StatusOr<Answer>> done;
  std::promise<void> started;
  auto ticket =
      engine->Ask(Question("long?", 60),
                  {.started = [&](const AnswerStarted&) { started.set_value(); },
                   .done = [&](absl::StatusOr<Answer> a) { done.set_value(std::move(a)); }});
  ASSERT_TRUE(ticket.ok());
  started.get_future().wait();
  engine->Drain(60'000'000);
  auto answer = done.get_future().get();
  EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(ReasonOf(AskAndWait(*engine, Question("more?")).status()), "DRAINING");
}

TEST_F(LocalEngineTest, CancelAndDeadlineEndAnAnswer) {
  auto engine = Open(Options());
  Upload(*engine, kCorpus, "a", RandomText(2000, 22));
  ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
  std::promise<absl::StatusOr<Answer>> done;
  auto ticket =
      engine->Ask(Question("long?", 4096),
                  {.done = [&](absl::StatusOr<Answer> a) { done.set_value(std::move(a)); }});
  ASSERT_TRUE(ticket.ok());
  (*ticket)->Cancel();
  EXPECT_EQ(done.get_future().get().status().code(), absl::StatusCode::kCancelled);
  AskRequest late = Question("late?", 4096);
  late.deadline_us = 1;  // 1970
  EXPECT_EQ(AskAndWait(*engine, late).status().code(), absl::StatusCode::kDeadlineExceeded);
  engine->Drain(0);
  EXPECT_EQ(engine->GetStats()->running_requests, 0) << "ended questions hold nothing";
}

}  // namespace
}  // namespace lectern::engine
