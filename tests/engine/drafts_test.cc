// Guesses at what an answer copies (answer/draft.h): with them and without, answers, evidence,
// coverage and sessions are the same; with them copying takes fewer steps.
#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

using testing::AskAndWait;
using testing::IngestAndWait;
using testing::RandomText;
using testing::TemporaryDirectory;
using testing::Upload;

const CorpusName kCorpus = {.tenant = "default", .corpus = "library"};
const ResourceName kSession = {.corpus = kCorpus, .id = "s"};

std::unique_ptr<Engine> Open(EngineOptions options, bool drafts) {
  options.drafts = drafts;
  auto engine = Engine::Open(options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

Answer Ask(Engine& engine, const AskRequest& request) {
  std::string streamed;
  auto answer = AskAndWait(engine, request, &streamed);
  EXPECT_TRUE(answer.ok()) << answer.status();
  if (!answer.ok()) return {};
  EXPECT_EQ(streamed, answer->text);
  return *answer;
}

void ExpectSame(const Answer& a, const Answer& b) {
  EXPECT_EQ(a.text, b.text);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  EXPECT_EQ(a.not_in_documents, b.not_in_documents);
  EXPECT_EQ(a.turn, b.turn);
  EXPECT_EQ(a.usage.cached_tokens, b.usage.cached_tokens);
  EXPECT_EQ(a.usage.prompt_tokens, b.usage.prompt_tokens);
  EXPECT_EQ(a.usage.generated_tokens, b.usage.generated_tokens);
  EXPECT_EQ(a.usage.selections, b.usage.selections);
  EXPECT_EQ(a.usage.selected_blocks, b.usage.selected_blocks);
  EXPECT_EQ(a.usage.widened_selections, b.usage.widened_selections);
  EXPECT_EQ(a.coverage.mean, b.coverage.mean);
  EXPECT_EQ(a.coverage.min_row, b.coverage.min_row);
  EXPECT_EQ(a.coverage.attention, b.coverage.attention);
  EXPECT_EQ(a.coverage.risk, b.coverage.risk);
  EXPECT_EQ(a.coverage.low, b.coverage.low);
  ASSERT_EQ(a.evidence.size(), b.evidence.size());
  for (size_t i = 0; i < a.evidence.size(); ++i) {
    EXPECT_EQ(a.evidence[i].document, b.evidence[i].document);
    EXPECT_EQ(a.evidence[i].byte_begin, b.evidence[i].byte_begin);
    EXPECT_EQ(a.evidence[i].byte_end, b.evidence[i].byte_end);
    EXPECT_EQ(a.evidence[i].quote, b.evidence[i].quote);
    EXPECT_EQ(a.evidence[i].mass, b.evidence[i].mass);
    EXPECT_EQ(a.evidence[i].share, b.evidence[i].share);
    EXPECT_EQ(a.evidence[i].block, b.evidence[i].block);
  }
}

// ---- the bundled model on texts that people wrote ----

class BundledDraftsTest : public ::testing::Test {
 protected:
  static constexpr int kCopied = 40, kWritten = 40, kTurns = 9, kTogether = 12;

  static void SetUpTestSuite() {
    data_ = new TemporaryDirectory();
    const std::string folder = LECTERN_SOURCE_DIR "/training/handwritten/";
    std::mt19937 random(3);
    auto engine = Open(Options(), false);
    std::map<std::string, std::string> texts;
    for (const char* name : {"employee_handbook.txt", "insurance_policy.txt", "lease.txt",
                             "museum_guide.txt", "quarterly_report.txt", "travel_diary.txt"}) {
      std::ifstream file(folder + name);
      texts[name] = {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      ASSERT_GT(texts[name].size(), 1000u) << name;
      Upload(*engine, kCorpus, std::string(name).substr(0, std::string(name).find('.')),
             texts[name]);
    }
    ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
    questions_ = new std::vector<std::string>();
    while (questions_->size() < kCopied) {
      const std::string& text = std::next(texts.begin(), random() % texts.size())->second;
      const size_t begin = text.find(' ', random() % (text.size() - 500)) + 1;
      size_t end = begin;
      for (int word = 0; word < 8; ++word) end = text.find_first_of(" \n", end + 1);
      questions_->push_back("What follows the words: " + text.substr(begin, end - begin));
    }
    std::ifstream written(folder + "questions.jsonl");
    for (std::string line; std::getline(written, line);) {
      const auto question = nlohmann::json::parse(line);
      if (texts.contains(question.at("document").get<std::string>()) &&
          questions_->size() < kCopied + kWritten) {
        questions_->push_back(question.at("question"));
      }
    }
  }
  static void TearDownTestSuite() {
    delete questions_;
    delete data_;
  }
  static EngineOptions Options() {
    return {.data_dir = data_->path(),
            .model_dir = LECTERN_SOURCE_DIR "/models/default",
            .scrub_bytes_per_second = 0};
  }
  static AskRequest Question(const std::string& text, int max_tokens = 64) {
    return {.target = {.corpus = kCorpus}, .question = text, .max_tokens = max_tokens};
  }

  static AskRequest Turn(int turn, const std::string& session) {
    AskRequest request = Question((*questions_)[turn * 3]);
    request.target.session = session;
    return request;
  }

  static TemporaryDirectory* data_;
  static std::vector<std::string>* questions_;
};
TemporaryDirectory* BundledDraftsTest::data_ = nullptr;
std::vector<std::string>* BundledDraftsTest::questions_ = nullptr;

TEST_F(BundledDraftsTest, AnswersAreTheSameInFewerSteps) {
  std::vector<Answer> without;
  {
    auto engine = Open(Options(), false);
    for (const std::string& question : *questions_) {
      without.push_back(Ask(*engine, Question(question)));
      EXPECT_EQ(without.back().usage.drafted_tokens, 0);
    }
    EXPECT_EQ(engine->GetStats()->drafted_tokens, 0);
  }
  auto engine = Open(Options(), true);
  Usage sum;
  for (size_t i = 0; i < questions_->size(); ++i) {
    SCOPED_TRACE((*questions_)[i]);
    const Answer answer = Ask(*engine, Question((*questions_)[i]));
    ExpectSame(answer, without[i]);
    EXPECT_LE(answer.usage.accepted_tokens, answer.usage.drafted_tokens);
    EXPECT_LT(answer.usage.accepted_tokens, answer.usage.generated_tokens);
    sum.generated_tokens += answer.usage.generated_tokens;
    sum.drafted_tokens += answer.usage.drafted_tokens;
    sum.accepted_tokens += answer.usage.accepted_tokens;
  }
  const Stats stats = *engine->GetStats();
  EXPECT_EQ(stats.drafted_tokens, sum.drafted_tokens);
  EXPECT_EQ(stats.accepted_tokens, sum.accepted_tokens);
  EXPECT_EQ(stats.generated_tokens, sum.generated_tokens);
  std::printf(
      "%lld tokens, %lld guessed, %lld rightly\n", static_cast<long long>(sum.generated_tokens),
      static_cast<long long>(sum.drafted_tokens), static_cast<long long>(sum.accepted_tokens));
  EXPECT_GT(sum.accepted_tokens * 2, sum.generated_tokens);
}

// The blocks that a turn stored are what the next one reads: also over the border of a block, and
// where another server without guesses goes on.
TEST_F(BundledDraftsTest, SessionsGoOnTheSameWay) {
  std::vector<Answer> without;
  {
    auto engine = Open(Options(), false);
    ASSERT_TRUE(engine->CreateSession(kSession, "", 0).ok());
    for (int turn = 0; turn < kTurns; ++turn) without.push_back(Ask(*engine, Turn(turn, "s")));
  }
  int64_t accepted = 0;
  std::vector<int64_t> accepted_by_turn;
  std::unique_ptr<Engine> engine;
  for (int turn = 0; turn < kTurns; ++turn) {
    SCOPED_TRACE(turn);
    // Two turns with guesses, restart, one without, restart ...
    if (turn % 3 != 1) {
      engine.reset();
      engine = Open(Options(), turn % 3 == 0);
    }
    if (turn == 0) {
      ASSERT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = "t"}, "", 0).ok());
    }
    const Answer answer = Ask(*engine, Turn(turn, "t"));
    ExpectSame(answer, without[turn]);
    accepted += answer.usage.accepted_tokens;
    accepted_by_turn.push_back(answer.usage.accepted_tokens);
  }
  EXPECT_GT(accepted, kTurns);
  auto turns = engine->ListTurns({.corpus = kCorpus, .id = "t"}, {});
  ASSERT_TRUE(turns.ok()) << turns.status();
  ASSERT_EQ(turns->items.size(), static_cast<size_t>(kTurns));
  for (int i = 0; i < kTurns; ++i) {
    ExpectSame(turns->items[i].answer, without[i]);
    EXPECT_EQ(turns->items[i].answer.usage.accepted_tokens, accepted_by_turn[i]);
  }
  const Session mine = *engine->GetSession({.corpus = kCorpus, .id = "t"});
  EXPECT_EQ(mine.token_count, engine->GetSession(kSession)->token_count);
  EXPECT_GT(mine.token_count - without[0].usage.cached_tokens, 2 * 128) << "borders were met";
}

TEST_F(BundledDraftsTest, ManyAtOnceAsAlone) {
  std::vector<Answer> alone;
  {
    auto engine = Open(Options(), false);
    for (int i = 0; i < kTogether; ++i) alone.push_back(Ask(*engine, Question((*questions_)[i])));
  }
  EngineOptions options = Options();
  for (const int batch : {kTogether, 3}) {
    options.batch_limit = batch;
    auto engine = Open(options, true);
    std::vector<std::future<Answer>> together;
    for (int i = 0; i < kTogether; ++i) {
      together.push_back(std::async(std::launch::async,
                                    [&, i] { return Ask(*engine, Question((*questions_)[i])); }));
    }
    for (int i = 0; i < kTogether; ++i) ExpectSame(together[i].get(), alone[i]);
    EXPECT_GT(engine->GetStats()->accepted_tokens, 0);
  }
}

TEST_F(BundledDraftsTest, TwoSessionsAtOnceAsOneAfterTheOther) {
  constexpr int kPair = 3;
  std::vector<Answer> alone[2];
  for (const bool drafts : {false, true}) {
    auto engine = Open(Options(), drafts);
    const std::string prefix = drafts ? "both" : "each";
    const auto ask = [&](int which) {
      const std::string session = prefix + std::to_string(which);
      EXPECT_TRUE(engine->CreateSession({.corpus = kCorpus, .id = session}, "", 0).ok());
      std::vector<Answer> answers;
      for (int turn = 0; turn < kPair; ++turn) {
        answers.push_back(Ask(*engine, Turn(which * kPair + turn, session)));
      }
      return answers;
    };
    if (!drafts) {
      for (const int which : {0, 1}) alone[which] = ask(which);
      continue;
    }
    auto first = std::async(std::launch::async, ask, 0);
    const std::vector<Answer> second = ask(1);
    const std::vector<Answer> answers = first.get();
    for (int turn = 0; turn < kPair; ++turn) {
      ExpectSame(answers[turn], alone[0][turn]);
      ExpectSame(second[turn], alone[1][turn]);
    }
    EXPECT_GT(engine->GetStats()->accepted_tokens, 0);
  }
}

TEST_F(BundledDraftsTest, AnAnswerThatIsCutIsCutAtTheSameToken) {
  auto without = Open(Options(), false);
  std::vector<Answer> expected;
  for (int most = 1; most <= 20; ++most)
    expected.push_back(Ask(*without, Question((*questions_)[0], most)));
  without.reset();
  auto with = Open(Options(), true);
  for (int most = 1; most <= 20; ++most) {
    SCOPED_TRACE(most);
    ExpectSame(Ask(*with, Question((*questions_)[0], most)), expected[most - 1]);
  }
}

TEST_F(BundledDraftsTest, WideningAnswersAreTheSame) {
  std::vector<Answer> expected;
  for (const bool drafts : {false, true}) {
    auto engine = Open(Options(), drafts);
    size_t i = 0;
    int64_t accepted = 0;
    for (const double adaptive : {0.5, 0.9, 1.0}) {
      for (int question = 0; question < 3; ++question, ++i) {
        AskRequest request = Question((*questions_)[question]);
        request.adaptive_coverage = adaptive;
        const Answer answer = Ask(*engine, request);
        accepted += answer.usage.accepted_tokens;
        if (!drafts) expected.push_back(answer);
        ExpectSame(answer, expected[i]);
      }
    }
    EXPECT_EQ(accepted > 0, drafts);
  }
}

TEST_F(BundledDraftsTest, SampledAnswersAreNotGuessedAt) {
  auto engine = Open(Options(), true);
  AskRequest request = Question((*questions_)[0]);
  request.sampling = {.temperature = 0.3, .top_p = 0.9, .seed = 5};
  const Answer answer = Ask(*engine, request);
  EXPECT_EQ(answer.usage.drafted_tokens, 0);
  EXPECT_GT(answer.usage.generated_tokens, 1);
}

// Cancelled from within the stream, whatever the step at hand holds; the next question finds
// everything as it was.
TEST_F(BundledDraftsTest, CancelledInTheMidst) {
  auto engine = Open(Options(), true);
  const Answer expected = Ask(*engine, Question((*questions_)[1]));
  for (int pieces = 1; pieces <= 6; ++pieces) {
    std::promise<absl::Status> done;
    std::promise<Ticket*> handle;
    std::shared_future<Ticket*> ticket = handle.get_future().share();
    int streamed = 0;
    auto asked =
        engine->Ask(Question((*questions_)[1]),
                    {.text =
                         [&](std::string_view) {
                           if (++streamed == pieces) ticket.get()->Cancel();
                         },
                     .done = [&](absl::StatusOr<Answer> a) { done.set_value(a.status()); }});
    ASSERT_TRUE(asked.ok()) << asked.status();
    handle.set_value(asked->get());
    const absl::Status status = done.get_future().get();
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kCancelled) << status;
  }
  ExpectSame(Ask(*engine, Question((*questions_)[1])), expected);
  engine->Drain(0);
  EXPECT_EQ(engine->GetStats()->open_contexts, 0) << "ended answers hold nothing";
}

// ---- random weights: answers that ramble on, past the rows that are observed ----

TEST(RandomDraftsTest, LongAnswersOfEveryTailLengthAreTheSame) {
  TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());
  int64_t drafted = 0, accepted = 0;
  for (int words = 700; words < 740; words += 5) {
    SCOPED_TRACE(words);
    TemporaryDirectory data;
    const EngineOptions options = {.data_dir = data.path(),
                                   .model_dir = model.path(),
                                   .pool_bytes = 64 << 20,
                                   .index_bytes = 64 << 20};
    std::vector<Answer> expected;
    for (const bool drafts : {false, true}) {
      auto engine = Open(options, drafts);
      if (!drafts) {
        Upload(*engine, kCorpus, "a", RandomText(words, 4));
        ASSERT_TRUE(IngestAndWait(*engine, kCorpus).error.ok());
      }
      const std::string questions[] = {"what is it?", "who was there, and why did they go?"};
      for (size_t i = 0; i < std::size(questions); ++i) {
        const Answer answer = Ask(
            *engine, {.target = {.corpus = kCorpus}, .question = questions[i], .max_tokens = 150});
        if (!drafts) expected.push_back(answer);
        ExpectSame(answer, expected[i]);
        drafted += answer.usage.drafted_tokens;
        accepted += answer.usage.accepted_tokens;
      }
    }
  }
  std::printf("%lld guessed, %lld rightly\n", static_cast<long long>(drafted),
              static_cast<long long>(accepted));
  EXPECT_GT(drafted, accepted) << "some must be taken back";
}

}  // namespace
}  // namespace lectern::engine
