// kill -9 in the middle of an ingest, again and again: the next process resumes, nothing committed
// is computed twice, and the cache ends with the bytes of an undisturbed run.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "storage/store.h"
#include "tests/support/random_model.h"
#include "tests/support/stored_cache.h"
#include "tests/support/temporary_directory.h"

namespace lectern::engine {
namespace {

constexpr int kKills = 50;
constexpr const char* kWords = "15000";  // over 40,000 tokens

pid_t Start(const std::string& data, const std::string& model) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string program = LECTERN_BINARY_DIR "/bin/ingest_child";
    execl(program.c_str(), program.c_str(), data.c_str(), model.c_str(), kWords, nullptr);
    _exit(127);
  }
  return child;
}

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

TEST(CrashTest, FiftyKillsDuringAnIngestChangeNothing) {
  testing::TemporaryDirectory model;
  testing::WriteRandomModel({}, model.path());

  testing::TemporaryDirectory undisturbed;
  const auto begin = std::chrono::steady_clock::now();
  int status = 0;
  const pid_t quiet = Start(undisturbed.path(), model.path());
  ASSERT_EQ(waitpid(quiet, &status, 0), quiet);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  const auto whole = std::chrono::steady_clock::now() - begin;
  const std::string expected = testing::StoredCacheDigest(undisturbed.path(), "library");

  std::mt19937_64 random(17);
  int kills = 0;
  int kills_with_progress = 0;
  int finished = 0;
  auto data = std::make_unique<testing::TemporaryDirectory>();
  uint64_t stored = 0;
  while (kills < kKills) {
    const pid_t child = Start(data->path(), model.path());
    // A kill early in a process hits opening and resuming, a later one the ingest: up to half of an
    // undisturbed run.
    std::this_thread::sleep_for(std::chrono::duration_cast<std::chrono::microseconds>(whole) *
                                (random() % 1000) / 2000);
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, &status, 0), child);
    kills += WIFSIGNALED(status);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
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
  const pid_t last = Start(data->path(), model.path());
  ASSERT_EQ(waitpid(last, &status, 0), last);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(testing::StoredCacheDigest(data->path(), "library"), expected);
  std::printf("%d kills, %d of them after new commits, %d ingests finished in between\n", kills,
              kills_with_progress, finished);
  EXPECT_GT(kills_with_progress, kKills / 5) << "the kills missed the ingest";
}

}  // namespace
}  // namespace lectern::engine
