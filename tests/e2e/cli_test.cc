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
