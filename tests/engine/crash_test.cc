// kill -9 in the middle of an ingest, again and again: the next process resumes, nothing committed
// is computed twice, and the cache ends with the bytes of an undisturbed run.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>

#include "engine/engine.h"
#include "storage/fail_point.h"
#include "storage/store.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_engine.h"

namespace lectern::engine {
namespace {

constexpr int kKills = 50;
constexpr const char* kStep = "ingest.step_computed";
constexpr int kOpeningPlaces = 40;       // about as many are reached before the first step
constexpr const char* kWords = "15000";  // over 40,000 tokens

// A process that ingests, and what it says of its way: a line for each place it reaches
// (storage/fail_point.h).
class Child {
 public:
  Child(const std::string& data, const std::string& model) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      const int said = dup(ends[1]);  // a copy lives on in the program
      setenv("LECTERN_FAIL_POINT_TRACE", std::to_string(said).c_str(), 1);
      const std::string program = LECTERN_BINARY_DIR "/bin/ingest_child";
      execl(program.c_str(), program.c_str(), data.c_str(), model.c_str(), kWords, nullptr);
      _exit(127);
    }
    close(ends[1]);
    said_ = fdopen(ends[0], "r");
  }
  ~Child() { fclose(said_); }

  // Reads on until a place, or any of them (""), was reached `count` times; returns how often it
  // was before the process ended.
  int Hear(const std::string& place, int count) {
    int heard = 0;
    char line[128];
    while (heard < count && fgets(line, sizeof(line), said_) != nullptr) {
      heard += place.empty() || line == "@" + place + "\n";
    }
    return heard;
  }
  void Kill() { kill(pid_, SIGKILL); }
  // True: killed, by us. Fails unless it was, or had done its work.
  bool Killed() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
    return false;
  }

 private:
  pid_t pid_ = 0;
  FILE* said_ = nullptr;
};

// Tokens that are durably stored for the running ingest, or of the published generation.
uint64_t StoredTokens(const std::string& data, bool* published) {
  *published = false;
  auto store = storage::Store::Open({.directory = data});
  EXPECT_TRUE(store.ok()) << store.status();
  if (!store.ok()) return 0;
  auto corpus =
      (*store)->catalog().GetCorpus((*store)->catalog().GetTenant("default")->uid, "library");
  if (!corpus.ok()) return 0;
  if (corpus->current_generation != 0) {
    *published = true;
    return (*store)->catalog().GetGeneration(corpus->current_generation)->contexts[0].token_count;
  }
  auto running = (*store)->catalog().RunningOperations();
  EXPECT_TRUE(running.ok());
  for (const storage::Operation& operation : *running) {
    auto intent = (*store)->catalog().GetIngest(operation.uid);
    if (intent.ok()) return intent->contexts[0].token_count;
  }
  return 0;
}

// Three contexts of 4,096 tokens at most; eight blocks a commit.
constexpr const char* kSeveralWords = "3600";
constexpr const char* kContextTokens = "4096";

// Runs it on a corpus of several contexts to its end, or to a fail point; returns waitpid's status.
int IngestSeveral(const std::string& data, const std::string& model, const char* fail_points) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("LECTERN_FAIL_POINTS", fail_points, 1);
    const std::string program = LECTERN_BINARY_DIR "/bin/ingest_child";
    execl(program.c_str(), program.c_str(), data.c_str(), model.c_str(), kSeveralWords,
          kContextTokens, nullptr);
    _exit(127);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

TEST(CrashTest, AKillInTheMiddleOfTheSecondContextCostsNothingThatWasCommitted) {
  if (!storage::kFailPointsBuilt) GTEST_SKIP() << "built without LECTERN_FAIL_POINTS";
  testing::TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());
  testing::TemporaryDirectory undisturbed;
  int status = IngestSeveral(undisturbed.path(), model.path(), "");
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);

  testing::TemporaryDirectory data;
  // Four commits fill the first context.
  status = IngestSeveral(data.path(), model.path(), "commit.published=kill@6");
  ASSERT_TRUE(WIFSIGNALED(status));
  uint64_t stored = 0;
  {
    auto store = *storage::Store::Open({.directory = data.path()});
    const auto running = *store->catalog().RunningOperations();
    ASSERT_EQ(running.size(), 1u);
    const storage::IngestIntent intent = *store->catalog().GetIngest(running[0].uid);
    ASSERT_EQ(intent.contexts.size(), 3u);
    EXPECT_GT(intent.contexts[0].token_count, 3500u) << "whole";
    EXPECT_EQ(intent.contexts[1].token_count, 2048u) << "half of it";
    EXPECT_EQ(intent.contexts[2].token_count, 0u);
    for (const auto& context : intent.contexts) stored += context.token_count;
  }
  // The next process has another limit, and goes on all the same.
  auto opened = Engine::Open({.data_dir = data.path(),
                              .model_dir = model.path(),
                              .pool_bytes = 256 << 20,
                              .index_bytes = 64 << 20,
                              .prefill_chunk_tokens = 512});
  ASSERT_TRUE(opened.ok()) << opened.status();
  const CorpusName corpus = {.tenant = "default", .corpus = "library"};
  const auto operations = (*opened)->ListOperations(corpus, {});
  ASSERT_TRUE(operations.ok() && operations->items.size() == 1);
  const Operation operation = testing::WaitFor(**opened, operations->items[0].name);
  EXPECT_TRUE(operation.error.ok()) << operation.error;
  EXPECT_EQ(operation.resumed, 1);
  EXPECT_EQ(operation.contexts, 3);
  EXPECT_EQ((*opened)->GetStats()->corpus_prefill_tokens,
            operation.tokens_total - static_cast<int64_t>(stored));
  (*opened).reset();
  EXPECT_EQ(testing::StoredCacheDigest(data.path(), "library"),
            testing::StoredCacheDigest(undisturbed.path(), "library"));
}

TEST(CrashTest, WhatWasComputedInFullIsPublishedByTheNextProcess) {
  if (!storage::kFailPointsBuilt) GTEST_SKIP() << "built without LECTERN_FAIL_POINTS";
  testing::TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());
  testing::TemporaryDirectory undisturbed, data;
  int status = IngestSeveral(undisturbed.path(), model.path(), "");
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  status = IngestSeveral(data.path(), model.path(), "publish.manifest=kill");
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  status = IngestSeveral(data.path(), model.path(), "ingest.step_computed=kill");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  EXPECT_EQ(testing::StoredCacheDigest(data.path(), "library"),
            testing::StoredCacheDigest(undisturbed.path(), "library"));
}

TEST(CrashTest, FiftyKillsDuringAnIngestChangeNothing) {
  testing::TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());

  testing::TemporaryDirectory undisturbed;
  Child quiet(undisturbed.path(), model.path());
  const int steps = quiet.Hear(kStep, std::numeric_limits<int>::max());
  ASSERT_FALSE(quiet.Killed());
  ASSERT_GT(steps, 20) << "too short to be killed in the middle of";
  const std::string expected = testing::StoredCacheDigest(undisturbed.path(), "library");

  std::mt19937_64 random(17);
  int kills = 0;
  int kills_with_progress = 0;
  int finished = 0;
  auto data = std::make_unique<testing::TemporaryDirectory>();
  uint64_t stored = 0;
  while (kills < kKills) {
    Child child(data->path(), model.path());
    // Every fourth kill hits opening and resuming, the others the prefill, up to half of an
    // undisturbed run; at a place or a moment after it.
    const int at = static_cast<int>(random() % 1000);
    if (at % 4 == 0) {
      child.Hear("", 1 + at * kOpeningPlaces / 1000);
    } else {
      child.Hear(kStep, 1 + at * steps / 2000);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    child.Kill();
    kills += child.Killed();
    ASSERT_FALSE(HasFailure());
    bool published = false;
    const uint64_t now_stored = StoredTokens(data->path(), &published);
    EXPECT_GE(now_stored, stored) << "what was committed must stay";
    kills_with_progress += now_stored > stored;
    stored = now_stored;
    if (published) {
      EXPECT_EQ(testing::StoredCacheDigest(data->path(), "library"), expected)
          << "after " << kills << " kills";
      ++finished;
      stored = 0;
      data = std::make_unique<testing::TemporaryDirectory>();
    }
  }
  // The last one runs to its end.
  Child last(data->path(), model.path());
  last.Hear(kStep, std::numeric_limits<int>::max());  // a full pipe would hold it up
  ASSERT_FALSE(last.Killed());
  EXPECT_EQ(testing::StoredCacheDigest(data->path(), "library"), expected);
  std::printf("%d kills, %d of them after new commits, %d ingests finished in between\n", kills,
              kills_with_progress, finished);
  EXPECT_GT(kills_with_progress, kKills / 5) << "the kills missed the ingest";
}

}  // namespace
}  // namespace lectern::engine
