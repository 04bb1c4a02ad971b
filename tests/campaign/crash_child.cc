// The process that the crash campaign kills: takes corpora through their whole life, and says on
// standard output what it is about to do and what was acknowledged.
//   campaign_crash_child <data directory> <model directory> <chunk tokens> <seed> <cycles>
// With LECTERN_FAIL_POINT_TRACE=1 the places it passes stand between these lines.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "storage/store.h"
#include "tests/campaign/library.h"
#include "tests/support/test_engine.h"

namespace lectern::campaign {
namespace {

void Tell(const std::string& line) {
  const std::string text = line + "\n";
  // One write of a short line to a pipe is whole or absent.
  if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(3);
}

template <typename T>
T Must(absl::StatusOr<T> value, const char* what) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s: %s\n", what, value.status().ToString().c_str());
    _exit(1);
  }
  return *std::move(value);
}
void Must(const absl::Status& status, const char* what) {
  if (!status.ok()) Must<int>(status, what);
}

class Worker {
 public:
  Worker(engine::Engine* engine, int cycles) : engine_(*engine), cycles_(cycles) {}

  void Run() {
    uint64_t newest = 1;
    const std::vector<engine::Corpus> corpora =
        Must(engine_.ListCorpora("default", {}), "list").items;
    for (const engine::Corpus& corpus : corpora) {
      newest = std::max(newest, CorpusNumber(corpus.name.corpus));
      if (corpus.current_generation.empty()) continue;
      BringBack(corpus);
    }
    // Nothing else runs when the questions are asked: answers and their evidence are compared to
    // the last digit.
    for (const engine::Corpus& corpus : corpora) AwaitIngests(CorpusNumber(corpus.name.corpus));
    for (const engine::Corpus& corpus : corpora) {
      if (!corpus.current_generation.empty()) Ask(CorpusNumber(corpus.name.corpus));
    }
    for (int cycle = 0; cycle < cycles_; ++cycle, ++newest) {
      Make(newest);
      if (Exists(newest - 1)) Extend(newest - 1);
      if (newest >= 2 && Exists(newest - 2)) Delete(newest - 2);
    }
  }

 private:
  bool Exists(uint64_t number) { return engine_.GetCorpus(NameOf(number)).ok(); }
  bool Has(uint64_t number, const std::string& document) {
    return engine_.GetDocument({.corpus = NameOf(number), .id = document}).ok();
  }

  void Upload(uint64_t number, const std::string& document) {
    if (Has(number, document)) return;
    testing::Upload(engine_, NameOf(number), document, DocumentText(document, number));
    Tell(fmt::format("uploaded {} {}", number, document));
  }

  void DropDocument(uint64_t number, const std::string& document) {
    if (Has(number, document)) {
      Must(engine_.DeleteDocument({.corpus = NameOf(number), .id = document}), "delete document");
    }
  }

  // An earlier process may have begun: its operation is running again by itself.
  void AwaitIngests(uint64_t number) {
    for (const engine::Operation& operation :
         Must(engine_.ListOperations(NameOf(number), {}), "operations").items) {
      if (!operation.done) Await(engine_, operation.name);
    }
  }

  void Ingest(uint64_t number, size_t documents) {
    AwaitIngests(number);
    const engine::Corpus corpus = Must(engine_.GetCorpus(NameOf(number)), "corpus");
    if (corpus.current_generation.empty() || corpus.stale) {
      Must(testing::IngestAndWait(engine_, NameOf(number)).error, "ingest");
    }
    Tell(fmt::format("published {} {}", number, documents));
  }

  void BringBack(const engine::Corpus& corpus) {
    AwaitIngests(CorpusNumber(corpus.name.corpus));
    const engine::Generation generation = Must(
        engine_.GetGeneration({.corpus = corpus.name, .id = corpus.current_generation}), "get");
    if (generation.residency == engine::Residency::kComplete) return;
    if (generation.residency == engine::Residency::kQuarantined) {
      // The engine rebuilds it by itself.
      for (;;) {
        AwaitIngests(CorpusNumber(corpus.name.corpus));
        const engine::Generation now = Must(
            engine_.GetGeneration({.corpus = corpus.name, .id = corpus.current_generation}), "get");
        if (now.residency == engine::Residency::kComplete) return;
        usleep(10'000);
      }
    }
    const engine::Operation rebuilding = Must(engine_.RebuildCorpus(corpus.name, ""), "rebuild");
    Must(Await(engine_, rebuilding.name).error, "rebuild");
    Tell(fmt::format("restored {}", CorpusNumber(corpus.name.corpus)));
  }

  void Ask(uint64_t number) {
    const engine::Corpus corpus = Must(engine_.GetCorpus(NameOf(number)), "corpus");
    const engine::Generation generation = Must(
        engine_.GetGeneration({.corpus = NameOf(number), .id = corpus.current_generation}), "get");
    Tell(fmt::format("asking {}", number));
    const engine::Answer answer = Must(testing::AskAndWait(engine_, Question(number)), "ask");
    Tell(fmt::format("answer {} {} {} {}", number, generation.documents.size(),
                     AnswerDigest(answer), answer.usage.corpus_prefill_tokens));
  }

  void Make(uint64_t number) {
    if (!Exists(number)) {
      Must(engine_.CreateCorpus(NameOf(number), "", 0), "create");
      Upload(number, "large");
    }
    DropDocument(number, "large");
    Upload(number, "common");
    Upload(number, "own");
    Ingest(number, 2);
    Ask(number);
    const engine::ResourceName session = {.corpus = NameOf(number), .id = "talk"};
    if (!engine_.GetSession(session).ok()) Must(engine_.CreateSession(session, "", 0), "session");
    for (int turn = Must(engine_.GetSession(session), "session").turn_count; turn < kTurns;
         ++turn) {
      Tell(fmt::format("asking {}", number));
      const engine::Answer answer =
          Must(testing::AskAndWait(engine_, TurnQuestion(number, turn)), "turn");
      Tell(fmt::format("turn {} {} {}", number, turn, AnswerDigest(answer)));
    }
  }

  // A second generation, while the first one serves its session.
  void Extend(uint64_t number) {
    const engine::Corpus corpus = Must(engine_.GetCorpus(NameOf(number)), "corpus");
    const engine::Generation generation = Must(
        engine_.GetGeneration({.corpus = NameOf(number), .id = corpus.current_generation}), "get");
    if (generation.documents.size() == 3) return;
    Upload(number, "extra");
    Ingest(number, 3);
    Ask(number);
    Tell(fmt::format("closing {}", number));
    Must(engine_.DeleteSession({.corpus = NameOf(number), .id = "talk"}), "delete session");
  }

  void Delete(uint64_t number) {
    Tell(fmt::format("deleting {}", number));
    Must(engine_.DeleteCorpus(NameOf(number)), "delete corpus");
    Tell(fmt::format("deleted {}", number));
  }

  engine::Engine& engine_;
  const int cycles_;
};

// What an engine does not do at once when asked: old generations go, caches are evicted, garbage is
// collected.
void KeepHouse(const std::string& data, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto store = Must(storage::Store::Open({.directory = data}), "open store");
  storage::Catalog& catalog = store->catalog();
  const auto tenant = Must(catalog.GetTenant(storage::kDefaultTenantId), "tenant");
  for (const storage::Corpus& corpus : Must(catalog.ListCorpora(tenant.uid, {}), "list").items) {
    for (const storage::Generation& generation :
         Must(catalog.ListGenerations(corpus.uid, {}), "generations").items) {
      // Refused while sessions run on it.
      if (generation.uid != corpus.current_generation) {
        catalog.DeleteGeneration(generation.uid).IgnoreError();
      }
    }
    if (corpus.current_generation == 0 || random() % 3 != 0) continue;
    const auto current = Must(catalog.GetGeneration(corpus.current_generation), "generation");
    if (current.residency != storage::Residency::kComplete) continue;
    Tell(fmt::format("evicting {}", CorpusNumber(corpus.id)));
    if (random() % 2 == 0) {
      Must(catalog.EvictGeneration(current.uid).status(), "evict");
    } else {
      Must(catalog.QuarantineGeneration(current.uid).status(), "quarantine");
    }
  }
  if (random() % 2 == 0) Must(store->CollectGarbage().status(), "collect");
  if (random() % 2 == 0) Must(store->Flush(), "flush");
}

int Main(int argc, char** argv) {
  if (argc != 6) return 2;
  const std::string data = argv[1];
  const uint64_t seed = std::strtoull(argv[4], nullptr, 10);
  if (seed % 2 == 0) KeepHouse(data, seed);
  auto engine =
      Must(engine::Engine::Open(CampaignEngine(data, argv[2], std::atoi(argv[3]))), "open engine");
  Worker(engine.get(), std::atoi(argv[5])).Run();
  return 0;
}

}  // namespace
}  // namespace lectern::campaign

int main(int argc, char** argv) { return lectern::campaign::Main(argc, argv); }
