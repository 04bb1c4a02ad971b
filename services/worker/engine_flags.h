// The flags that say which engine to open, and what a program says of the one it opened.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "engine/engine.h"
#include "services/telemetry/log.h"

namespace lectern::services {

// From --data_dir, --model_dir, --attention, --adaptive_coverage, --drafts, --pool_bytes,
// --index_bytes, --device, --device_memory, --device_graphs, --threads, --queue_limit,
// --batch_limit, --context_tokens, --prefill_chunk_tokens,
// --document_limit_bytes, --request_bytes, --disk_cap and --scrub_rate, with their defaults.
//   INVALID_ARGUMENT FLAG_INVALID
//   NOT_FOUND        FLAG_INVALID   no --model_dir, and no bundled model beside the program
absl::StatusOr<engine::EngineOptions> EngineOptionsFromFlags();

// What the line that says a server is ready tells: where it listens, what computes, and its limits.
std::vector<LogField> ReadyFields(const std::string& address, const std::string& metrics,
                                  const engine::ModelInfo& model,
                                  const engine::EngineOptions& options);

}  // namespace lectern::services
