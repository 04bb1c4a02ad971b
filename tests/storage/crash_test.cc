// kill -9 at random moments: what was acknowledged is there, what is visible verifies, nothing else
// is left.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

#include "crash_workload.h"

namespace lectern::storage {
namespace {

constexpr int kKills = 15;
constexpr int kLongestRunMilliseconds = 600;

// Runs a child until it is killed, and hears what it says.
void RunAndKill(const std::string& directory, uint64_t seed, int milliseconds,
                Acknowledged* acknowledged) {
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const std::string seed_text = std::to_string(seed);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    dup2(channel[1], STDOUT_FILENO);
    close(channel[0]);
    close(channel[1]);
    execl(LECTERN_CRASH_CHILD, LECTERN_CRASH_CHILD, directory.c_str(), seed_text.c_str(), nullptr);
    _exit(127);
  }
  close(channel[1]);
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    kill(child, SIGKILL);
  });
  FILE* const said = fdopen(channel[0], "r");
  char line[128];
  while (fgets(line, sizeof(line), said) != nullptr) acknowledged->Add(line);
  fclose(said);
  killer.join();
  int result = 0;
  waitpid(child, &result, 0);
  EXPECT_TRUE(WIFSIGNALED(result) && WTERMSIG(result) == SIGKILL)
      << "the child ended by itself: " << result;
}

TEST(CrashTest, KilledAtRandomMoments) {
  ScratchDirectory scratch;
  StoreOptions options;
  options.directory = scratch.path() + "/data";
  std::mt19937_64 random(20261123);
  Acknowledged acknowledged;
  for (int round = 0; round < kKills && !HasFailure(); ++round) {
    SCOPED_TRACE(round);
    const int milliseconds = static_cast<int>(random() % kLongestRunMilliseconds);
    RunAndKill(options.directory, random(), milliseconds, &acknowledged);
    ExpectAcknowledged(Must(Store::Open(options)).get(), acknowledged);
    ExpectNoOrphans(options.directory);
  }
  // The work went on between the kills, however slow the machine.
  EXPECT_FALSE(acknowledged.committed_tokens.empty());
}

}  // namespace
}  // namespace lectern::storage
