#include "services/worker/engine_collector.h"

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <utility>

#include "services/telemetry/log.h"

namespace lectern::services {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Counter(std::string name, std::string help, int64_t value) {
  ClientMetric metric;
  metric.counter.value = static_cast<double>(value);
  return {std::move(name), std::move(help), MetricType::Counter, {metric}};
}

MetricFamily Gauge(std::string name, std::string help, double value) {
  ClientMetric metric;
  metric.gauge.value = value;
  return {std::move(name), std::move(help), MetricType::Gauge, {metric}};
}

// At 0 from the start; storage/scrub.h has the kinds.
std::map<std::string, int64_t> DamagesByKind(const engine::Stats& stats) {
  std::map<std::string, int64_t> damages = stats.damages;
  for (const char* kind : {"catalog", "document", "layout", "blocks", "hash"}) damages[kind] += 0;
  return damages;
}

// One series for each value of `label`.
MetricFamily Labelled(MetricType type, std::string name, std::string help, const std::string& label,
                      const std::map<std::string, int64_t>& values) {
  MetricFamily family = {std::move(name), std::move(help), type, {}};
  for (const auto& [label_value, value] : values) {
    ClientMetric metric;
    metric.label = {{label, label_value}};
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
        static_cast<double>(value);
    family.metric.push_back(metric);
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> EngineCollector::Collect() const {
  const absl::StatusOr<engine::Stats> read = engine_.GetStats();
  if (!read.ok()) {
    Log(LogLevel::kWarning, "stats_unavailable", {{"message", read.status().ToString()}});
    return {};
  }
  const engine::Stats& stats = *read;
  return {
      Gauge("lectern_queue_requests", "Questions that wait for their first step.",
            stats.queued_requests),
      Gauge("lectern_queue_limit_requests", "Questions that may wait or run.", stats.queue_limit),
      Gauge("lectern_pending_tokens", "Tokens of questions and documents accepted, not computed.",
            stats.pending_tokens),
      Counter("lectern_displaced_requests_total",
              "Questions that left the full queue to make room for who had less of it.",
              stats.displaced_requests),
      Gauge("lectern_running_limit_requests", "Questions that the batch may hold.",
            stats.batch_limit),
      Gauge("lectern_prefill_tokens_per_second",
            "Rate at which documents were prefilled last; 0: not yet.",
            stats.prefill_tokens_per_second),
      Gauge("lectern_running_requests", "Questions in the running batch.", stats.running_requests),
      Gauge("lectern_open_contexts", "Contexts whose index keys are resident.",
            stats.open_contexts),
      Counter("lectern_prefill_tokens_total", "Tokens computed: documents and questions.",
              stats.prefill_tokens),
      Counter("lectern_corpus_prefill_tokens_total", "Document tokens computed.",
              stats.corpus_prefill_tokens),
      Counter("lectern_cached_tokens_total", "Tokens taken from the cache instead of computed.",
              stats.cached_tokens),
      Counter("lectern_generated_tokens_total", "Tokens of answers.", stats.generated_tokens),
      Counter("lectern_drafted_tokens_total", "Guesses at tokens of answers, computed.",
              stats.drafted_tokens),
      Counter("lectern_accepted_tokens_total", "Of these, what the model said.",
              stats.accepted_tokens),
      Labelled(
          MetricType::Gauge, "lectern_pool_blocks",
          "Block pool slots (one layer of one block each).", "state",
          {{"used", stats.pool_blocks_used}, {"free", stats.pool_blocks - stats.pool_blocks_used}}),
      Gauge("lectern_pool_limit_bytes", "Memory of all these slots.", stats.pool_limit_bytes),
      Counter("lectern_pool_hits_total", "Selected blocks found in the pool.", stats.pool_hits),
      Counter("lectern_pool_misses_total", "Selected blocks read from disk.", stats.pool_misses),
      Labelled(MetricType::Gauge, "lectern_device_pages",
               "Pages of the GPU's cache (one layer of one block each).", "state",
               {{"used", stats.device_pages_used},
                {"free", stats.device_pages - stats.device_pages_used}}),
      Counter("lectern_device_page_hits_total",
              "Selected blocks that were looked for in the GPU's cache and found.",
              stats.device_page_hits),
      Counter("lectern_device_page_misses_total", "Those that were not.", stats.device_page_misses),
      Labelled(
          MetricType::Counter, "lectern_device_decode_steps_total",
          "Decode steps on the GPU: replayed as one CUDA graph or launched call by call.", "way",
          {{"replayed", stats.device_replayed_steps}, {"launched", stats.device_launched_steps}}),
      Counter("lectern_block_lookups_total", "Blocks looked up by prefix chain at ingest.",
              stats.block_lookups),
      Counter("lectern_block_hits_total", "Of these, found in the cache.", stats.block_hits),
      Counter("lectern_disk_read_bytes_total", "Bytes of stored records read.",
              stats.disk_read_bytes),
      Counter("lectern_disk_written_bytes_total", "Bytes of stored records written.",
              stats.disk_written_bytes),
      Gauge("lectern_disk_used_bytes", "Bytes that the data directory takes.",
            stats.disk_used_bytes),
      Labelled(MetricType::Gauge, "lectern_disk_bytes", "The same by kind.", "kind",
               stats.disk_bytes),
      Gauge("lectern_disk_cap_bytes", "What the data directory stays under; 0: no limit.",
            stats.disk_cap_bytes),
      Gauge("lectern_disk_reserved_bytes",
            "Bytes promised to ingests and uploads, not yet written.", stats.disk_reserved_bytes),
      Labelled(MetricType::Counter, "lectern_evictions_total",
               "Generations whose cache was evicted.", "cause", stats.evictions),
      Counter("lectern_verified_bytes_total",
              "Bytes read by the walk that verifies what is stored.", stats.verified_bytes),
      Counter("lectern_verify_walks_total", "Walks of everything stored that came to their end.",
              stats.verify_walks),
      Labelled(MetricType::Counter, "lectern_damages_total",
               "Stored records that failed verification.", "kind", DamagesByKind(stats)),
      Counter("lectern_quarantined_generations_total",
              "Generations taken out of use because of damage.", stats.quarantined_generations),
      Counter("lectern_read_retries_total", "Block reads tried again after an error that may pass.",
              stats.read_retries),
      Counter("lectern_slow_reads_total", "Block reads that took more than a second.",
              stats.slow_reads),
      Counter("lectern_timed_out_reads_total", "Reads that the disk did not answer in time.",
              stats.timed_out_reads),
      Counter("lectern_write_outages_total", "Times that a failed write stopped all writing.",
              stats.write_outages),
      Counter("lectern_write_recoveries_total", "Times that writing went on after that.",
              stats.write_recoveries),
      Labelled(
          MetricType::Counter, "lectern_recomputed_generations_total",
          "Generations computed again because their blocks were read too slowly or not at all.",
          "cause", stats.recomputed),
      Counter("lectern_repair_rebuilds_total",
              "Rebuilds begun by itself, because of damage or slow reads.", stats.repair_rebuilds),
      Gauge("lectern_request_memory_bytes", "Memory held by requests besides pool and index keys.",
            stats.request_memory_bytes),
      Gauge("lectern_request_memory_limit_bytes", "What it may be.",
            stats.request_memory_limit_bytes),
      Gauge("lectern_index_memory_bytes", "Bytes of resident index keys.",
            stats.memory_index_bytes),
      Gauge("lectern_index_memory_limit_bytes", "What it may be.", stats.index_limit_bytes),
      Gauge("lectern_corpora", "Corpora stored.", stats.corpora),
      Gauge("lectern_documents", "Documents stored.", stats.documents),
      Gauge("lectern_sessions", "Sessions stored.", stats.sessions),
  };
}

}  // namespace lectern::services
