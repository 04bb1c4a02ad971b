// Guesses at the tokens that an answer goes on with. Answers are spans of the documents, so what
// followed the answer's last tokens in a passage that it reads is likely to follow them here: look
// it up, compute the guess in the same step as the token before it, and keep as much of it as the
// model says itself (prompt lookup decoding; no second model, and the same answer token by token).
//
// What is searched is what attention points at anyway: the few blocks that the answer's rows looked
// at most (observed_mass.h), whose tokens lie in the stored layout, and the question and the answer
// themselves. So a context of a million tokens needs no index of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <vector>

#include "engine/answer/observed_mass.h"
#include "engine/text/tokenizer.h"
#include "storage/catalog.h"

namespace lectern::engine {

// Tokens of a guess, at most: with the one before it, a step's rows.
inline constexpr int32_t kLongestDraft = 15;

// How long guesses are worth being: twice as long after one that was right in whole, else a little
// more than what was right; after misses in a row none for some steps.
class DraftLength {
 public:
  int32_t tokens() const { return pause_ > 0 ? 0 : length_; }
  // A step held no guess.
  void NotDrafted();
  // REQUIRES: drafted > 0.
  void Drafted(int32_t drafted, int32_t accepted);

 private:
  int32_t length_ = 8;
  int32_t pause_ = 0;  // steps without
};

// The passages of one answer, and what follows in them.
class DraftPassages {
 public:
  // `mark`: a token that no guess holds or reaches across.
  explicit DraftPassages(std::function<bool(TokenId)> mark) : mark_(std::move(mark)) {}

  // A passage of the documents, by the position of its first token.
  void Add(int64_t first_position, std::vector<TokenId> tokens);

  // Adds the blocks that the last row looked at most. False: the layout could not be read.
  bool AddRead(const ObservedMass& observed, const storage::Catalog& catalog,
               uint64_t generation_uid, uint32_t context_index);

  // At most `most` tokens that may follow `said` (the question, then the answer so far): those that
  // follow where most of its last tokens stand in a passage, of several such places where
  // attention, `mass` by position, weighs more; else where the answer or question has them.
  std::vector<TokenId> Next(std::span<const TokenId> said, size_t most,
                            const std::function<float(int64_t position)>& mass) const;

 private:
  struct Passage {
    int64_t first_position;
    std::vector<TokenId> tokens;
  };

  const std::function<bool(TokenId)> mark_;
  std::vector<Passage> passages_;
  std::set<int32_t> blocks_;  // that have been added
};

}  // namespace lectern::engine
