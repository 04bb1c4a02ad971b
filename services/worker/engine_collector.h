// The engine's counters and levels, read when Prometheus asks.
//
//   lectern_queue_requests, lectern_running_requests, lectern_open_contexts
//   lectern_prefill_tokens_total, lectern_corpus_prefill_tokens_total, lectern_cached_tokens_total,
//   lectern_generated_tokens_total
//   lectern_pool_blocks{state="used"|"free"}, lectern_pool_hits_total, lectern_pool_misses_total
//   lectern_block_lookups_total, lectern_block_hits_total
//   lectern_disk_read_bytes_total, lectern_disk_written_bytes_total, lectern_disk_used_bytes
//   lectern_disk_bytes{kind}, lectern_disk_cap_bytes, lectern_disk_reserved_bytes
//   lectern_evictions_total{cause="superseded"|"least_recently_used"}
//   lectern_request_memory_bytes, lectern_request_memory_limit_bytes
//   lectern_index_memory_bytes, lectern_corpora, lectern_documents, lectern_sessions
#pragma once

#include <prometheus/collectable.h>

#include <vector>

#include "engine/engine.h"

namespace lectern::services {

class EngineCollector final : public prometheus::Collectable {
 public:
  // `engine` outlives the collector.
  explicit EngineCollector(engine::Engine& engine) : engine_(engine) {}
  // Nothing if the engine cannot tell: a missing series is truer than a zero.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  engine::Engine& engine_;
};

}  // namespace lectern::services
