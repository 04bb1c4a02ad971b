// A small file system, a disk cap on it, and far more work than fits: corpora are uploaded,
// ingested, asked, pinned, rebuilt and deleted by several threads at once, while from time to time
// something else takes all the space there is (ENOSPC on every write path). What must hold:
//   - the directory never takes more than the cap and 5 percent, by the blocks of its files;
//   - every error is typed, and one of those that fit the moment; nothing ends the process;
//   - what is cached is served whatever happens to others, with the tokens it always gave;
//   - when space returns, uploads and ingests work again in the same process.
//
//   disk_campaign --work=DIR [--seed=N] [--minutes=N] [--megabytes=N] [--results=FILE]
//
// Figures add up over runs, one seed each, by the same commit and stored format: DIR/state.json.
// Mounts a tmpfs of --megabytes at DIR/disk where that is permitted; elsewhere it works in a plain
// directory under the same cap, and the full disk is left to tests/storage/disk_full_test.cc (the
// report says so). Exit code 0: all of it held.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/error/error.h"
#include "tests/campaign/library.h"
#include "tests/campaign/results.h"
#include "tests/support/disk_use.h"
#include "tests/support/random_model.h"
#include "tests/support/test_engine.h"

ABSL_FLAG(std::string, work, "", "directory of this campaign: state, and data that starts empty");
ABSL_FLAG(uint64_t, seed, 1, "of what happens when");
ABSL_FLAG(double, minutes, 30, "how long");
ABSL_FLAG(int, megabytes, 300, "size of the file system; the cap is two thirds of it");
ABSL_FLAG(bool, full_disk, true, "take all space from time to time; else the cap alone");
ABSL_FLAG(std::string, results, "", "trust.json to merge the rows into");

namespace lectern::campaign {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using engine::Engine;

constexpr int kThreads = 3;
constexpr int kCorporaPerThread = 5;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int kMaxOverPercent = 5;
// 4 KiB of keys and values a token and a bit: a corpus of 900 to 3,000 words takes 11 to 36 MB.
const testing::RandomModel kModel = {.layers = 4, .kv_heads = 4, .head_dim = 64, .index_dim = 32};
constexpr int kFewestWords = 900;
constexpr int kMostWords = 3000;
constexpr std::chrono::seconds kRecovery(20);

// Mounted for as long as it lives, where that is permitted.
class SmallFileSystem {
 public:
  SmallFileSystem(std::string path, int megabytes) : path_(std::move(path)) {
    fs::create_directories(path_);
    mounted_ = mount("lectern", path_.c_str(), "tmpfs", 0,
                     fmt::format("size={}m", megabytes).c_str()) == 0;
  }
  ~SmallFileSystem() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return path_; }

  // Takes all space but `left` bytes, until Free. True if it could.
  bool Fill(int64_t left) {
    struct statvfs room;
    if (!mounted_ || statvfs(path_.c_str(), &room) != 0) return false;
    int64_t bytes =
        static_cast<int64_t>(room.f_bavail) * static_cast<int64_t>(room.f_frsize) - left;
    std::ofstream file(path_ + "/filler", std::ios::binary);
    const std::string piece(static_cast<size_t>(kMiB), 'f');
    for (; bytes > 0 && file; bytes -= kMiB) file << piece;
    return true;
  }
  void Free() { fs::remove(path_ + "/filler"); }

 private:
  const std::string path_;
  bool mounted_ = false;
};

// When this thread began what it does.
thread_local bool began_full = false;
thread_local int began_fillings = 0;

class Campaign {
 public:
  int Run();

 private:
  // What a thread knows of one of its corpora; no other thread touches it.
  struct Known {
    uint64_t seed = 0;  // of its text; 0: there is none
    int words = 0;
    bool ingested = false;
    bool pinned = false;
    std::string answer;
  };

  void Work(int thread);
  void Act(std::mt19937_64& random, const engine::CorpusName& name, Known* known);
  void MakeCorpus(std::mt19937_64& random, const engine::CorpusName& name, Known* known);
  void Ingest(const engine::CorpusName& name, Known* known, bool rebuild);
  void Ask(const engine::CorpusName& name, Known* known);
  void Watch();
  void FillNowAndThen();
  bool Recovers(int round);

  // Counts the outcome; anything that is neither fine nor expected now is written down.
  bool Count(const char* what, const absl::Status& status, std::set<std::string> expected);
  void Fault(const std::string& what);

  std::unique_ptr<SmallFileSystem> disk_;
  std::string data_;
  int64_t cap_ = 0;
  std::unique_ptr<Engine> engine_;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> most_{0};
  std::atomic<bool> full_{false};  // now, or so recently that its errors may still come
  std::atomic<int> fillings_{0};
  std::atomic<int> recoveries_{0};
  std::mutex mutex_;
  std::map<std::string, int64_t> outcomes_;
  std::map<std::string, std::string> firsts_;  // the first message of each
  std::vector<std::string> faults_;
};

void Campaign::Fault(const std::string& what) {
  std::lock_guard lock(mutex_);
  faults_.push_back(what);
  fmt::print(stderr, "FAULT {}\n", what);
}

bool Campaign::Count(const char* what, const absl::Status& status, std::set<std::string> expected) {
  const std::string reason = status.ok() ? "OK" : engine::ReasonOf(status);
  {
    std::lock_guard lock(mutex_);
    const std::string outcome = fmt::format("{} {}", what, reason);
    if (++outcomes_[outcome] == 1 && !status.ok()) firsts_[outcome] = status.ToString();
  }
  if (status.ok()) return true;
  if (full_ || began_full || fillings_ != began_fillings) {
    expected.insert({"DISK_FULL", "STORAGE_UNAVAILABLE"});
  }
  if (!expected.contains(reason)) {
    Fault(fmt::format("{}: {}{}", what, full_ ? "(disk full) " : "", status.ToString()));
  }
  return false;
}

void Campaign::MakeCorpus(std::mt19937_64& random, const engine::CorpusName& name, Known* known) {
  *known = {.seed = random() | 1,
            .words = kFewestWords + static_cast<int>(random() % (kMostWords - kFewestWords))};
  if (!Count("create", engine_->CreateCorpus(name, "", 0).status(), {"CORPUS_EXISTS"})) {
    if (!engine_->GetCorpus(name).ok()) {
      known->seed = 0;
      return;
    }
  }
  auto upload = engine_->BeginUpload({.corpus = name, .document_id = "d"});
  absl::Status status = upload.status();
  if (status.ok()) status = (*upload)->Append(testing::RandomText(known->words, known->seed));
  if (status.ok()) status = (*upload)->Finish().status();
  if (!Count("upload", status, {"DISK_CAP_EXCEEDED", "DOCUMENT_EXISTS"})) {
    // Gone altogether, so that the next one begins anew.
    known->seed = 0;
    Count("delete", engine_->DeleteCorpus(name), {});
  }
}

void Campaign::Ingest(const engine::CorpusName& name, Known* known, bool rebuild) {
  auto begun = rebuild ? engine_->RebuildCorpus(name, "") : engine_->IngestCorpus(name, false);
  const char* const what = rebuild ? "rebuild" : "ingest";
  if (!begun.ok()) {
    Count(what, begun.status(), {"INGEST_RUNNING", "CORPUS_NOT_INGESTED"});
    return;
  }
  engine::Operation operation = Await(*engine_, begun->name);
  // An end that could not be written is written once there is space.
  for (const auto begin = Clock::now(); !operation.done && Clock::now() < begin + 3 * kRecovery;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (auto now = engine_->GetOperation(begun->name); now.ok()) operation = *std::move(now);
  }
  if (!operation.done) {
    Fault(fmt::format("{}: the operation never ended", what));
    return;
  }
  if (Count(what, operation.error, {"DISK_CAP_EXCEEDED"})) known->ingested = true;
}

void Campaign::Ask(const engine::CorpusName& name, Known* known) {
  const auto answer = testing::AskAndWait(
      *engine_, {.target = {.corpus = name}, .question = "what is it?", .max_tokens = 8});
  if (answer.ok()) {
    Count("ask", absl::OkStatus(), {});
    if (known->answer.empty()) known->answer = answer->text;
    if (known->answer != answer->text) {
      Fault(fmt::format("{} answered \"{}\" and now \"{}\"", name.corpus, known->answer,
                        answer->text));
    }
    return;
  }
  // Reading needs no space: a full disk is no excuse.
  const std::string reason = engine::ReasonOf(answer.status());
  {
    std::lock_guard lock(mutex_);
    ++outcomes_["ask " + reason];
  }
  if (reason == "CACHE_EVICTED" || (!known->ingested && reason == "CORPUS_NOT_INGESTED")) return;
  Fault(fmt::format("ask of {}: {}", name.corpus, answer.status().ToString()));
}

void Campaign::Act(std::mt19937_64& random, const engine::CorpusName& name, Known* known) {
  if (known->seed == 0) return MakeCorpus(random, name, known);
  if (!known->ingested) {
    if (random() % 8 == 0) {
      Count("delete", engine_->DeleteCorpus(name), {});
      *known = {};
      return;
    }
    return Ingest(name, known, /*rebuild=*/false);
  }
  const auto corpus = engine_->GetCorpus(name);
  if (!corpus.ok()) {
    Fault(fmt::format("{} is not to be found: {}", name.corpus, corpus.status().ToString()));
    *known = {};
    return;
  }
  const uint64_t dice = random() % 100;
  if (corpus->cache_residency != engine::Residency::kComplete && dice < 50) {
    return Ingest(name, known, /*rebuild=*/true);
  }
  if (dice < 55) return Ask(name, known);
  if (dice < 65) {
    // One pinned corpus a thread at most: the cap must leave room for others.
    const bool pin = !known->pinned && name.corpus.ends_with("0");
    if (Count("pin", engine_->UpdateCorpus(name, {.pinned = pin}).status(), {})) {
      known->pinned = pin;
    }
    return;
  }
  if (dice < 75) {
    const engine::ResourceName session = {.corpus = name, .id = "s"};
    if (!engine_->GetSession(session).ok() &&
        !Count("session", engine_->CreateSession(session, "", 0).status(), {})) {
      return;
    }
    Count("turn",
          testing::AskAndWait(*engine_, {.target = {.corpus = name, .session = "s"},
                                         .question = "and then?",
                                         .max_tokens = 8})
              .status(),
          {"CACHE_EVICTED", "DISK_CAP_EXCEEDED"});
    return;
  }
  if (Count("delete", engine_->DeleteCorpus(name), {})) *known = {};
}

void Campaign::Work(int thread) {
  std::mt19937_64 random(absl::GetFlag(FLAGS_seed) * 1000 + static_cast<uint64_t>(thread));
  std::vector<Known> known(kCorporaPerThread);
  while (!stop_) {
    const size_t i = random() % kCorporaPerThread;
    began_full = full_;
    began_fillings = fillings_;
    Act(random, {.tenant = "default", .corpus = fmt::format("t{}-{}", thread, i)}, &known[i]);
  }
}

void Campaign::Watch() {
  while (!stop_) {
    most_ = std::max<int64_t>(most_, testing::DiskUse(data_));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

// Whether uploads and ingests work again, in this process, soon after space has returned.
bool Campaign::Recovers(int round) {
  const engine::CorpusName name = {.tenant = "default", .corpus = fmt::format("again{}", round)};
  for (const auto begin = Clock::now(); Clock::now() < begin + kRecovery && !stop_;) {
    bool well = engine_->GetCorpus(name).ok() || engine_->CreateCorpus(name, "", 0).ok();
    if (well) {
      auto upload = engine_->BeginUpload({.corpus = name, .document_id = "d"});
      well = upload.ok() && (*upload)->Append(testing::RandomText(200, 1)).ok() &&
             (*upload)->Finish().ok();
    }
    if (well) {
      const auto begun = engine_->IngestCorpus(name, false);
      well = begun.ok() && Await(*engine_, begun->name).error.ok() &&
             !engine_->GetCorpus(name)->current_generation.empty();
    }
    if (well && engine_->DeleteCorpus(name).ok()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return stop_;
}

void Campaign::FillNowAndThen() {
  std::mt19937_64 random(absl::GetFlag(FLAGS_seed));
  const auto pause = [&](int least_ms, int most_ms) {
    const auto end =
        Clock::now() +
        std::chrono::milliseconds(least_ms + static_cast<int>(random() % (most_ms - least_ms)));
    while (!stop_ && Clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  for (int round = 0; !stop_; ++round) {
    pause(2000, 6000);
    if (stop_) return;
    full_ = true;
    if (!disk_->Fill(static_cast<int64_t>(random() % (4 * kMiB)))) return;
    ++fillings_;
    pause(500, 3000);
    disk_->Free();
    if (Recovers(round)) {
      ++recoveries_;
    } else {
      Fault("no upload or ingest succeeded for 20 s after space had returned");
    }
    pause(1000, 1001);  // an operation begun while it was full may still fail
    full_ = false;
  }
}

int Campaign::Run() {
  const std::string work = absl::GetFlag(FLAGS_work);
  if (work.empty()) {
    fmt::print(stderr, "--work names the directory of the campaign\n");
    return 2;
  }
  umount2((work + "/disk").c_str(), MNT_DETACH);  // of a run that was killed
  fs::remove_all(work + "/disk");
  fs::create_directories(work);
  const std::string model = work + "/model";
  testing::WriteRandomModel(kModel, model);
  const int megabytes = absl::GetFlag(FLAGS_megabytes);
  disk_ = std::make_unique<SmallFileSystem>(work + "/disk", megabytes);
  data_ = disk_->path() + "/data";
  cap_ = megabytes * kMiB * 2 / 3;
  auto engine = Engine::Open({.data_dir = data_,
                              .model_dir = model,
                              .pool_bytes = 64 * kMiB,
                              .index_bytes = 64 * kMiB,
                              .disk_cap_bytes = cap_});
  if (!engine.ok()) {
    fmt::print(stderr, "{}\n", engine.status().ToString());
    return 2;
  }
  engine_ = *std::move(engine);
  std::vector<std::thread> threads;
  threads.emplace_back([this] { Watch(); });
  for (int i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Work(i); });
  if (disk_->mounted() && absl::GetFlag(FLAGS_full_disk)) {
    threads.emplace_back([this] { FillNowAndThen(); });
  }
  const auto begin = Clock::now();
  const std::chrono::duration<double> duration(absl::GetFlag(FLAGS_minutes) * 60);
  while (Clock::now() < begin + duration)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  stop_ = true;
  for (std::thread& thread : threads) thread.join();
  disk_->Free();

  const engine::Stats stats = *engine_->GetStats();
  engine_.reset();
  const double most_percent = 100.0 * static_cast<double>(most_) / static_cast<double>(cap_);
  const double over_percent = std::max(0.0, most_percent - 100);
  const double written = static_cast<double>(stats.disk_written_bytes) / static_cast<double>(cap_);
  for (const auto& [what, count] : outcomes_) fmt::print("{:8} {}\n", count, what);
  for (const auto& [what, message] : firsts_) fmt::print("{}: {}\n", what, message);
  int64_t evictions = 0;
  for (const auto& [cause, count] : stats.evictions) evictions += count;
  fmt::print(
      "cap {} MiB, most ever on disk {:.1f}% of it; {:.1f} caps of blocks written; {} evictions; "
      "disk full {} times, recovered {} times{}; {} faults\n",
      cap_ / kMiB, most_percent, written, evictions, fillings_.load(), recoveries_.load(),
      disk_->mounted() ? "" : " (no tmpfs could be mounted: cap only)", faults_.size());
  // With all runs of other seeds by the same program.
  const std::string state_path = work + "/state.json";
  nlohmann::json state = LoadState(state_path);
  if (state.value("key", "") != ResultKey()) state = {{"key", ResultKey()}};
  const auto add = [&](const char* name, double value) {
    return state[name] = state.value(name, 0.0) + value;
  };
  add("runs", 1);
  const double minutes = add("minutes", absl::GetFlag(FLAGS_minutes));
  const double worst = std::max(state.value("over_cap_percent", 0.0), over_percent);
  state["over_cap_percent"] = worst;
  state["most_percent"] = std::max(state.value("most_percent", 0.0), most_percent);
  WriteRows(
      absl::GetFlag(FLAGS_results),
      {{"disk_campaign_minutes", cap_, minutes, "minutes", "at least 30", minutes / 30},
       {"disk_over_cap_percent", cap_, worst, "percent", "at most 5", worst / kMaxOverPercent},
       {"disk_caps_written", cap_, add("written", written), "caps", "", 0},
       {"disk_evictions", cap_, add("evictions", static_cast<double>(evictions)), "generations", "",
        0},
       {"disk_full_times", cap_, add("fillings", fillings_), "times", "", 0},
       {"disk_full_unrecovered", cap_, add("unrecovered", fillings_ - recoveries_), "times", "0",
        0},
       {"disk_faults", cap_, add("faults", static_cast<double>(faults_.size())), "faults", "0",
        0}});
  SaveState(state_path, state);
  return faults_.empty() && over_percent <= kMaxOverPercent ? 0 : 1;
}

}  // namespace
}  // namespace lectern::campaign

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return lectern::campaign::Campaign().Run();
}
