// What one question points at in several contexts, made comparable.
//
// A block's mass is a share of what its context's tokens have between them: where nothing answers
// the question a head still spends its attention, on whatever is least unlike an answer. So the
// contexts' masses are put over one denominator. A head of a layer gives token t of context c the
// probability e^(s_t) / Z_c, Z_c being the sum over all that its row attends to there. Were the
// contexts' selected tokens one set, it would be e^(s_t) / sum_c Z_c: the same scores, one softmax.
// Hence a head's masses in context c count Z_c / sum_c Z_c times, and a block's mass is again the
// largest that any head of any layer gives it (observed_mass.h), 0 to 1. Z_c is exactly what the
// attention has computed anyway; that a question's rows differ a little from context to context is
// the approximation.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/answer/evidence.h"
#include "engine/answer/observed_mass.h"
#include "engine/types.h"
#include "storage/catalog.h"

namespace lectern::engine {

class ContextComparison {
 public:
  // What the question looked at in context number size(), observed by head.
  void Add(ObservedMass observed, const Coverage& coverage) {
    contexts_.push_back({std::move(observed), coverage});
  }
  size_t size() const { return contexts_.size(); }

  struct Rank {
    uint32_t context = 0;
    double mass = 0;  // of its best span
    Coverage coverage;
  };
  struct Result {
    std::vector<Rank> ranking;  // best first: by mass, then coverage, then in order
    FoundSpans found;           // in all contexts, best first, at most `limit` and 64
  };
  // Errors: those of FindSpans.
  absl::StatusOr<Result> Compare(const storage::Catalog& catalog,
                                 const storage::Generation& generation, int limit) const;

 private:
  struct Seen {
    ObservedMass observed;
    Coverage coverage;
  };
  // Z_c / sum Z_c by context, then layer and head.
  std::vector<std::vector<double>> Scales() const;

  std::vector<Seen> contexts_;
};

}  // namespace lectern::engine
