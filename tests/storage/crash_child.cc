// Works on a store until it is killed: uploads, ingests in bulk commits, sessions, deletions,
// garbage collection. Every step that was acknowledged is told on standard output, one line each,
// right after.
//   crash_child <directory> <seed>
#include <unistd.h>

#include <cstdio>
#include <random>

#include <fmt/format.h>

#include "crash_workload.h"

namespace lectern::storage {
namespace {

void Acknowledge(const std::string& line) {
  const std::string text = line + "\n";
  // One write of a short line to a pipe is whole or absent.
  if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(3);
}

class Worker {
 public:
  Worker(const std::string& directory, uint64_t seed) : random_(seed) {
    StoreOptions options;
    options.directory = directory;
    store_ = Must(Store::Open(options));
    tenant_ = Must(catalog().GetTenant(kDefaultTenantId)).uid;
  }

  void Run() {
    uint64_t number = 0;
    for (const Corpus& corpus : Must(catalog().ListCorpora(tenant_, {})).items) {
      number = std::max<uint64_t>(number, std::stoull(corpus.id.substr(6)));
    }
    for (;; ++number) {
      Advance(number);
      if (number >= 2) Delete(number - 2);
    }
  }

 private:
  Catalog& catalog() { return store_->catalog(); }

  template <typename T>
  static std::optional<T> IfFound(absl::StatusOr<T> status_or) {
    if (absl::IsNotFound(status_or.status())) return std::nullopt;
    return Must(std::move(status_or));
  }

  // Takes one corpus from wherever it stands to its end.
  void Advance(uint64_t number) {
    const std::string id = CorpusId(number);
    std::optional<Corpus> corpus = IfFound(catalog().GetCorpus(tenant_, id));
    if (!corpus.has_value()) corpus = Must(catalog().CreateCorpus(tenant_, {id, "", {}}, 1));
    if (!IfFound(catalog().GetDocument(corpus->uid, "document")).has_value())
      Upload(number, *corpus);
    if (corpus->current_generation == 0) {
      IngestAll(number, *corpus);
      corpus = Must(catalog().GetCorpusByUid(corpus->uid));
    }
    Talk(number, *corpus);
  }

  void Upload(uint64_t number, const Corpus& corpus) {
    auto writer = Must(catalog().WriteDocument(corpus.uid, {"document", "", ""}));
    const std::string bytes = DocumentBytes(number);
    for (size_t at = 0; at < bytes.size(); at += 100'000)
      Must(writer->Append(bytes.substr(at, 100'000)));
    Must(writer->Commit(1, std::nullopt));
    Acknowledge(fmt::format("uploaded {}", number));
  }

  void IngestAll(uint64_t number, const Corpus& corpus) {
    const auto operations = Must(catalog().ListOperations(tenant_, corpus.uid, {})).items;
    const Operation operation =
        operations.empty() ? Must(catalog().CreateOperation(corpus.uid, IngestOperation(), 1))
                           : operations.back();
    const SampleCache hashes(CrashGeometry(), number);
    std::optional<IngestIntent> intent = IfFound(catalog().GetIngest(operation.uid));
    if (!intent.has_value()) {
      intent = Must(catalog().BeginIngest(RequestFor(operation.uid, hashes, kIngestTokens), 1));
    }
    while (intent->contexts[0].token_count < kIngestTokens) {
      SampleCache cache(CrashGeometry(), number);
      const uint32_t first = intent->contexts[0].end_block;
      const uint64_t end =
          std::min<uint64_t>(kIngestTokens, (first + 1 + random_() % 8) * kBlockTokens);
      intent = Must(catalog().CommitIngestBlocks(operation.uid, 0, cache.Blocks(first, end)));
      Acknowledge(fmt::format("committed {} {}", number, intent->contexts[0].token_count));
      if (random_() % 3 == 0) Must(store_->Flush());
    }
    Must(catalog().PublishGeneration(operation.uid, SpecFor(kIngestTokens), 1));
    Acknowledge(fmt::format("published {}", number));
  }

  void Talk(uint64_t number, const Corpus& corpus) {
    std::optional<Session> session = IfFound(catalog().GetSession(corpus.uid, "session"));
    if (!session.has_value()) {
      session = Must(catalog().CreateSession(corpus.current_generation, 0, {"session", "", {}}, 1));
    }
    while (session->turn_count < 3) {
      SampleCache cache(CrashGeometry(), number);
      // The second turn is so long that it is bulk loaded over a partial tail.
      const uint64_t tokens = session->token_count + (session->turn_count == 1 ? 1000 : 50);
      const auto first = static_cast<uint32_t>(session->token_count / kBlockTokens);
      session = Must(catalog().CommitTurn(session->uid, {session->turn_count, tokens, 1, "turn"},
                                          cache.Blocks(first, tokens), 1));
      Acknowledge(fmt::format("turn {} {}", number, session->turn_count));
    }
  }

  void Delete(uint64_t number) {
    const std::optional<Corpus> corpus = IfFound(catalog().GetCorpus(tenant_, CorpusId(number)));
    if (!corpus.has_value()) return;
    Must(catalog().DeleteCorpus(corpus->uid, 1));
    Acknowledge(fmt::format("deleted {}", number));
    Must(store_->CollectGarbage());
  }

  std::mt19937_64 random_;
  std::unique_ptr<Store> store_;
  uint64_t tenant_ = 0;
};

}  // namespace
}  // namespace lectern::storage

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    lectern::storage::Worker(argv[1], std::stoull(argv[2])).Run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crash_child: %s\n", error.what());
    return 1;
  }
}
