// What a user of the whole engine sees: a stored context's first token, many questions at once,
// answers beside an ingest, answers that copy.
#pragma once

#include "bench_report.h"
#include "engine/engine.h"

namespace lectern::engine {

// A context of about `tokens` tokens of generated text in options.data_dir, asked cold from disk,
// warm, by many at once (at one of the sizes), and beside an ingest of the same length. Rows
// `ttft_disk` (over what it reads at the disk's raw rate), `ttft_recompute` and `ttft_load_all`
// (over it), `ttft_device` (asked again: what it selects is where it is computed), `answers_N`,
// `interference_p50` and `_p99`, `interference_ingest`, `drafted_answers`.
void StoredContext(EngineOptions options, int64_t tokens, BenchReport* report);

}  // namespace lectern::engine
