// The process that crash_test.cc kills: opens a data directory, uploads and ingests a text unless
// that has happened, waits for the generation.
//   ingest_child <data directory> <model directory> <words> [<tokens of a context>]
// Exit code 0 when the corpus is ingested.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "engine/engine.h"
#include "tests/support/test_engine.h"

int main(int argc, char** argv) {
  using namespace lectern;          // NOLINT: a small program
  using namespace lectern::engine;  // NOLINT
  if (argc != 4 && argc != 5) return 2;
  const CorpusName corpus = {.tenant = "default", .corpus = "library"};
  auto engine = Engine::Open({.data_dir = argv[1],
                              .model_dir = argv[2],
                              .pool_bytes = 256 << 20,
                              .index_bytes = 64 << 20,
                              .prefill_chunk_tokens = 512,
                              .context_tokens = argc == 5 ? std::atoi(argv[4]) : 0});
  if (!engine.ok()) {
    std::fprintf(stderr, "%s\n", engine.status().ToString().c_str());
    return 1;
  }
  if (!(*engine)->GetDocument({.corpus = corpus, .id = "text"}).ok()) {
    testing::Upload(**engine, corpus, "text", testing::RandomText(std::atoi(argv[3]), 23));
  }
  while ((*engine)->GetCorpus(corpus)->current_generation.empty()) {
    // An earlier process may have begun: its operation is running again by itself.
    auto operations = (*engine)->ListOperations(corpus, {});
    if (!operations.ok()) return 1;
    const Operation* running = nullptr;
    for (const Operation& operation : operations->items) {
      if (!operation.done) running = &operation;
    }
    const absl::Status ended = running != nullptr ? testing::WaitFor(**engine, running->name).error
                                                  : testing::IngestAndWait(**engine, corpus).error;
    if (!ended.ok()) {
      std::fprintf(stderr, "%s\n", ended.ToString().c_str());
      return 1;
    }
  }
  return 0;
}
