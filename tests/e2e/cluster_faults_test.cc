// Random faults under load, and a checker of what the callers saw: nothing that was acknowledged is
// lost, nothing that was deleted is read, no answer is wrong.
//
//   LECTERN_FAULTS=200 LECTERN_SEED=7 LECTERN_RESULTS=tests/bench/results/cluster.json
//   e2e_cluster_faults_test
//
// The short form is a part of `make test`. What is drawn depends on the seed alone, what happens at
// the same time does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/campaign/results.h"
#include "tests/e2e/cluster.h"
#include "tests/support/test_engine.h"

namespace lectern::testing {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kWriters = 3;
constexpr milliseconds kCallLimit{20'000};

int FromEnvironment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

// What callers saw of one name. Times are of calls: an acknowledged one took effect between its
// begin and its end, one with another outcome at any time after its begin, or never.
struct Life {
  std::optional<Clock::time_point> created;         // end of an acknowledged creation
  std::optional<Clock::time_point> deletion_begun;  // of any
  std::optional<Clock::time_point> deleted;         // end of an acknowledged one
};

struct Read {
  std::string name;
  Clock::time_point begin;
  Clock::time_point end;
  bool found = false;
};

class History {
 public:
  void Created(const std::string& name) {
    const std::lock_guard lock(mutex_);
    lives_[name].created = Clock::now();
    names_.push_back(name);
  }
  void DeletionBegun(const std::string& name) {
    const std::lock_guard lock(mutex_);
    lives_[name].deletion_begun = Clock::now();
  }
  void Deleted(const std::string& name) {
    const std::lock_guard lock(mutex_);
    lives_[name].deleted = Clock::now();
  }
  void Add(Read read) {
    const std::lock_guard lock(mutex_);
    reads_.push_back(std::move(read));
  }
  // A name that was created at some time; "" if none was.
  std::string Any(std::mt19937& random) {
    const std::lock_guard lock(mutex_);
    return names_.empty() ? "" : names_[random() % names_.size()];
  }
  const std::map<std::string, Life>& lives() const { return lives_; }
  size_t reads() const { return reads_.size(); }

  // What no order of the calls explains.
  std::vector<std::string> Contradictions() const {
    std::vector<std::string> found;
    for (const Read& read : reads_) {
      const Life& life = lives_.at(read.name);
      if (read.found && life.deleted && read.begin > *life.deleted) {
        found.push_back(read.name + " was read after its deletion");
      }
      if (!read.found && life.created && read.begin > *life.created &&
          (!life.deletion_begun || read.end < *life.deletion_begun)) {
        found.push_back(read.name + " was lost");
      }
    }
    return found;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Life> lives_;
  std::vector<std::string> names_;
  std::vector<Read> reads_;
};

TEST(History, FindsWhatCannotBe) {
  History history;
  history.Created("kept");
  history.Created("gone");
  history.DeletionBegun("gone");
  history.Deleted("gone");
  history.Created("unsure");
  history.DeletionBegun("unsure");
  const Clock::time_point now = Clock::now() + milliseconds(1);
  history.Add({"kept", now, now, true});
  history.Add({"gone", now, now, false});
  history.Add({"unsure", now, now, true});
  history.Add({"unsure", now, now, false});
  EXPECT_TRUE(history.Contradictions().empty());
  history.Add({"kept", now, now, false});
  EXPECT_EQ(history.Contradictions(), std::vector<std::string>{"kept was lost"});
  history.Add({"gone", now, now, true});
  EXPECT_EQ(history.Contradictions().size(), 2u);
}

void ReadOne(Client& client, History& history, const std::string& name) {
  Read read = {name, Clock::now(), {}, false};
  const grpc::Status status = client.Get(name, nullptr, kCallLimit);
  read.end = Clock::now();
  read.found = status.ok();
  if (status.ok() || Reason(status) == "CORPUS_NOT_FOUND") history.Add(std::move(read));
}

// Makes, reads and deletes names of its own, and reads those of others.
void Write(Cluster& cluster, History& history, int writer, int seed,
           const std::atomic<bool>& stop) {
  std::mt19937 random(static_cast<uint32_t>(seed * 1000 + writer));
  for (int i = 0; !stop; ++i) {
    const std::string name = "w" + std::to_string(writer) + "-" + std::to_string(i);
    Client& client = cluster.client(static_cast<int>(random() % Cluster::kGateways));
    if (client.Create(name).ok()) history.Created(name);
    const std::string other = history.Any(random);
    if (!other.empty()) ReadOne(cluster.client(writer % 2), history, other);
    if (random() % 2 == 0) {
      history.DeletionBegun(name);
      if (cluster.client(static_cast<int>(random() % Cluster::kGateways))
              .Delete(name, kCallLimit)
              .ok()) {
        history.Deleted(name);
      }
      ReadOne(client, history, name);
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

// When a caller of both gateways, who only reads one corpus, got answers.
class Pulse {
 public:
  Pulse(Cluster& cluster, std::string name)
      : name_(std::move(name)), thread_([this, &cluster] { Beat(cluster); }) {}
  ~Pulse() {
    stop_ = true;
    thread_.join();
  }
  // The longest time without an answer between `begin` and now.
  std::chrono::duration<double> LongestPause(Clock::time_point begin) {
    const std::lock_guard lock(mutex_);
    Clock::time_point last = begin;
    Clock::duration longest{};
    for (const Clock::time_point beat : beats_) {
      if (beat < begin) continue;
      longest = std::max(longest, beat - last);
      last = beat;
    }
    return std::max(longest, Clock::now() - last);
  }

 private:
  void Beat(Cluster& cluster) {
    while (!stop_) {
      if (cluster.balanced().Get(name_, nullptr, kCallLimit).ok()) {
        const std::lock_guard lock(mutex_);
        beats_.push_back(Clock::now());
      }
      std::this_thread::sleep_for(milliseconds(20));
    }
  }

  const std::string name_;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::vector<Clock::time_point> beats_;
  std::thread thread_;
};

// A corpus on the worker, which nobody else deletes.
std::string OneOn(Cluster& cluster, int worker) {
  for (int i = 0;; ++i) {
    const std::string name = "pulse" + std::to_string(worker) + "-" + std::to_string(i);
    EXPECT_TRUE(cluster.client(0).Create(name).ok());
    if (cluster.HeldBy(worker).contains(name)) return name;
  }
}

// One fault and its end; what it was.
std::string Fault(Cluster& cluster, std::mt19937& random) {
  const int which = static_cast<int>(random() % 2);
  const auto time = milliseconds(100 + random() % (1500 * kLeaseSeconds));
  const std::string lasted = " for " + std::to_string(time.count()) + " ms";
  const auto restart = [](Server& server) {
    server.process().Signal(SIGKILL);
    server.process().Wait();
    server.Start();
    return server.name() + " killed";
  };
  struct Named {
    Link& link;
    std::string name;
  };
  const auto link = [&]() -> Named {
    switch (random() % 3) {
      case 0:
        return {cluster.worker_to_etcd(which), cluster.worker(which).name() + " to etcd"};
      case 1:
        return {cluster.gateway_to_etcd(which), cluster.gateway(which).name() + " to etcd"};
      default:
        return {cluster.to_worker(which), "gateways to " + cluster.worker(which).name()};
    }
  };
  switch (random() % 8) {
    case 0:
    case 1:
      cluster.worker(which).process().Signal(SIGSTOP);
      std::this_thread::sleep_for(time);
      cluster.worker(which).process().Signal(SIGCONT);
      return cluster.worker(which).name() + " paused" + lasted;
    case 2:
      return restart(cluster.worker(which));
    case 3:
      return restart(cluster.gateway(which));
    case 4: {
      cluster.etcd().process().Signal(SIGKILL);
      cluster.etcd().process().Wait();
      std::this_thread::sleep_for(time / 2);
      cluster.etcd().Start();
      return "etcd away for " + std::to_string(time.count() / 2) + " ms";
    }
    case 5:
    case 6: {
      const Named cut = link();
      cut.link.Cut();
      std::this_thread::sleep_for(time);
      cut.link.Heal();
      return cut.name + " cut" + lasted;
    }
    default: {
      const Named slow = link();
      const auto delay = milliseconds(20 + random() % 300);
      slow.link.Slow(delay);
      std::this_thread::sleep_for(time);
      slow.link.Heal();
      return slow.name + " slowed by " + std::to_string(delay.count()) + " ms" + lasted;
    }
  }
}

// The value below which the share lies. values: not empty.
double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

TEST(ClusterFaults, NothingAcknowledgedIsLostAndNothingDeletedIsRead) {
  const int faults = FromEnvironment("LECTERN_FAULTS", 3);
  const int seed = FromEnvironment("LECTERN_SEED", 1);
  Cluster cluster;
  ASSERT_TRUE(cluster.client(0).Create("read").ok());
  ASSERT_TRUE(cluster.client(0).Upload("read", "a", RandomText(200, 1)).ok());
  ASSERT_TRUE(cluster.client(0).Ingest("read").ok());
  const v1::AskRequest question = Question("read", "What is it about?");
  const Asked first = cluster.client(0).Ask(question);
  ASSERT_TRUE(first.status.ok()) << first.status.error_message();

  History history;
  std::atomic<bool> stop = false;
  std::atomic<int> answers = 0;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] { Write(cluster, history, i, seed, stop); });
  }
  threads.emplace_back([&] {
    for (int i = 0; !stop; ++i) {
      const Asked asked = cluster.client(i % 2).Ask(question);
      if (!asked.status.ok()) continue;
      ++answers;
      if (asked.completed.answer() != first.completed.answer() ||
          asked.completed.usage().corpus_prefill_tokens() != 0) {
        ++wrong;
      }
    }
  });
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<double> pauses;
  {
    Pulse on_first(cluster, OneOn(cluster, 0));
    Pulse on_second(cluster, OneOn(cluster, 1));
    for (int i = 0; i < faults; ++i) {
      const Clock::time_point begin = Clock::now();
      const std::string what = Fault(cluster, random);
      cluster.AwaitWhole();
      const std::chrono::duration<double> lasted = Clock::now() - begin;
      pauses.push_back(
          std::max(on_first.LongestPause(begin), on_second.LongestPause(begin)).count());
      std::printf("fault %d: %s; whole again after %.2f s, longest pause of a reader %.2f s\n", i,
                  what.c_str(), lasted.count(), pauses.back());
      std::fflush(stdout);
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();

  const std::vector<std::string> contradictions = history.Contradictions();
  EXPECT_EQ(contradictions, std::vector<std::string>{});
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(answers, 0);
  EXPECT_GT(history.reads(), 0u);
  // And at rest.
  cluster.gateway(0).AwaitMetric("lectern_cluster_pending_purges", 0);
  const auto stored = {cluster.HeldBy(0), cluster.HeldBy(1)};
  int lost = 0;
  int back = 0;
  for (const auto& [name, life] : history.lives()) {
    if (life.created && !life.deletion_begun && !cluster.client(0).Get(name).ok()) ++lost;
    if (!life.deleted) continue;
    back += cluster.client(1).Get(name).ok() ? 1 : 0;
    for (const std::set<std::string>& held : stored) back += static_cast<int>(held.count(name));
  }
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(back, 0);
  std::printf("%d faults, %zu names, %zu reads, %d answers; seed %d\n", faults,
              history.lives().size(), history.reads(), answers.load(), seed);
  if (const char* results = std::getenv("LECTERN_RESULTS"); results != nullptr) {
    const double pause = Quantile(pauses, 0.99);
    campaign::WriteRows(
        results,
        {{"faults", faults, static_cast<double>(faults), "faults", "at least 200", faults / 200.0},
         {"lost", faults, static_cast<double>(lost + contradictions.size()), "names", "0", 0},
         {"back_after_deletion", faults, static_cast<double>(back), "names", "0", 0},
         {"wrong", faults, static_cast<double>(wrong), "answers", "0", 0},
         {"answers", faults, static_cast<double>(answers), "answers", "", 0},
         {"pause_median_s", faults, Quantile(pauses, 0.5), "s", "the lease",
          Quantile(pauses, 0.5) / kLeaseSeconds},
         {"pause_p99_s", faults, pause, "s", "the lease", pause / kLeaseSeconds}});
  }
}

}  // namespace
}  // namespace lectern::testing
