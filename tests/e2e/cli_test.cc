// The command line against a real server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/e2e/deployment.h"
#include "tests/support/random_model.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

class CliTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    data_ = new TemporaryDirectory();
    deployment_ = new Deployment({.data_dir = data_->path(), .model_dir = SmallModel()});
  }
  static void TearDownTestSuite() {
    EXPECT_TRUE(deployment_->StopAll());
    delete deployment_;
    delete data_;
  }

  static Finished Lectern(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Program("lectern"));
    arguments.push_back("--address=" + deployment_->address());
    return RunCommand(arguments);
  }
  static std::string Ok(const std::vector<std::string>& arguments) {
    const Finished finished = Lectern(arguments);
    EXPECT_EQ(finished.code, 0) << arguments[0] << ": " << finished.errors;
    return finished.output;
  }

  std::string File(const std::string& name, const std::string& bytes) {
    std::filesystem::create_directories(std::filesystem::path(files_ / name).parent_path());
    std::ofstream(files_ / name, std::ios::binary) << bytes;
    return files_ / name;
  }

  static TemporaryDirectory* data_;
  static Deployment* deployment_;
  TemporaryDirectory files_;
};
TemporaryDirectory* CliTest::data_ = nullptr;
Deployment* CliTest::deployment_ = nullptr;

TEST_F(CliTest, FromFilesToAnswers) {
  File("book/Chapter 1.txt", RandomText(800, 1));
  File("book/part/two.txt", RandomText(300, 2));
  const std::string folder = files_ / "book";
  const Finished upload = Lectern({"upload", "book", folder});
  ASSERT_EQ(upload.code, 0) << upload.errors;
  EXPECT_THAT(upload.errors, HasSubstr("uploaded: 2 documents"));
  EXPECT_THAT(upload.errors, HasSubstr("ingested:"));

  const json documents = json::parse(Ok({"documents", "list", "book", "--json"}));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0]["display_name"], "Chapter 1.txt");
  EXPECT_EQ(documents[1]["display_name"], "part/two.txt");
  EXPECT_THAT(Ok({"documents", "list", "book"}), HasSubstr("part/two.txt"));

  const json answer =
      json::parse(Ok({"ask", "book", "What happened?", "--json", "--max-tokens=8"}));
  EXPECT_TRUE(answer["answer"].is_string());
  EXPECT_EQ(answer["usage"]["corpus_prefill_tokens"], "0");
  ASSERT_FALSE(answer["evidence"].empty());
  EXPECT_FALSE(answer["request_id"].get<std::string>().empty());
  const std::string text = Ok({"ask", "book", "What happened?", "--max-tokens=8"});
  EXPECT_THAT(text, HasSubstr("evidence"));
  EXPECT_THAT(text, HasSubstr("coverage"));
  EXPECT_THAT(text, HasSubstr("not calibrated"));
  EXPECT_THAT(Lectern({"ask", "book", "What happened?", "--adaptive=2"}).errors,
              HasSubstr("adaptive_coverage"));
  EXPECT_THAT(text, HasSubstr("0 corpus tokens prefilled"));
  const json batch =
      json::parse(Ok({"ask", "book", "What happened?", "--json", "--max-tokens=8", "--batch"}));
  EXPECT_EQ(batch["answer"], answer["answer"]) << "later, but the same";

  const json spans = json::parse(Ok({"retrieve", "book", "What happened?", "--limit=2", "--json"}));
  EXPECT_EQ(spans["spans"].size(), 2u);

  // The same files again cost nothing; changed ones need a word.
  const Finished again = Lectern({"upload", "book", folder});
  EXPECT_EQ(again.code, 0) << again.errors;
  File("book/part/two.txt", RandomText(310, 3));
  const Finished changed = Lectern({"upload", "book", folder});
  EXPECT_EQ(changed.code, 1);
  EXPECT_THAT(changed.errors, HasSubstr("DOCUMENT_EXISTS"));
  EXPECT_THAT(changed.errors, HasSubstr("--replace"));
  const Finished replaced = Lectern({"upload", "book", folder, "--replace"});
  EXPECT_EQ(replaced.code, 0) << replaced.errors;
}

TEST_F(CliTest, Sessions) {
  ASSERT_EQ(Lectern({"upload", "talk", File("a.txt", RandomText(300, 4))}).code, 0);
  const std::string created =
      Ok({"ask", "talk", "Who?", "--new-session", "--json", "--max-tokens=8"});
  const std::string session = json::parse(created)["session"];
  EXPECT_THAT(session, HasSubstr("tenants/default/corpora/talk/sessions/"));
  const json second =
      json::parse(Ok({"ask", "talk", "Why?", "--session=" + session, "--json", "--max-tokens=8"}));
  EXPECT_EQ(second["turn"], 2);
  const std::string id = session.substr(session.rfind('/') + 1);
  EXPECT_EQ(json::parse(Ok({"sessions", "turns", "talk/" + id, "--json"})).size(), 2u);
  Ok({"sessions", "fork", "talk/" + id, "--turn=1", "--id=fork"});
  EXPECT_THAT(Ok({"sessions", "list", "talk"}), HasSubstr("fork"));
  Ok({"sessions", "delete", "talk/fork"});
  EXPECT_THAT(Ok({"sessions", "list", "talk"}), ::testing::Not(HasSubstr("fork")));
}

TEST_F(CliTest, CorporaGenerationsOperations) {
  Ok({"corpora", "create", "shelf", "--display_name=The shelf", "--ttl=24h"});
  EXPECT_THAT(Ok({"corpora", "list"}), HasSubstr("The shelf"));
  EXPECT_TRUE(json::parse(Ok({"corpora", "get", "shelf", "--json"})).contains("expire_time"));
  Ok({"corpora", "update", "shelf", "--keep"});
  EXPECT_FALSE(json::parse(Ok({"corpora", "get", "shelf", "--json"})).contains("expire_time"));
  ASSERT_EQ(Lectern({"upload", "shelf", File("a.txt", RandomText(200, 5)), "--no-ingest"}).code, 0);
  EXPECT_THAT(Ok({"ingest", "shelf", "--validate_only"}), HasSubstr("to prefill"));
  Ok({"ingest", "shelf"});
  const json operations = json::parse(Ok({"operations", "list", "shelf", "--json"}));
  ASSERT_GE(operations.size(), 1u);
  const json generations = json::parse(Ok({"generations", "list", "shelf", "--json"}));
  ASSERT_EQ(generations.size(), 1u);
  EXPECT_EQ(generations[0]["residency"], "COMPLETE");
  EXPECT_THAT(Ok({"model"}), HasSubstr("context_limit_tokens"));
  EXPECT_THAT(Ok({"stats"}),
              AllOf(HasSubstr("generated_tokens"), HasSubstr("drafted_tokens"),
                    HasSubstr("accepted_tokens"), HasSubstr("prefill_tokens_per_second"),
                    HasSubstr("timed_out_reads"), HasSubstr("displaced_requests")));
  EXPECT_THAT(Ok({"count", "--question", "How many?"}), HasSubstr("tokens; the limit is"));
  Ok({"delete", "shelf"});
  EXPECT_EQ(Lectern({"corpora", "get", "shelf"}).code, 1);
}

TEST_F(CliTest, ARebuildOfAWholeCacheSaysThatNothingWasToBeDone) {
  ASSERT_EQ(Lectern({"upload", "whole", File("a.txt", RandomText(200, 6))}).code, 0);
  const Finished rebuilt = Lectern({"rebuild", "whole"});
  EXPECT_EQ(rebuilt.code, 0) << rebuilt.errors;
  EXPECT_THAT(rebuilt.errors, HasSubstr("nothing to rebuild: the cache of generation "));
  EXPECT_THAT(rebuilt.errors, ::testing::Not(HasSubstr("ingested")));
  EXPECT_EQ(Lectern({"rebuild", "nowhere"}).code, 1);
}

// A corpus of several contexts, through gateway and worker.
TEST_F(CliTest, ACorpusLargerThanAContextAnswersFromItsBestContexts) {
  const TemporaryDirectory data;
  Deployment deployment({.topology = Topology::kSplit,
                         .data_dir = data.path(),
                         .model_dir = SmallModel(),
                         .engine_flags = {"--context_tokens=1024"}});
  const auto lectern = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Program("lectern"));
    arguments.push_back("--address=" + deployment.address());
    const Finished finished = RunCommand(arguments);
    EXPECT_EQ(finished.code, 0) << arguments[1] << ": " << finished.errors;
    return finished;
  };
  for (int i = 0; i < 3; ++i) {
    File("shelf/" + std::to_string(i) + ".txt", RandomText(280, 20 + i));
  }
  const Finished upload = lectern({"upload", "shelf", std::string(files_ / "shelf")});
  EXPECT_THAT(upload.errors, HasSubstr("of 3 documents in 3 contexts"));
  const json corpus = json::parse(lectern({"corpora", "get", "shelf", "--json"}).output);
  EXPECT_EQ(corpus["context_count"], "3");
  const std::string generation = corpus["current_generation"];
  const json made = json::parse(lectern({"generations", "get", generation, "--json"}).output);
  ASSERT_EQ(made["contexts"].size(), 3u);
  EXPECT_EQ(made["contexts"][1]["first_document"], made["documents"][1]);
  EXPECT_THAT(lectern({"corpora", "list"}).output, HasSubstr("CONTEXTS"));
  EXPECT_THAT(lectern({"generations", "list", "shelf"}).output, HasSubstr("CONTEXTS"));

  const json found = json::parse(lectern({"retrieve", "shelf", "What happened?", "--json"}).output);
  ASSERT_EQ(found["contexts"].size(), 3u);
  EXPECT_EQ(found["spans"][0]["context"], found["contexts"][0]["context"]["index"]);
  EXPECT_THAT(lectern({"retrieve", "shelf", "What happened?"}).output,
              AllOf(HasSubstr("context 0 of 3: 1 documents"), HasSubstr("context 2 of 3")));

  const std::vector<std::string> question = {"ask", "shelf", "What happened?", "--max-tokens=8"};
  const auto ask = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), question.begin(), question.end());
    return lectern(flags).output;
  };
  const json answers = json::parse(ask({"--contexts=2", "--json"}));
  ASSERT_EQ(answers.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(answers[i]["context"]["index"], found["contexts"][i]["context"]["index"]);
    EXPECT_EQ(answers[i]["usage"]["corpus_prefill_tokens"], "0");
    EXPECT_GT(answers[i]["coverage"]["mean"], 0);
  }
  const json best = json::parse(ask({"--json"}));
  EXPECT_EQ(best["answer"], answers[0]["answer"]);
  EXPECT_THAT(ask({"--contexts=3"}),
              AllOf(HasSubstr("context 0 of 3"), HasSubstr("context 1 of 3"),
                    HasSubstr("context 2 of 3"), HasSubstr("0 corpus tokens prefilled")));
  // A session that is opened with a question talks to the context that knows most about it.
  const json opened = json::parse(ask({"--new-session", "--json"}));
  EXPECT_EQ(opened["context"]["index"], answers[0]["context"]["index"]);
  EXPECT_EQ(opened["answer"], answers[0]["answer"]);
  const std::string session = opened["session"];
  EXPECT_EQ(json::parse(lectern({"sessions", "get", session, "--json"}).output)["context"],
            opened["context"]["index"]);
  EXPECT_EQ(json::parse(ask({"--new-session", "--context=2", "--json"}))["context"]["index"], 2);
  const Finished unsaid = RunCommand(
      {Program("lectern"), "sessions", "create", "shelf", "--address=" + deployment.address()});
  EXPECT_EQ(unsaid.code, 1);
  EXPECT_THAT(unsaid.errors, AllOf(HasSubstr("CONTEXT_MISSING"), HasSubstr("--context")));
  EXPECT_TRUE(deployment.StopAll());
}

// A server whose disk cap has room for two caches of three.
TEST_F(CliTest, WhatWillBeEvictedShowsBeforeItIsAndComesBack) {
  const TemporaryDirectory model;
  WriteRandomModel({.layers = 4, .kv_heads = 4, .head_dim = 64, .index_dim = 32}, model.path());
  const TemporaryDirectory data;
  Deployment deployment(
      {.data_dir = data.path(), .model_dir = model.path(), .engine_flags = {"--disk_cap=64MiB"}});
  const auto lectern = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Program("lectern"));
    arguments.push_back("--address=" + deployment.address());
    return RunCommand(arguments);
  };
  const auto corpus = [&](const std::string& id) {
    const Finished got = lectern({"corpora", "get", id, "--json"});
    EXPECT_EQ(got.code, 0) << got.errors;
    return json::parse(got.output);
  };
  const auto upload = [&](const std::string& id, uint64_t seed) {
    const Finished done = lectern({"upload", id, File(id + ".txt", RandomText(1800, seed))});
    EXPECT_EQ(done.code, 0) << done.errors;
  };
  upload("old", 11);
  upload("new", 12);
  const std::vector<std::string> question = {"ask", "new", "What happened?", "--json",
                                             "--max-tokens=8"};
  const std::string answer = json::parse(lectern(question).output)["answer"];
  EXPECT_EQ(corpus("old")["eviction_rank"], 1) << "used longest ago";
  EXPECT_EQ(corpus("new")["eviction_rank"], 2);
  ASSERT_EQ(lectern({"corpora", "update", "old", "--pin"}).code, 0);
  EXPECT_EQ(corpus("old")["pinned"], true);
  EXPECT_EQ(corpus("old")["eviction_rank"], 0) << "never, while it is pinned";
  EXPECT_EQ(corpus("new")["eviction_rank"], 1);

  upload("third", 13);
  EXPECT_EQ(corpus("old")["cache_residency"], "COMPLETE");
  EXPECT_EQ(corpus("new")["cache_residency"], "EVICTED") << "as was announced";
  EXPECT_THAT(lectern({"corpora", "list"}).output, HasSubstr("evicted"));
  const Finished refused = lectern(question);
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.errors, HasSubstr("CACHE_EVICTED"));

  ASSERT_EQ(lectern({"corpora", "update", "old", "--unpin"}).code, 0);
  EXPECT_EQ(corpus("old")["eviction_rank"], 1);
  const Finished rebuilt = lectern({"rebuild", "new"});
  ASSERT_EQ(rebuilt.code, 0) << rebuilt.errors;
  EXPECT_THAT(rebuilt.errors, HasSubstr("rebuilt: "));
  EXPECT_EQ(corpus("new")["cache_residency"], "COMPLETE");
  EXPECT_EQ(corpus("old")["cache_residency"], "EVICTED");
  const json again = json::parse(lectern(question).output);
  EXPECT_EQ(again["answer"], answer);
  EXPECT_EQ(again["usage"]["corpus_prefill_tokens"], "0");
}

TEST_F(CliTest, MistakesAreExplained) {
  const Finished missing = Lectern({"ask", "nowhere", "What?"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.errors, HasSubstr("NOT_FOUND CORPUS_NOT_FOUND"));
  EXPECT_THAT(missing.errors, HasSubstr("request id "));
  EXPECT_THAT(missing.errors, HasSubstr("lectern corpora list"));
  EXPECT_EQ(Lectern({"ask", "nowhere"}).code, 2);
  EXPECT_EQ(Lectern({"ask", "nowhere", "What?", "--no-such-flag"}).code, 2);
  EXPECT_EQ(Lectern({"juggle"}).code, 2);
  EXPECT_EQ(Lectern({"upload", "c", files_ / "missing"}).code, 4);
  const Finished nobody = RunCommand({Program("lectern"), "model", "--address=127.0.0.1:9"});
  EXPECT_EQ(nobody.code, 3);
  EXPECT_THAT(nobody.errors, HasSubstr("lectern serve"));
  const Finished help = RunCommand({Program("lectern"), "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.output, HasSubstr("Exit codes"));
  EXPECT_EQ(RunCommand({Program("lectern"), "ask", "--help"}).code, 0);
}

}  // namespace
}  // namespace lectern::testing
