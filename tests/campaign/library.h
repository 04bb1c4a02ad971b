// The corpora that the crash campaign works on: texts, questions and what an undisturbed run makes
// of them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "storage/store.h"

namespace lectern::campaign {

// Corpus number n has the texts of variant n mod kVariants; all share their first document, so that
// blocks are referred to by several corpora at once.
inline constexpr uint64_t kVariants = 3;
inline constexpr int kTurns = 2;

std::string CorpusId(uint64_t number);
uint64_t CorpusNumber(std::string_view id);
engine::CorpusName NameOf(uint64_t number);

// "common" and "own" are over 16K tokens together; "extra" makes a second generation; "large" is
// longer than one stored piece, and deleted before anything is ingested.
std::string DocumentText(std::string_view id, uint64_t number);

engine::EngineOptions CampaignEngine(const std::string& data, const std::string& model, int chunk);

// Waits for an operation's end.
engine::Operation Await(engine::Engine& engine, const engine::ResourceName& operation);

engine::AskRequest Question(uint64_t number);
engine::AskRequest TurnQuestion(uint64_t number, int turn);
// Of everything in an answer that its cache decides: text, evidence, coverage.
std::string AnswerDigest(const engine::Answer& answer);

// SHA-256 (hex) of everything stored of a generation's first context: tokens, K/V, index keys, in
// order. Reads and verifies all of it.
absl::StatusOr<std::string> CacheDigest(storage::Store* store, uint64_t tenant_uid,
                                        const storage::Generation& generation);

// What an undisturbed engine gives, by variant and number of documents ("1/2").
struct Expected {
  uint64_t tokens = 0;
  std::string cache;
  std::string text;    // of the answer
  std::string answer;  // AnswerDigest
  std::string turns[kTurns];
};
std::string ExpectedKey(uint64_t number, size_t documents);
std::map<std::string, Expected> MakeExpected(const std::string& scratch, const std::string& model);

}  // namespace lectern::campaign
