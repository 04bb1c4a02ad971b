// Who is in the next step, and with how many tokens: a pure function of what runs wish for, so that
// it can be tested by simulation. Order of arrival breaks every tie; the same wishes give the same
// batch.
//
//   1. Every question that decodes gets its rows, up to the batch limit.
//   2. Questions that are still being read (prefill) share the prefill budget, first come first
//   served.
//   3. One ingest gets what is left of the budget; the ingests take turns from step to step.
// While a question is active the budget is the shared one, so that an ingest chunk delays no token
// of an answer by more than that many tokens' time; else it is the full chunk.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/schedule/run.h"

namespace lectern::engine {

struct BatchLimits {
  int32_t decode_rows = kMaxDecodeRows;
  int64_t chunk_tokens = 1024;        // nobody waits
  int64_t shared_chunk_tokens = 256;  // somebody does
};

struct BatchEntry {
  size_t run = 0;  // index in the wishes
  int64_t tokens = 0;
};

struct BatchWish {
  RunKind kind;
  Run::Wish wish;
};

// `wishes` in order of arrival; `turn`: which of the ingests is next (any number; taken modulo
// their count).
std::vector<BatchEntry> PlanBatch(std::span<const BatchWish> wishes, const BatchLimits& limits,
                                  uint64_t turn);

}  // namespace lectern::engine
