// Corpora of several contexts on a small random model: what lies where, what is read and answered,
// and that everything that holds for one context holds for each of several.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/data_dir.h"
#include "engine/engine.h"
#include "engine/error/error.h"
#include "storage/keys.h"
#include "storage/rocksdb_store.h"
#include "storage/store.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::IngestAndWait;
using testing::RandomText;
using testing::RetrieveAndWait;
using testing::TemporaryDirectory;
using testing::Upload;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};
constexpr int64_t kContextTokens = 2048;

class ContextsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    model_ = new TemporaryDirectory();
    testing::WriteRandomModel({}, model_->path());
    // Two documents in the first context, one that is cut in the next two, one in each of two more.
    documents_ = new std::map<std::string, std::string>{{"a", RandomText(450, 1)},
                                                        {"b", RandomText(150, 2)},
                                                        {"c", RandomText(1300, 3)},
                                                        {"d", RandomText(550, 4)},
                                                        {"e", RandomText(550, 5)}};
    data_ = new TemporaryDirectory();
    const auto engine = Open(data_->path());
    UploadAll(*engine, kCorpus);
    operation_ = new Operation(IngestAndWait(*engine, kCorpus));
  }
  static void TearDownTestSuite() {
    delete operation_;
    delete data_;
    delete documents_;
    delete model_;
  }

  static EngineOptions Options(const std::string& data_dir) {
    return {.data_dir = data_dir,
            .model_dir = model_->path(),
            .pool_bytes = 64 << 20,
            .index_bytes = 64 << 20,
            .context_tokens = kContextTokens};
  }
  static std::unique_ptr<Engine> Open(const EngineOptions& options) {
    auto engine = Engine::Open(options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
  static std::unique_ptr<Engine> Open(const std::string& data_dir) {
    return Open(Options(data_dir));
  }
  static void UploadAll(Engine& engine, const CorpusName& corpus) {
    for (const auto& [id, text] : *documents_) Upload(engine, corpus, id, text);
  }
  // A copy of the corpus's directory, to be changed.
  std::string Copy() const {
    std::filesystem::copy(data_->path(), copy_ / "data", std::filesystem::copy_options::recursive);
    return copy_ / "data";
  }

  static AskRequest Question(int contexts = 1) {
    return {.target = {.corpus = kCorpus},
            .question = "where is the corden?",
            .max_tokens = 12,
            .contexts = contexts};
  }

  struct Asked {
    std::vector<Answer> answers;
    std::string events;                 // s, t and a in the order of the calls
    std::vector<std::string> streamed;  // by answer
    absl::Status status;
  };
  static Asked Ask(Engine& engine, const AskRequest& request) {
    Asked asked;
    std::promise<void> ended;
    const auto add = [&](char event) {
      if (event != 't' || !asked.events.ends_with('t')) asked.events += event;
    };
    auto ticket = engine.Ask(request, {.started =
                                           [&](const AnswerStarted& started) {
                                             add('s');
                                             asked.streamed.emplace_back();
                                           },
                                       .text =
                                           [&](std::string_view text) {
                                             add('t');
                                             asked.streamed.back() += text;
                                           },
                                       .answered =
                                           [&](const Answer& answer) {
                                             add('a');
                                             asked.answers.push_back(answer);
                                           },
                                       .done =
                                           [&](absl::StatusOr<Answer> answer) {
                                             add('d');
                                             asked.status = answer.status();
                                             if (answer.ok()) asked.answers.push_back(*answer);
                                             ended.set_value();
                                           }});
    if (ticket.ok()) {
      ended.get_future().wait();
    } else {
      asked.status = ticket.status();
    }
    return asked;
  }

  static TemporaryDirectory* model_;
  static TemporaryDirectory* data_;
  static std::map<std::string, std::string>* documents_;
  static Operation* operation_;
  const TemporaryDirectory copy_;
};
TemporaryDirectory* ContextsTest::model_ = nullptr;
TemporaryDirectory* ContextsTest::data_ = nullptr;
std::map<std::string, std::string>* ContextsTest::documents_ = nullptr;
Operation* ContextsTest::operation_ = nullptr;

TEST_F(ContextsTest, ACorpusLargerThanAContextIsInSeveral) {
  ASSERT_TRUE(operation_->error.ok()) << operation_->error;
  EXPECT_EQ(operation_->contexts, 5);
  EXPECT_EQ(operation_->documents, 5);
  EXPECT_EQ(operation_->tokens_done, operation_->tokens_total);
  const auto engine = Open(data_->path());
  EXPECT_EQ(engine->GetCorpus(kCorpus)->context_count, 5);
  const auto generation = engine->GetGeneration({kCorpus, operation_->generation});
  ASSERT_TRUE(generation.ok()) << generation.status();
  ASSERT_EQ(generation->contexts.size(), 5u);
  int64_t tokens = 0;
  std::vector<std::string> places;
  for (const ContextInfo& context : generation->contexts) {
    EXPECT_EQ(context.index, static_cast<int>(places.size()));
    EXPECT_EQ(context.count, 5);
    EXPECT_LE(context.token_count, kContextTokens);
    tokens += context.token_count;
    places.push_back(context.first_document + context.last_document +
                     std::to_string(context.document_count));
  }
  EXPECT_THAT(places, ::testing::ElementsAre("ab2", "cc1", "cc1", "dd1", "ee1"));
  EXPECT_EQ(tokens, generation->token_count);
  EXPECT_EQ(tokens, operation_->tokens_total);
  // All of it is there already, whoever counts.
  const Operation counted = *engine->IngestCorpus(kCorpus, /*validate_only=*/true);
  EXPECT_EQ(counted.contexts, 5);
  EXPECT_EQ(counted.tokens_total, tokens);
  EXPECT_GT(counted.tokens_cached, tokens - 5 * 128);
}

TEST_F(ContextsTest, RetrieveRanksSpansOfAllContexts) {
  const auto engine = Open(data_->path());
  const auto found = RetrieveAndWait(
      *engine, {.target = {.corpus = kCorpus}, .query = "where is the corden?", .limit = 64});
  ASSERT_TRUE(found.ok()) << found.status();
  std::set<int> contexts;
  double share = 0;
  for (const Evidence& span : found->spans) {
    const std::string& source = documents_->at(span.document);
    ASSERT_LT(span.byte_begin, span.byte_end);
    ASSERT_LE(span.byte_end, static_cast<int64_t>(source.size()));
    EXPECT_EQ(span.quote, source.substr(span.byte_begin, span.byte_end - span.byte_begin));
    contexts.insert(span.context);
    share += span.share;
    EXPECT_GT(span.mass, 0);
    EXPECT_LE(span.mass, 1);
  }
  EXPECT_GT(contexts.size(), 1u);
  EXPECT_LE(share, 1 + 1e-9);
  EXPECT_TRUE(std::is_sorted(found->spans.begin(), found->spans.end(),
                             [](const auto& a, const auto& b) { return a.mass > b.mass; }));
  ASSERT_EQ(found->contexts.size(), 5u);
  std::set<int> read;
  for (const ContextFinding& finding : found->contexts) {
    read.insert(finding.context.index);
    EXPECT_GT(finding.coverage.mean, 0);
    EXPECT_LE(finding.coverage.mean, 1);
  }
  EXPECT_EQ(read.size(), 5u);
  EXPECT_EQ(found->contexts[0].context.index, found->spans[0].context);
  EXPECT_EQ(found->contexts[0].mass, found->spans[0].mass);
  EXPECT_EQ(found->coverage.mean, found->contexts[0].coverage.mean);
  EXPECT_EQ(found->usage.cached_tokens, operation_->tokens_total) << "all of them were read";
}

TEST_F(ContextsTest, TheBestContextsAnswerEachByItself) {
  const std::string data = Copy();
  std::vector<Answer> first;
  {
    const auto engine = Open(data);
    const auto found =
        RetrieveAndWait(*engine, {.target = {.corpus = kCorpus}, .query = Question().question});
    ASSERT_TRUE(found.ok()) << found.status();
    const Asked asked = Ask(*engine, Question(3));
    ASSERT_TRUE(asked.status.ok()) << asked.status;
    EXPECT_EQ(asked.events, "stastastd");
    ASSERT_EQ(asked.answers.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      const Answer& answer = asked.answers[i];
      EXPECT_EQ(answer.context.index, found->contexts[i].context.index);
      EXPECT_EQ(answer.context.first_document, found->contexts[i].context.first_document);
      EXPECT_EQ(answer.text, asked.streamed[i]);
      for (const Evidence& span : answer.evidence) EXPECT_EQ(span.context, answer.context.index);
      // A session in that context says the same.
      const std::string id = "s" + std::to_string(i);
      ASSERT_TRUE(engine->CreateSession({kCorpus, id}, "", 0, answer.context.index).ok());
      AskRequest pinned = Question();
      pinned.target.session = id;
      const auto same = AskAndWait(*engine, pinned);
      ASSERT_TRUE(same.ok()) << same.status();
      EXPECT_EQ(same->text, answer.text);
      EXPECT_EQ(same->context.index, answer.context.index);
      EXPECT_EQ(same->coverage.mean, answer.coverage.mean);
      ASSERT_EQ(same->evidence.size(), answer.evidence.size());
      for (size_t e = 0; e < same->evidence.size(); ++e) {
        EXPECT_EQ(same->evidence[e].mass, answer.evidence[e].mass);
        EXPECT_EQ(same->evidence[e].quote, answer.evidence[e].quote);
      }
      EXPECT_EQ(same->usage.generated_tokens, answer.usage.generated_tokens);
      EXPECT_EQ(answer.usage.cached_tokens,
                same->usage.cached_tokens + (i == 0 ? operation_->tokens_total : 0));
    }
    EXPECT_EQ(Ask(*engine, Question(8)).answers.size(), 5u) << "as many as there are";
    first = asked.answers;
    EXPECT_EQ(engine->GetStats()->open_contexts, 0);
    EXPECT_EQ(engine->GetStats()->pending_tokens, 0);
  }
  // After a restart, and whatever length contexts have now.
  EngineOptions options = Options(data);
  options.context_tokens = 0;
  const auto engine = Open(options);
  const Asked again = Ask(*engine, Question(3));
  ASSERT_EQ(again.answers.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(again.answers[i].text, first[i].text);
  EXPECT_EQ(engine->GetStats()->corpus_prefill_tokens, 0);
}

TEST_F(ContextsTest, ASessionStaysInItsContext) {
  const std::string data = Copy();
  int64_t tokens = 0;
  {
    const auto engine = Open(data);
    const auto unsaid = engine->CreateSession({kCorpus, "s"}, "", 0);
    EXPECT_EQ(unsaid.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ReasonOf(unsaid.status()), "CONTEXT_MISSING");
    EXPECT_EQ(MetadataOf(unsaid.status()).at("contexts"), "5");
    for (const int none : {-1, 5}) {
      EXPECT_EQ(ReasonOf(engine->CreateSession({kCorpus, "s"}, "", 0, none).status()),
                "CONTEXT_NOT_FOUND");
    }
    ASSERT_EQ(engine->CreateSession({kCorpus, "s"}, "", 0, 3)->context, 3);
    AskRequest request = Question();
    request.target.session = "s";
    ASSERT_TRUE(AskAndWait(*engine, request).ok());
    ASSERT_EQ(engine->ForkSession({kCorpus, "s"}, std::nullopt, "fork")->context, 3);
    tokens = engine->GetSession({kCorpus, "s"})->token_count;
  }
  const auto engine = Open(data);
  AskRequest request = Question(4);
  std::vector<std::string> texts;
  for (const std::string session : {"s", "fork"}) {
    request.target.session = session;
    const Asked asked = Ask(*engine, request);
    ASSERT_EQ(asked.answers.size(), 1u) << "a session has one context: " << asked.status;
    EXPECT_EQ(asked.answers[0].context.index, 3);
    EXPECT_EQ(asked.answers[0].turn, 2);
    EXPECT_EQ(asked.answers[0].usage.cached_tokens, tokens);
    texts.push_back(asked.answers[0].text);
  }
  EXPECT_EQ(texts[0], texts[1]);
  const auto turns = engine->ListTurns({kCorpus, "s"}, {});
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->items.size(), 2u);
  ASSERT_FALSE(turns->items[0].answer.evidence.empty());
  for (const Evidence& span : turns->items[0].answer.evidence) EXPECT_EQ(span.context, 3);
  const auto found = RetrieveAndWait(
      *engine, {.target = {.corpus = kCorpus, .session = "s"}, .query = "which one?"});
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->contexts.size(), 1u);
  EXPECT_EQ(found->contexts[0].context.index, 3);
}

TEST_F(ContextsTest, AnAddedDocumentCostsNoContextBeforeIt) {
  const auto engine = Open(Copy());
  Upload(*engine, kCorpus, "f", RandomText(450, 6));
  const Operation operation = IngestAndWait(*engine, kCorpus);
  ASSERT_TRUE(operation.error.ok()) << operation.error;
  EXPECT_EQ(operation.contexts, 6);
  const int64_t added = operation.tokens_total - operation_->tokens_total;
  EXPECT_LE(operation.tokens_total - operation.tokens_cached, added + 5 * 127)
      << "the new document, and the tails of the others";
  EXPECT_EQ(Ask(*engine, Question(8)).answers.size(), 6u);
}

// Evicted or damaged, a cache comes back as it was, also where contexts are cut otherwise now.
TEST_F(ContextsTest, DamageInOneContextIsRepairedInTheSameContexts) {
  const std::string before = testing::StoredCacheDigest(data_->path(), kCorpus.corpus);
  const std::string data = Copy();
  std::string answer;
  {
    const auto engine = Open(data);
    ASSERT_TRUE(engine->CreateSession({kCorpus, "s"}, "", 0, 2).ok());
    AskRequest request = Question();
    request.target.session = "s";
    ASSERT_TRUE(AskAndWait(*engine, request).ok());
    answer = Ask(*engine, Question()).answers.at(0).text;
  }
  std::string key;
  {
    const auto store = *storage::Store::Open({.directory = data});
    const auto tenant = *store->catalog().GetTenant("default");
    const auto corpus = *store->catalog().GetCorpus(tenant.uid, kCorpus.corpus);
    const auto generation = *store->catalog().GetGeneration(corpus.current_generation);
    key = storage::KvKey(tenant.uid, generation.contexts[2].segments[0].lineage, 3, 1);
  }
  {
    const auto bytes =
        *storage::OpenRocksDbStore({.directory = data + "/db", .load_directory = data + "/load"});
    storage::PinnedValue value;
    ASSERT_TRUE(bytes->Get(storage::ColumnFamily::kKv, key, &value).ok());
    std::string damaged(value.view());
    damaged.back() = static_cast<char>(damaged.back() ^ 1);
    storage::Batch batch;
    batch.Put(storage::ColumnFamily::kKv, key, damaged);
    ASSERT_TRUE(bytes->Write(batch, storage::Durability::kSynced).ok());
  }
  const auto report = VerifyDataDir(data, 0);
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_EQ(report->damages.size(), 1u);
  EXPECT_EQ(report->damages[0].kind, "blocks");
  EXPECT_THAT(report->damages[0].corpora, ::testing::ElementsAre("default/library"));
  {
    EngineOptions options = Options(data);
    options.context_tokens = 0;
    options.scrub_bytes_per_second = int64_t{1} << 30;
    const auto engine = Open(options);
    for (;;) {
      const Stats stats = *engine->GetStats();
      if (stats.repair_rebuilds == 1 &&
          engine->GetCorpus(kCorpus)->cache_residency == Residency::kComplete) {
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    const Stats stats = *engine->GetStats();
    EXPECT_EQ(stats.quarantined_generations, 1);
    EXPECT_GT(stats.corpus_prefill_tokens, 0);
    EXPECT_EQ(Ask(*engine, Question()).answers.at(0).text, answer);
    AskRequest request = Question();
    request.target.session = "s";
    EXPECT_EQ(Ask(*engine, request).answers.at(0).turn, 2) << "the session goes on";
  }
  EXPECT_EQ(testing::StoredCacheDigest(data, kCorpus.corpus), before);
}

TEST_F(ContextsTest, MovesToAnotherEngineWithItsSessions) {
  const auto from = Open(Copy());
  const auto to = Open("");
  for (const int context : {0, 4}) {
    const std::string id = "s" + std::to_string(context);
    ASSERT_TRUE(from->CreateSession({kCorpus, id}, "", 0, context).ok());
    AskRequest request = Question();
    request.target.session = id;
    ASSERT_TRUE(AskAndWait(*from, request).ok());
  }
  {
    const auto out = *from->ExportCorpus(kCorpus, {}, {}, {.last = true});
    const auto import = *to->ImportCorpus(kCorpus, out->origin());
    ASSERT_TRUE(import->BeginRound(out->bytes()).ok());
    for (;;) {
      const auto record = out->Next();
      ASSERT_TRUE(record.ok()) << record.status();
      if (!record->has_value()) break;
      ASSERT_TRUE(import->Add(**record).ok());
    }
    ASSERT_TRUE(import->EndRound().ok());
    ASSERT_TRUE(import->Publish().ok());
    ASSERT_TRUE(to->FinishImport(import->uid()).ok());
  }
  const Asked here = Ask(*from, Question(5));
  const Asked there = Ask(*to, Question(5));
  ASSERT_EQ(here.answers.size(), 5u) << here.status;
  ASSERT_EQ(there.answers.size(), 5u) << there.status;
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(there.answers[i].text, here.answers[i].text);
    EXPECT_EQ(there.answers[i].context.index, here.answers[i].context.index);
  }
  for (const std::string id : {"s0", "s4"}) {
    AskRequest request = Question();
    request.target.session = id;
    EXPECT_EQ(AskAndWait(*to, request)->text, AskAndWait(*from, request)->text);
    EXPECT_EQ(to->GetSession({kCorpus, id})->context, from->GetSession({kCorpus, id})->context);
  }
  EXPECT_EQ(to->GetStats()->corpus_prefill_tokens, 0);
  // It grows there as it would have here.
  Upload(*to, kCorpus, "f", RandomText(450, 6));
  const Operation operation = IngestAndWait(*to, kCorpus);
  EXPECT_EQ(operation.contexts, 6);
  const int64_t added = operation.tokens_total - operation_->tokens_total;
  EXPECT_LE(operation.tokens_total - operation.tokens_cached, added + 5 * 127);
}

// Index keys of one context fit, those of two do not: contexts are read one after the other, and
// many questions at once get their answers.
TEST_F(ContextsTest, MemoryForOneContextIsEnough) {
  std::string answer;
  int64_t slot_bytes = 0;
  {
    const auto engine = Open(data_->path());
    answer = Ask(*engine, Question()).answers.at(0).text;
    slot_bytes = engine->GetModel().index_bytes_per_token * 128;
  }
  EngineOptions options = Options(data_->path());
  options.index_bytes = slot_bytes * (kContextTokens / 128 + 8);
  const auto engine = Open(options);
  std::vector<std::future<Asked>> asked;
  for (int i = 0; i < 6; ++i) {
    asked.push_back(std::async(std::launch::async, [&] { return Ask(*engine, Question(2)); }));
  }
  for (std::future<Asked>& one : asked) {
    const Asked result = one.get();
    ASSERT_EQ(result.answers.size(), 2u) << result.status;
    EXPECT_EQ(result.answers[0].text, answer);
  }
  EXPECT_EQ(engine->GetStats()->open_contexts, 0);
}

TEST_F(ContextsTest, WhatCannotBeIsSaid) {
  const auto engine = Open(data_->path());
  EXPECT_EQ(ReasonOf(Ask(*engine, Question(9)).status), "ARGUMENT_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOf(Ask(*engine, Question(-1)).status), "ARGUMENT_OUT_OF_RANGE");
  AskRequest late = Question();
  late.deadline_us = 1;  // 1970
  EXPECT_EQ(Ask(*engine, late).status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(engine->GetModel().contexts_limit, 64);
  EXPECT_EQ(engine->GetModel().context_limit_tokens, kContextTokens);
  EngineOptions options = Options("");
  options.context_tokens = 255;
  EXPECT_EQ(ReasonOf(Engine::Open(options).status()), "OPTION_INVALID");
  options.context_tokens = 256;
  const auto small = Open(options);
  Upload(*small, kCorpus, "a", RandomText(7000, 7));
  const Operation operation = IngestAndWait(*small, kCorpus);
  EXPECT_EQ(operation.error.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(operation.error), "CORPUS_TOO_LONG");
  EXPECT_EQ(MetadataOf(operation.error)["limit"], "64");
  EXPECT_GT(std::stoll(MetadataOf(operation.error)["contexts"]), 64);
  EXPECT_GT(std::stoll(MetadataOf(operation.error)["tokens"]), 64 * 256);
}

TEST_F(ContextsTest, ACancelledQuestionEndsWhicheverContextItIsIn) {
  const auto engine = Open(data_->path());
  std::promise<void> second_started, cancelled;
  std::promise<absl::Status> ended;
  int starts = 0;
  int answers = 0;
  auto ticket = engine->Ask(
      Question(5),
      {.started =
           [&](const AnswerStarted&) {
             if (++starts != 2) return;
             second_started.set_value();
             cancelled.get_future().wait();
           },
       .answered = [&](const Answer&) { ++answers; },
       .done = [&](absl::StatusOr<Answer> answer) { ended.set_value(answer.status()); }});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  second_started.get_future().wait();
  (*ticket)->Cancel();
  cancelled.set_value();
  EXPECT_EQ(ended.get_future().get().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(engine->GetStats()->open_contexts, 0);
  EXPECT_EQ(engine->GetStats()->pending_tokens, 0);
}

// A server that goes down lets a question that is between two contexts finish.
TEST_F(ContextsTest, ADrainLetsAllAnswersOfAQuestionFinish) {
  const auto engine = Open(data_->path());
  std::promise<void> started;
  std::promise<absl::StatusOr<Answer>> done;
  int starts = 0;
  int answers = 0;
  auto ticket = engine->Ask(
      Question(5), {.started =
                        [&](const AnswerStarted&) {
                          if (++starts == 1) started.set_value();
                        },
                    .answered = [&](const Answer&) { ++answers; },
                    .done = [&](absl::StatusOr<Answer> answer) { done.set_value(answer); }});
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  started.get_future().wait();
  engine->Drain(int64_t{600} * 1000 * 1000);
  const auto last = done.get_future().get();
  EXPECT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(answers, 4);
}

}  // namespace
}  // namespace lectern::engine
