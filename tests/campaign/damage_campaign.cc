// Damage to any file of a data directory: bits flipped, files cut, blanked, swapped, replaced by
// older or by another store's, or gone. Each must be noticed, when the store is opened or when what
// was hit is read, or change nothing: everything that can be read is then read and is the same to
// the last byte, and questions are answered the same. Never a wrong byte, never a corpus that is
// silently gone.
//
//   damage_campaign --work=DIR [--seed=N] [--flips=N] [--others=N] [--minutes=N] [--results=FILE]
//
// Goes on where an earlier run with the same DIR, commit and format stopped. Every trial runs in a
// process of its own, so that one that ends by an assertion is counted and does not end the
// campaign. Exit code 0: nothing went unnoticed.
#include <absl/flags/flag.h>
#include <absl/flags/parse.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "storage/store.h"
#include "tests/campaign/library.h"
#include "tests/campaign/results.h"
#include "tests/campaign/snapshot.h"
#include "tests/support/random_model.h"
#include "tests/support/test_engine.h"

ABSL_FLAG(std::string, work, "", "directory of this campaign: images, state; made if absent");
ABSL_FLAG(uint64_t, seed, 1, "of what is damaged how");
ABSL_FLAG(int, flips, 10'000, "bit flips to reach, earlier runs included");
ABSL_FLAG(int, others, 1'500, "damages of other kinds to reach, earlier runs included");
ABSL_FLAG(int, minutes, 0, "stop after so many minutes; 0: no limit");
ABSL_FLAG(bool, restart, false, "forget earlier runs");
ABSL_FLAG(std::string, results, "", "trust.json to merge the rows into");

namespace lectern::campaign {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kAskEvery = 50;  // of the harmless ones, by an engine
constexpr int kReportEvery = 500;
constexpr size_t kBlankBytes = 4096;
constexpr uint64_t kNumber = 1;  // of the corpus (library.h)

// ---- The images.

// A corpus of two generations with a session, some of it in the log; `older` as it was before the
// second generation.
void MakeStore(const std::string& data, const std::string& model, uint64_t number,
               const std::string& older, const std::string& killed) {
  auto engine = engine::Engine::Open(CampaignEngine(data, model, 8192));
  if (!engine.ok()) std::abort();
  const auto must = [](bool ok) {
    if (!ok) std::abort();
  };
  const engine::CorpusName name = NameOf(number);
  for (const char* id : {"large", "common", "own"}) {
    testing::Upload(**engine, name, id, DocumentText(id, number));
  }
  must((*engine)->DeleteDocument({.corpus = name, .id = "large"}).ok());
  must(testing::IngestAndWait(**engine, name).error.ok());
  must((*engine)->CreateSession({.corpus = name, .id = "talk"}, "", 0).ok());
  must(testing::AskAndWait(**engine, TurnQuestion(number, 0)).ok());
  // Closed and opened in between: part of it lies in tables, part in the log.
  engine->reset();
  fs::copy(data, older, fs::copy_options::recursive);
  engine = engine::Engine::Open(CampaignEngine(data, model, 512));
  must(engine.ok());
  testing::Upload(**engine, name, "extra", DocumentText("extra", number));
  must(testing::IngestAndWait(**engine, name).error.ok());
  must(testing::AskAndWait(**engine, TurnQuestion(number, 1)).ok());
  // As after a kill.
  fs::copy(data, killed, fs::copy_options::recursive);
}

std::string ClassOf(const fs::path& path) {
  const std::string name = path.filename();
  if (path.extension() == ".sst") return "SST";
  if (path.extension() == ".log") return "WAL";
  for (const char* prefix : {"MANIFEST", "OPTIONS", "LOG"}) {
    if (name.starts_with(prefix)) return prefix;
  }
  return name;  // CURRENT, IDENTITY, FORMAT, WATERMARK, LOCK
}

std::map<std::string, std::vector<fs::path>> FilesByClass(const std::string& directory) {
  std::map<std::string, std::vector<fs::path>> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file() && entry.file_size() > 0) {
      files[ClassOf(entry.path())].push_back(fs::relative(entry.path(), directory));
    }
  }
  for (auto& [name, paths] : files) std::sort(paths.begin(), paths.end());
  return files;
}

// Table files never change and are linked; what is damaged is written anew.
void CopyImage(const std::string& from, const std::string& to) {
  fs::remove_all(to);
  fs::create_directories(to);
  for (const auto& entry : fs::recursive_directory_iterator(from)) {
    const fs::path target = to / fs::relative(entry.path(), from);
    if (entry.is_directory()) {
      fs::create_directories(target);
    } else if (entry.path().extension() == ".sst") {
      fs::create_hard_link(entry.path(), target);
    } else {
      fs::copy_file(entry.path(), target);
    }
  }
}

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteAnew(const fs::path& path, const std::string& bytes) {
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

// ---- Damage.

// K/V records of one size lie in blocks of one size, so that two can be exchanged exactly: a swap
// that every checksum of a block survives. Positions of the blocks' starts.
std::vector<size_t> KvBlocks(const std::string& table, size_t* block_bytes) {
  const std::string magic("Lr\x20\x01", 4);  // kind 32 (Kv), version 1
  std::vector<size_t> records;
  for (size_t at = table.find(magic); at != std::string::npos; at = table.find(magic, at + 1)) {
    records.push_back(at);
  }
  std::vector<size_t> starts;
  if (records.size() < 3) return starts;
  *block_bytes = records[1] - records[0];
  // Before the value: three lengths (1, 1, 3 bytes) and the key with RocksDB's trailer.
  constexpr size_t kBefore = 5 + 22 + 8;
  for (size_t i = 0; i + 1 < records.size(); ++i) {
    if (records[i + 1] - records[i] == *block_bytes && records[i] >= kBefore) {
      starts.push_back(records[i] - kBefore);
    }
  }
  return starts;
}

struct Images {
  std::string image, older, foreign;
};

std::string FlipBit(const fs::path& path, std::mt19937_64* random) {
  std::string bytes = ReadFile(path);
  const size_t at = (*random)() % bytes.size();
  const int bit = static_cast<int>((*random)() % 8);
  bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
  WriteAnew(path, bytes);
  return fmt::format("bit {} of byte {} of {}", bit, at, bytes.size());
}

std::string DamageOtherwise(const fs::path& root, const fs::path& relative,
                            const std::vector<fs::path>& siblings, const Images& images,
                            std::mt19937_64* random) {
  const fs::path path = root / relative;
  std::string bytes = ReadFile(path);
  const size_t at = (*random)() % bytes.size();
  const fs::path& other = siblings[(*random)() % siblings.size()];
  switch ((*random)() % 9) {
    case 0:
    case 1:
      WriteAnew(path, bytes.substr(0, at));
      return fmt::format("cut at {} of {}", at, bytes.size());
    case 2: {
      const size_t count = std::min(kBlankBytes, bytes.size() - at);
      bytes.replace(at, count, count, '\0');
      WriteAnew(path, bytes);
      return fmt::format("{} zeros at {}", count, at);
    }
    case 3: {
      const std::string others = ReadFile(root / other);
      WriteAnew(root / other, bytes);
      WriteAnew(path, others);
      return fmt::format("swapped with {}", other.string());
    }
    case 4:
      WriteAnew(path, ReadFile(root / other));
      return fmt::format("replaced by {}", other.string());
    case 5: {
      // The same name from another time, or else the same kind of file.
      fs::path stale = images.older / relative;
      if (!fs::exists(stale)) {
        for (const auto& entry : fs::recursive_directory_iterator(images.older)) {
          if (entry.is_regular_file() && ClassOf(entry.path()) == ClassOf(relative)) {
            stale = entry.path();
          }
        }
      }
      if (!fs::exists(stale)) break;
      WriteAnew(path, ReadFile(stale));
      return fmt::format("replaced by an older {}", stale.filename().string());
    }
    case 6: {
      for (const auto& entry : fs::recursive_directory_iterator(images.foreign)) {
        if (entry.is_regular_file() && ClassOf(entry.path()) == ClassOf(relative) &&
            (*random)() % 2 == 0) {
          WriteAnew(path, ReadFile(entry.path()));
          return fmt::format("replaced by another store's {}", entry.path().filename().string());
        }
      }
      break;
    }
    case 7: {
      size_t block = 0;
      const std::vector<size_t> starts = KvBlocks(bytes, &block);
      if (starts.size() < 2) break;
      const size_t a = starts[(*random)() % starts.size()];
      const size_t b = starts[(*random)() % starts.size()];
      if (a == b) break;
      const std::string kept = bytes.substr(a, block);
      bytes.replace(a, block, bytes.substr(b, block));
      bytes.replace(b, block, kept);
      WriteAnew(path, bytes);
      return fmt::format("blocks at {} and {} exchanged", a, b);
    }
    default:
      break;
  }
  fs::remove(path);
  return "gone";
}

// ---- One trial.

enum class Outcome { kDetected, kHarmless, kUndetected, kAborted };

// What happens in a process of its own; the answer is its exit code.
constexpr int kSame = 10;
constexpr int kError = 11;
constexpr int kOther = 12;
constexpr int kWrongCode = 13;

int InChild(const std::function<int()>& work, const std::string& says) {
  const pid_t child = fork();
  if (child == 0) {
    // What it says goes to a file: an assertion's text is part of a finding.
    if (std::freopen(says.c_str(), "w", stderr) == nullptr) _exit(126);
    const int code = work();
    std::fflush(stderr);
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class Campaign {
 public:
  Campaign()
      : work_(absl::GetFlag(FLAGS_work)),
        model_(work_ + "/model"),
        state_path_(fmt::format("{}/state-{}-seed{}.json", work_, ResultKey(),
                                absl::GetFlag(FLAGS_seed))) {}
  int Run();

 private:
  bool Prepare();
  Outcome Try(const std::string& directory, const std::string& expected, bool ask);
  void Load();
  void Save() const;
  int Report() const;

  const std::string work_;
  const std::string model_;
  const std::string state_path_;
  std::string expected_closed_, expected_killed_, expected_text_;
  int64_t image_bytes_ = 0;
  int round_ = 0;
  int flips_ = 0;
  int others_ = 0;
  int undetected_ = 0;
  int aborted_ = 0;
  int asked_ = 0;
  int harmless_seen_ = 0;
  std::map<std::string, std::map<std::string, int>> by_class_;
};

bool Campaign::Prepare() {
  fs::create_directories(work_);
  testing::WriteRandomModel({}, model_);
  for (const char* name :
       {"closed", "killed", "older", "foreign", "foreign-older", "foreign-killed"}) {
    fs::remove_all(work_ + "/" + name);
  }
  const std::string says = work_ + "/says";
  if (InChild(
          [&] {
            MakeStore(work_ + "/closed", model_, kNumber, work_ + "/older", work_ + "/killed");
            return 0;
          },
          says) != 0 ||
      InChild(
          [&] {
            MakeStore(work_ + "/foreign", model_, kNumber + 1, work_ + "/foreign-older",
                      work_ + "/foreign-killed");
            return 0;
          },
          says) != 0) {
    return false;
  }
  const auto read = [&](const std::string& image, std::string* digest, std::string* text) {
    const std::string found = work_ + "/found";
    fs::remove(found);
    CopyImage(work_ + "/" + image, work_ + "/trial");
    InChild(
        [&] {
          const auto snapshot = SnapshotDigest(work_ + "/trial");
          std::ofstream(found) << (snapshot.ok() ? *snapshot : "");
          auto engine = engine::Engine::Open(CampaignEngine(work_ + "/trial", model_, 1024));
          if (!engine.ok()) return 1;
          const auto answer = testing::AskAndWait(**engine, Question(kNumber));
          std::ofstream(found + ".text") << (answer.ok() ? AnswerDigest(*answer) : "");
          return 0;
        },
        says);
    *digest = ReadFile(found);
    *text = ReadFile(found + ".text");
    return !digest->empty() && !text->empty();
  };
  std::string again;
  if (!read("closed", &expected_closed_, &expected_text_) ||
      !read("killed", &expected_killed_, &again) || again != expected_text_) {
    return false;
  }
  image_bytes_ = 0;
  for (const auto& entry : fs::recursive_directory_iterator(work_ + "/closed")) {
    if (entry.is_regular_file()) image_bytes_ += static_cast<int64_t>(entry.file_size());
  }
  return true;
}

Outcome Campaign::Try(const std::string& directory, const std::string& expected, bool ask) {
  const int code = InChild(
      [&] {
        const absl::StatusOr<std::string> snapshot = SnapshotDigest(directory);
        if (!snapshot.ok()) {
          std::fprintf(stderr, "%s\n", snapshot.status().ToString().c_str());
          // Damage is told as such, and never as the absence of what was damaged. A directory
          // whose FORMAT is broken may also be taken for a foreign or a newer one.
          return absl::IsDataLoss(snapshot.status()) ||
                         absl::IsFailedPrecondition(snapshot.status())
                     ? kError
                     : kWrongCode;
        }
        if (*snapshot != expected) return kOther;
        if (!ask) return kSame;
        auto engine = engine::Engine::Open(CampaignEngine(directory, model_, 1024));
        if (!engine.ok()) return kError;
        const auto answer = testing::AskAndWait(**engine, Question(kNumber));
        if (!answer.ok()) return kError;
        return AnswerDigest(*answer) == expected_text_ ? kSame : kOther;
      },
      work_ + "/says");
  switch (code) {
    case kSame:
      return Outcome::kHarmless;
    case kError:
      return Outcome::kDetected;
    case -1:
      return Outcome::kAborted;
    default:
      return Outcome::kUndetected;
  }
}

void Campaign::Load() {
  if (absl::GetFlag(FLAGS_restart)) fs::remove(state_path_);
  const nlohmann::json state = LoadState(state_path_);
  round_ = state.value("round", 0);
  flips_ = state.value("flips", 0);
  others_ = state.value("others", 0);
  undetected_ = state.value("undetected", 0);
  aborted_ = state.value("aborted", 0);
  asked_ = state.value("asked", 0);
  by_class_ = state.value("by_class", by_class_);
}

void Campaign::Save() const {
  SaveState(state_path_, {{"round", round_},
                          {"flips", flips_},
                          {"others", others_},
                          {"undetected", undetected_},
                          {"aborted", aborted_},
                          {"asked", asked_},
                          {"by_class", by_class_}});
}

int Campaign::Report() const {
  for (const auto& [name, outcomes] : by_class_) {
    std::string line = fmt::format("{:<10}", name);
    for (const auto& [outcome, count] : outcomes) line += fmt::format(" {} {},", count, outcome);
    fmt::print("{}\n", line);
  }
  fmt::print(
      "{} bit flips and {} other damages, {} undetected, {} ended the process, {} answers "
      "compared\n",
      flips_, others_, undetected_, aborted_, asked_);
  std::fflush(stdout);
  const auto row = [&](const char* metric, double value, const char* unit, const char* against,
                       double ratio) {
    return Row{metric, image_bytes_, value, unit, against, ratio};
  };
  WriteRows(
      absl::GetFlag(FLAGS_results),
      {row("damages", flips_ + others_, "damages", "at least 11000", (flips_ + others_) / 11000.0),
       row("damages_undetected", undetected_, "damages", "0", 0),
       row("damages_ended_process", aborted_, "damages", "0", 0)});
  return undetected_ == 0 ? 0 : 1;
}

int Campaign::Run() {
  if (work_.empty()) {
    fmt::print(stderr, "--work names the directory of the campaign\n");
    return 2;
  }
  if (!Prepare()) {
    fmt::print(stderr, "the images could not be made:\n{}\n", ReadFile(work_ + "/says"));
    return 2;
  }
  Load();
  const auto limit = std::chrono::minutes(absl::GetFlag(FLAGS_minutes));
  const Clock::time_point begin = Clock::now();
  const std::string trial = work_ + "/trial";
  const int flips = absl::GetFlag(FLAGS_flips);
  const int others = absl::GetFlag(FLAGS_others);
  while ((flips_ < flips || others_ < others) &&
         (limit.count() == 0 || Clock::now() - begin < limit)) {
    ++round_;
    std::mt19937_64 random(absl::GetFlag(FLAGS_seed) * 1'000'003 + static_cast<uint64_t>(round_));
    const bool killed = random() % 2 == 0;
    const Images images = {work_ + (killed ? "/killed" : "/closed"), work_ + "/older",
                           work_ + "/foreign"};
    CopyImage(images.image, trial);
    const auto files = FilesByClass(trial);
    auto chosen = files.begin();
    std::advance(chosen, random() % files.size());
    // Tables hold what matters most: every other damage is to one.
    if (random() % 2 == 0) chosen = files.find("SST");
    const fs::path target = chosen->second[random() % chosen->second.size()];
    // Both kinds from the start, in proportion.
    const bool flip =
        flips_ < flips && (others_ >= others || static_cast<int64_t>(flips_) * others <=
                                                    static_cast<int64_t>(others_) * flips);
    const std::string damage =
        flip ? FlipBit(trial / target, &random)
             : DamageOtherwise(trial, target, chosen->second, images, &random);
    ++(flip ? flips_ : others_);
    const bool ask = harmless_seen_ % kAskEvery == 0;
    const Outcome outcome = Try(trial, killed ? expected_killed_ : expected_closed_, ask);
    const char* name = "harmless";
    if (outcome == Outcome::kHarmless) {
      asked_ += ask;
      ++harmless_seen_;
    } else if (outcome == Outcome::kDetected) {
      name = "detected";
    } else {
      const bool aborted = outcome == Outcome::kAborted;
      name = aborted ? "aborted" : "undetected";
      ++(aborted ? aborted_ : undetected_);
      fmt::print(stderr, "{} in round {} (seed {}): {} image, {}: {}\n{}", name, round_,
                 absl::GetFlag(FLAGS_seed), killed ? "killed" : "closed", target.string(), damage,
                 ReadFile(work_ + "/says"));
    }
    ++by_class_[chosen->first][name];
    if (round_ % kReportEvery == 0) {
      Save();
      Report();
    }
  }
  Save();
  return Report();
}

}  // namespace
}  // namespace lectern::campaign

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return lectern::campaign::Campaign().Run();
}
