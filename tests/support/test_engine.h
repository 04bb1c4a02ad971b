// What engine tests do again and again: make a text, upload and ingest it, ask and wait.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace lectern::testing {

// About `words` words of English-like text with paragraphs; the same seed gives the same text.
std::string RandomText(int words, uint64_t seed);

// Creates the corpus if it is not there, uploads `text` as document `id`. Ends the test program on
// errors.
void Upload(engine::Engine& engine, const engine::CorpusName& corpus, const std::string& id,
            const std::string& text);

// Waits for an operation; returns it ended. Ends the test program on errors.
engine::Operation WaitFor(engine::Engine& engine, const engine::ResourceName& operation);

// Ingests and waits; returns the ended operation.
engine::Operation IngestAndWait(engine::Engine& engine, const engine::CorpusName& corpus);

// Asks and waits. `streamed`, if given, receives the concatenated text events.
absl::StatusOr<engine::Answer> AskAndWait(engine::Engine& engine, const engine::AskRequest& request,
                                          std::string* streamed = nullptr);
absl::StatusOr<engine::Retrieval> RetrieveAndWait(engine::Engine& engine,
                                                  const engine::RetrieveRequest& request);

}  // namespace lectern::testing
