// Prefill and decode steps of the decoder alone, without scheduler and disk.
#pragma once

#include <string>
#include <vector>

#include "bench_report.h"
#include "engine/model/serving_model.h"
#include "machine_limits.h"

namespace lectern::engine {

// Rows `prefill`, `step_over_floor` and `decode_rows_N` at every size, which rise; with_dense
// (CPU): a dense decode step of the same weights over a sparse one.
void PrefillAndDecode(ServingModel* model, const Limits& limits, const std::vector<int64_t>& sizes,
                      int64_t chunk, bool with_dense, BenchReport* report);

// Rows `decode_replayed[_observed]`: decode steps that are replayed beside the same steps launched
// call by call (GPU).
void CompareWithLaunched(const std::string& model_dir, BackendOptions backend, BenchReport* report);

}  // namespace lectern::engine
