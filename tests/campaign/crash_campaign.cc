// kill -9, again and again, at random moments and at every fail point, over uploads, ingests,
// questions, sessions, evictions, rebuilds, deletions and garbage collection on corpora of over 16K
// tokens. After each kill a copy of what is on disk is opened: committed corpora are whole and have
// the bytes and answers of an undisturbed run, uncommitted ones are invisible, and what was not
// committed is at most one chunk. The killed directory itself is met by the next process as it is.
//
//   crash_campaign --work=DIR [--seed=N] [--kills=N] [--minutes=N] [--results=FILE]
//
// Goes on where an earlier run with the same DIR, commit and format stopped. Exit code 0: nothing
// was violated.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "storage/fail_point.h"
#include "storage/store.h"
#include "tests/campaign/library.h"
#include "tests/campaign/results.h"
#include "tests/support/random_model.h"
#include "tests/support/test_engine.h"

ABSL_FLAG(std::string, work, "", "directory of this campaign: data, state; made if absent");
ABSL_FLAG(uint64_t, seed, 1, "of what is killed when");
ABSL_FLAG(int, kills, 1000, "kills to reach, earlier runs included");
ABSL_FLAG(int, minutes, 0, "stop after so many minutes; 0: no limit");
ABSL_FLAG(bool, restart, false, "forget earlier runs");
ABSL_FLAG(std::string, child, LECTERN_CRASH_CHILD, "the program that is killed");
ABSL_FLAG(std::string, results, "", "trust.json to merge the rows into");

namespace lectern::campaign {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Chunks above 7,300 tokens are committed as table files, smaller ones through the log.
constexpr int kChunks[] = {512, 1024, 8192};
constexpr int kSharedTokens = 256;       // of an ingest in a step that questions share
constexpr int64_t kCommitTokens = 1024;  // of an ingest, where its chunk is smaller
constexpr milliseconds kLongestRandom(2500);
constexpr milliseconds kPatience(20000);  // for a place to be reached
constexpr int kCyclesOfOneProcess = 3;
constexpr int kAskEvery = 5;
constexpr int kReportEvery = 50;

// What the child said, over the lives of one data directory.
struct Said {
  std::map<uint64_t, std::set<std::string>> uploaded;
  std::map<uint64_t, size_t> published;  // documents of the newest acknowledged generation
  std::map<uint64_t, int> turns;
  std::set<uint64_t> closing;  // its session may be gone
  std::set<uint64_t> deleting, deleted;
};

// What one run of the child passed.
struct Passed {
  std::map<std::string, uint64_t> places;
  int64_t computed_since_commit = 0;  // tokens, of the ingest at work
  bool asking = false;                // a question shares the ingest's steps
};

class Campaign {
 public:
  Campaign()
      : work_(absl::GetFlag(FLAGS_work)),
        model_(work_ + "/model"),
        state_path_(fmt::format("{}/state-{}-seed{}.json", work_, ResultKey(),
                                absl::GetFlag(FLAGS_seed))) {}

  int Run();

 private:
  struct Plan {
    std::string place;  // empty: a random moment
    uint64_t at = 1;
    milliseconds after{0};
    int chunk = 1024;
    bool fresh = false;  // on a new directory: what happens only there
  };

  Plan Next(std::mt19937_64* random);
  // True when the child was killed, false when it came to its end.
  bool RunChild(const std::string& data, const Plan& plan, uint64_t seed);
  void Hear(const std::string& line, int chunk);
  void Verify(const std::string& data, const Plan& plan);
  void VerifyCorpus(storage::Store* store, const storage::Corpus& corpus);
  void VerifyIngest(storage::Store* store, const storage::Corpus& corpus, const Plan& plan);
  void VerifyAnswers(const std::string& data);
  void Violated(std::string what);
  void Lost(std::string what) {
    ++corpora_lost_;
    Violated(std::move(what));
  }
  void Forget();  // begins a new data directory
  void Save() const;
  void Load();
  int Report();

  const std::string work_;
  const std::string model_;
  const std::string state_path_;
  std::map<std::string, Expected> expected_;
  Said said_;
  Passed passed_;
  int round_ = 0;
  // Totals, saved.
  int kills_ = 0;
  int random_kills_ = 0;
  int corpora_lost_ = 0;
  int violations_ = 0;
  int64_t answers_compared_ = 0;
  int64_t caches_compared_ = 0;
  int64_t most_recomputed_ = 0;
  std::map<std::string, uint64_t> kills_at_;
  std::map<std::string, uint64_t> passed_all_;
};

void Campaign::Violated(std::string what) {
  ++violations_;
  fmt::print(stderr, "VIOLATION in round {}: {}\n", round_, what);
}

// Where this campaign kills. Corpora come from another store in a cluster alone:
// e2e_cluster_move_test kills there.
std::vector<std::string_view> Places() {
  std::vector<std::string_view> places;
  for (const storage::FailPointInfo& info : storage::AllFailPoints()) {
    if (!info.name.starts_with("import.")) places.push_back(info.name);
  }
  return places;
}

Campaign::Plan Campaign::Next(std::mt19937_64* random) {
  Plan plan;
  plan.chunk = kChunks[(*random)() % std::size(kChunks)];
  if (round_ % 2 == 0) {
    plan.after = milliseconds((*random)() % kLongestRandom.count());
    return plan;
  }
  // The places in turn; each time at another of its first passages.
  const auto places = Places();
  plan.place = places[static_cast<size_t>(round_ / 2) % places.size()];
  plan.at = 1 + (*random)() % 3;
  plan.after = kPatience;
  plan.fresh = plan.place == "open.info_written" || plan.place == "open.format";
  if (plan.fresh || plan.place.starts_with("open.")) plan.at = 1;
  if (plan.place.starts_with("commit.bulk")) plan.chunk = 8192;
  if (plan.place == "commit.small_encoded") plan.chunk = 512;
  return plan;
}

bool Campaign::RunChild(const std::string& data, const Plan& plan, uint64_t seed) {
  int channel[2];
  if (pipe(channel) != 0) std::abort();
  const std::string chunk = std::to_string(plan.chunk);
  const std::string seed_text = std::to_string(seed);
  const std::string cycles = std::to_string(kCyclesOfOneProcess);
  const std::string armed =
      plan.place.empty() ? "" : fmt::format("{}=kill@{}", plan.place, plan.at);
  const pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDOUT_FILENO);
    close(channel[0]);
    close(channel[1]);
    setenv("LECTERN_FAIL_POINT_TRACE", "1", 1);
    setenv("LECTERN_FAIL_POINTS", armed.c_str(), 1);
    const std::string program = absl::GetFlag(FLAGS_child);
    execl(program.c_str(), program.c_str(), data.c_str(), model_.c_str(), chunk.c_str(),
          seed_text.c_str(), cycles.c_str(), nullptr);
    _exit(127);
  }
  close(channel[1]);
  passed_ = {};
  const Clock::time_point end = Clock::now() + plan.after;
  bool killed_by_us = false;
  std::string buffer;
  char bytes[4096];
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - Clock::now()).count();
    if (left <= 0 && !killed_by_us) {
      kill(child, SIGKILL);
      killed_by_us = true;
    }
    pollfd waiting = {.fd = channel[0], .events = POLLIN, .revents = 0};
    poll(&waiting, 1, killed_by_us ? -1 : static_cast<int>(left));
    if (waiting.revents == 0) continue;
    const ssize_t got = read(channel[0], bytes, sizeof(bytes));
    if (got <= 0) break;
    buffer.append(bytes, static_cast<size_t>(got));
    for (size_t newline; (newline = buffer.find('\n')) != std::string::npos;) {
      Hear(buffer.substr(0, newline), plan.chunk);
      buffer.erase(0, newline + 1);
    }
  }
  close(channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
    if (killed_by_us) {
      ++random_kills_;
    } else {
      ++kills_at_[plan.place];
    }
    return true;
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    Violated(
        fmt::format("the child ended by itself with status {} (place {})", status, plan.place));
  }
  return false;
}

void Campaign::Hear(const std::string& line, int chunk) {
  if (line.starts_with('@')) {
    const std::string place = line.substr(1);
    ++passed_.places[place];
    ++passed_all_[place];
    if (place == "ingest.step_computed") {
      passed_.computed_since_commit += passed_.asking ? std::min(kSharedTokens, chunk) : chunk;
    }
    if (place == "commit.published" || place == "ingest.started") {
      passed_.computed_since_commit = 0;
    }
    return;
  }
  std::istringstream words(line);
  std::string verb, third, fourth;
  uint64_t number = 0;
  words >> verb >> number >> third >> fourth;
  if (verb == "uploaded") said_.uploaded[number].insert(third);
  if (verb == "published") {
    said_.published[number] = std::max<size_t>(said_.published[number], std::stoul(third));
  }
  if (verb == "closing") said_.closing.insert(number);
  if (verb == "deleting") said_.deleting.insert(number);
  if (verb == "deleted") said_.deleted.insert(number);
  if (verb == "asking") passed_.asking = true;
  if (verb == "answer" || verb == "turn") passed_.asking = false;
  if (verb == "answer") {
    ++answers_compared_;
    if (fourth != expected_.at(ExpectedKey(number, std::stoul(third))).answer) {
      Violated(fmt::format("corpus {} with {} documents was answered otherwise", number, third));
    }
  }
  if (verb == "turn") {
    const int turn = std::stoi(third);
    said_.turns[number] = turn + 1;
    ++answers_compared_;
    if (fourth != expected_.at(ExpectedKey(number, 2)).turns[turn]) {
      Violated(fmt::format("turn {} of corpus {} was answered otherwise", turn, number));
    }
  }
}

void Campaign::VerifyIngest(storage::Store* store, const storage::Corpus& corpus,
                            const Plan& plan) {
  auto operations = store->catalog().ListOperations(corpus.tenant_uid, corpus.uid, {});
  if (!operations.ok()) return Violated(operations.status().ToString());
  for (const storage::Operation& operation : operations->items) {
    auto intent = store->catalog().GetIngest(operation.uid);
    if (absl::IsNotFound(intent.status())) continue;
    if (!intent.ok()) return Violated(intent.status().ToString());
    const storage::IngestContext& context = intent->contexts[0];
    std::vector<storage::Segment> segments = context.reused;
    if (context.end_block > context.first_block) {
      segments.push_back({.lineage = context.lineage,
                          .first_block = context.first_block,
                          .block_count = context.end_block - context.first_block});
    }
    storage::Generation partial;
    partial.geometry = intent->geometry;
    partial.contexts.push_back({.token_count = context.token_count, .segments = segments});
    const auto digest = CacheDigest(store, corpus.tenant_uid, partial);
    if (!digest.ok())
      Lost(fmt::format("{}: blocks of an ingest: {}", corpus.id, digest.status().ToString()));
    // What the killed process had computed and not yet committed.
    const int64_t computed = passed_.computed_since_commit;
    most_recomputed_ = std::max(most_recomputed_, computed);
    if (computed > std::max<int64_t>(plan.chunk, kCommitTokens)) {
      Violated(fmt::format("{} computed tokens were not committed", computed));
    }
  }
}

void Campaign::VerifyCorpus(storage::Store* store, const storage::Corpus& corpus) {
  storage::Catalog& catalog = store->catalog();
  const uint64_t number = CorpusNumber(corpus.id);
  if (said_.deleted.contains(number)) return Violated(corpus.id + " is back after its deletion");
  auto documents = catalog.ListDocuments(corpus.uid, {});
  if (!documents.ok()) return Lost(documents.status().ToString());
  std::set<std::string> there;
  for (const storage::Document& document : documents->items) {
    there.insert(document.id);
    const auto bytes = catalog.ReadDocument(document, 0, UINT64_MAX);
    if (!bytes.ok() || *bytes != DocumentText(document.id, number)) {
      Lost(fmt::format("document {} of {} has other bytes: {}", document.id, corpus.id,
                       bytes.status().ToString()));
    }
  }
  for (const std::string& id : said_.uploaded[number]) {
    if (id != "large" && !there.contains(id)) {
      Lost(fmt::format("acknowledged document {} of {} is gone", id, corpus.id));
    }
  }
  if (corpus.current_generation == 0) {
    if (said_.published.contains(number)) Lost("the generation of " + corpus.id + " is gone");
    return;
  }
  auto generation = catalog.GetGeneration(corpus.current_generation);
  if (!generation.ok()) return Lost(generation.status().ToString());
  if (said_.published.contains(number) &&
      generation->documents.size() < said_.published.at(number)) {
    Lost("the newest generation of " + corpus.id + " is gone");
  }
  if (generation->residency == storage::Residency::kComplete) {
    const auto digest = CacheDigest(store, corpus.tenant_uid, *generation);
    const std::string key = ExpectedKey(number, generation->documents.size());
    ++caches_compared_;
    if (!digest.ok()) {
      Lost(fmt::format("the cache of {}: {}", corpus.id, digest.status().ToString()));
    } else if (*digest != expected_.at(key).cache) {
      Lost("the cache of " + corpus.id + " has other bytes than an undisturbed run's");
    }
  }
  if (said_.turns.contains(number) && !said_.closing.contains(number)) {
    auto session = catalog.GetSession(corpus.uid, "talk");
    if (!session.ok()) {
      Lost(fmt::format("the session of {}: {}", corpus.id, session.status().ToString()));
    } else if (static_cast<int>(session->turn_count) < said_.turns.at(number)) {
      Lost("an acknowledged turn of " + corpus.id + " is gone");
    }
  }
}

void Campaign::Verify(const std::string& data, const Plan& plan) {
  // A copy, because opening repairs: table files never change and are linked.
  const std::string copy = work_ + "/copy";
  fs::remove_all(copy);
  fs::create_directories(copy);
  for (const auto& entry : fs::recursive_directory_iterator(data)) {
    const fs::path target = copy / fs::relative(entry.path(), data);
    if (entry.is_directory()) {
      fs::create_directories(target);
    } else if (entry.path().extension() == ".sst") {
      fs::create_hard_link(entry.path(), target);
    } else {
      fs::copy_file(entry.path(), target);
    }
  }
  {
    auto store = storage::Store::Open({.directory = copy});
    if (!store.ok()) return Lost("the store does not open: " + store.status().ToString());
    const auto tenant = (*store)->catalog().GetTenant(storage::kDefaultTenantId);
    if (!tenant.ok()) return Lost(tenant.status().ToString());
    const auto corpora = (*store)->catalog().ListCorpora(tenant->uid, {});
    if (!corpora.ok()) return Lost(corpora.status().ToString());
    std::set<uint64_t> there;
    for (const storage::Corpus& corpus : corpora->items) {
      there.insert(CorpusNumber(corpus.id));
      VerifyCorpus(store->get(), corpus);
      VerifyIngest(store->get(), corpus, plan);
    }
    for (const auto& [number, documents] : said_.uploaded) {
      if (!there.contains(number) && !said_.deleting.contains(number)) {
        Lost(fmt::format("corpus {} is gone", number));
      }
    }
  }
  if (kills_ % kAskEvery == 0) VerifyAnswers(copy);
}

void Campaign::VerifyAnswers(const std::string& data) {
  auto engine = engine::Engine::Open(CampaignEngine(data, model_, 1024));
  if (!engine.ok()) return Lost("the engine does not open: " + engine.status().ToString());
  const auto corpora = (*engine)->ListCorpora("default", {});
  if (!corpora.ok()) return Lost(corpora.status().ToString());
  for (const engine::Corpus& corpus : corpora->items) {
    if (corpus.current_generation.empty()) continue;
    const auto generation =
        (*engine)->GetGeneration({.corpus = corpus.name, .id = corpus.current_generation});
    if (!generation.ok()) return Lost(generation.status().ToString());
    if (generation->residency != engine::Residency::kComplete) continue;
    const uint64_t number = CorpusNumber(corpus.name.corpus);
    // Of this generation: an ingest that resumed may publish the next one meanwhile.
    engine::AskRequest question = Question(number);
    question.target.generation = corpus.current_generation;
    const auto answer = testing::AskAndWait(**engine, question);
    ++answers_compared_;
    if (!answer.ok()) {
      Lost(answer.status().ToString());
    } else if (answer->text !=
               expected_.at(ExpectedKey(number, generation->documents.size())).text) {
      // An ingest that resumed may share its steps: evidence is then equal within rounding only.
      Violated(corpus.name.corpus + " is answered otherwise");
    } else if (answer->usage.corpus_prefill_tokens != 0) {
      Violated(corpus.name.corpus + " was prefilled again");
    }
  }
}

void Campaign::Forget() {
  std::error_code ignored;
  const std::string data = work_ + "/data";
  if (violations_ > 0 && fs::exists(data) && !fs::exists(data + "-violated")) {
    fs::rename(data, data + "-violated", ignored);
  }
  fs::remove_all(data, ignored);
  said_ = {};
}

void Campaign::Load() {
  if (absl::GetFlag(FLAGS_restart)) fs::remove(state_path_);
  const nlohmann::json state = LoadState(state_path_);
  round_ = state.value("round", 0);
  kills_ = state.value("kills", 0);
  random_kills_ = state.value("random_kills", 0);
  corpora_lost_ = state.value("corpora_lost", 0);
  violations_ = state.value("violations", 0);
  answers_compared_ = state.value("answers_compared", int64_t{0});
  caches_compared_ = state.value("caches_compared", int64_t{0});
  most_recomputed_ = state.value("most_recomputed", int64_t{0});
  kills_at_ = state.value("kills_at", kills_at_);
  passed_all_ = state.value("passed", passed_all_);
}

void Campaign::Save() const {
  SaveState(state_path_, {{"round", round_},
                          {"kills", kills_},
                          {"random_kills", random_kills_},
                          {"corpora_lost", corpora_lost_},
                          {"violations", violations_},
                          {"answers_compared", answers_compared_},
                          {"caches_compared", caches_compared_},
                          {"most_recomputed", most_recomputed_},
                          {"kills_at", kills_at_},
                          {"passed", passed_all_}});
}

int Campaign::Report() {
  uint64_t tokens = 0;
  for (const auto& [key, expected] : expected_) tokens = std::max(tokens, expected.tokens);
  fmt::print(
      "{} kills: {} at random moments, the others at {} of {} places; {} memtables flushed, {} "
      "compactions; {} caches and {} answers compared; at most {} computed tokens lost\n"
      "{} corpora lost, {} violations\n",
      kills_, random_kills_, kills_at_.size(), Places().size(), passed_all_["flush.flushed"],
      passed_all_["compaction.compacted"], caches_compared_, answers_compared_, most_recomputed_,
      corpora_lost_, violations_);
  for (const std::string_view place : Places()) {
    if (!kills_at_.contains(std::string(place))) fmt::print("  never killed at {}\n", place);
  }
  const auto size = static_cast<int64_t>(tokens);
  WriteRows(absl::GetFlag(FLAGS_results), {{.metric = "kills",
                                            .size = size,
                                            .value = static_cast<double>(kills_),
                                            .unit = "kills",
                                            .against = "at least 1000",
                                            .ratio = kills_ / 1000.0},
                                           {.metric = "kill_places",
                                            .size = size,
                                            .value = static_cast<double>(kills_at_.size()),
                                            .unit = "fail points",
                                            .against = "at least 20",
                                            .ratio = static_cast<double>(kills_at_.size()) / 20},
                                           {.metric = "corpora_lost",
                                            .size = size,
                                            .value = static_cast<double>(corpora_lost_),
                                            .unit = "corpora",
                                            .against = "0"},
                                           {.metric = "crash_violations",
                                            .size = size,
                                            .value = static_cast<double>(violations_),
                                            .unit = "violations",
                                            .against = "0"}});
  return violations_ == 0 ? 0 : 1;
}

int Campaign::Run() {
  if (work_.empty()) {
    fmt::print(stderr, "--work names the directory of the campaign\n");
    return 2;
  }
  fs::create_directories(work_);
  testing::WriteRandomModel({}, model_);
  const std::string scratch = work_ + "/expected";
  fs::remove_all(scratch);
  fs::create_directories(scratch);
  expected_ = MakeExpected(scratch, model_);
  fs::remove_all(scratch);
  Load();
  Forget();
  const auto limit = std::chrono::minutes(absl::GetFlag(FLAGS_minutes));
  const Clock::time_point begin = Clock::now();
  while (kills_ < absl::GetFlag(FLAGS_kills) &&
         (limit.count() == 0 || Clock::now() - begin < limit)) {
    ++round_;
    std::mt19937_64 random(absl::GetFlag(FLAGS_seed) * 1'000'003 + static_cast<uint64_t>(round_));
    const Plan plan = Next(&random);
    const int violations_before = violations_;
    if (plan.fresh) Forget();
    const std::string data = work_ + "/data";
    if (plan.place == "open.orphans_deleted") {
      // Orphans must be there first.
      Plan first = plan;
      first.place = "commit.bulk_ingested";
      kills_ += RunChild(data, first, random());
    }
    // An even seed has the child keep house first, which is where generations go.
    const uint64_t child_seed = plan.place.starts_with("generation.") ? random() * 2 : random();
    const bool killed = RunChild(data, plan, child_seed);
    kills_ += killed;
    if (fs::exists(data + "/FORMAT")) {
      Verify(data, plan);
    } else if (!said_.uploaded.empty()) {
      Lost("the directory has no FORMAT any more");
    }
    if (violations_ > violations_before) {
      fmt::print(stderr, "  (seed {}, place \"{}\", chunk {})\n", absl::GetFlag(FLAGS_seed),
                 plan.place, plan.chunk);
      Forget();
    }
    Save();
    if (round_ % kReportEvery == 0) Report();
  }
  return Report();
}

}  // namespace
}  // namespace lectern::campaign

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return lectern::campaign::Campaign().Run();
}
