#include <google/protobuf/util/time_util.h>

#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/worker/convert.h"

namespace lectern::services {
namespace {

using google::protobuf::util::TimeUtil;

void SetTime(int64_t time_us, google::protobuf::Timestamp* out) {
  *out = TimeUtil::MicrosecondsToTimestamp(time_us);
}

v1::Evidence ToProto(const engine::Evidence& evidence, const engine::CorpusName& corpus) {
  v1::Evidence out;
  out.set_document(FormatResourceName(corpus, Collection::kDocuments, evidence.document));
  out.set_display_name(evidence.display_name);
  out.set_byte_begin(evidence.byte_begin);
  out.set_byte_end(evidence.byte_end);
  out.set_page(evidence.page);
  out.set_quote(evidence.quote);
  out.set_mass(evidence.mass);
  out.set_share(evidence.share);
  out.set_block(evidence.block);
  out.set_context(evidence.context);
  return out;
}

v1::Coverage ToProto(const engine::Coverage& coverage) {
  v1::Coverage out;
  out.set_mean(coverage.mean);
  out.set_lower(coverage.lower);
  out.set_upper(coverage.upper);
  out.set_min_row(coverage.min_row);
  out.set_calibrated(coverage.calibrated);
  if (coverage.attention.has_value()) out.set_attention(*coverage.attention);
  if (coverage.risk.has_value()) out.set_risk(*coverage.risk);
  out.set_low(coverage.low);
  return out;
}

v1::Usage ToProto(const engine::Usage& usage) {
  v1::Usage out;
  out.set_cached_tokens(usage.cached_tokens);
  out.set_prompt_tokens(usage.prompt_tokens);
  out.set_generated_tokens(usage.generated_tokens);
  out.set_corpus_prefill_tokens(usage.corpus_prefill_tokens);
  out.set_disk_bytes(usage.disk_bytes);
  out.set_memory_bytes(usage.memory_bytes);
  out.set_device_bytes(usage.device_bytes);
  *out.mutable_queue_time() = TimeUtil::MicrosecondsToDuration(usage.queue_time_us);
  *out.mutable_time_to_first_token() =
      TimeUtil::MicrosecondsToDuration(usage.time_to_first_token_us);
  *out.mutable_total_time() = TimeUtil::MicrosecondsToDuration(usage.total_time_us);
  out.set_selections(usage.selections);
  out.set_selected_blocks(usage.selected_blocks);
  out.set_widened_selections(usage.widened_selections);
  out.set_drafted_tokens(usage.drafted_tokens);
  out.set_accepted_tokens(usage.accepted_tokens);
  return out;
}

v1::Context ToProto(const engine::ContextInfo& context, const engine::CorpusName& corpus) {
  v1::Context out;
  out.set_index(context.index);
  out.set_context_count(context.count);
  out.set_token_count(context.token_count);
  out.set_document_count(context.document_count);
  out.set_first_document(
      FormatResourceName(corpus, Collection::kDocuments, context.first_document));
  out.set_last_document(FormatResourceName(corpus, Collection::kDocuments, context.last_document));
  return out;
}

v1::FinishReason ToProto(engine::FinishReason reason) {
  return reason == engine::FinishReason::kStop ? v1::STOP : v1::MAX_TOKENS;
}

v1::Generation::Residency ToProto(engine::Residency residency) {
  switch (residency) {
    case engine::Residency::kNone:
      return v1::Generation::NONE;
    case engine::Residency::kPartial:
      return v1::Generation::PARTIAL;
    case engine::Residency::kComplete:
      return v1::Generation::COMPLETE;
    case engine::Residency::kEvicted:
      return v1::Generation::EVICTED;
    case engine::Residency::kQuarantined:
      return v1::Generation::QUARANTINED;
  }
  return v1::Generation::RESIDENCY_UNSPECIFIED;
}

v1::IngestMetadata::Phase ToProto(engine::IngestPhase phase) {
  switch (phase) {
    case engine::IngestPhase::kQueued:
      return v1::IngestMetadata::QUEUED;
    case engine::IngestPhase::kPreparing:
      return v1::IngestMetadata::PREPARING;
    case engine::IngestPhase::kPrefilling:
      return v1::IngestMetadata::PREFILLING;
    case engine::IngestPhase::kCommitting:
      return v1::IngestMetadata::COMMITTING;
    case engine::IngestPhase::kDone:
      return v1::IngestMetadata::DONE;
  }
  return v1::IngestMetadata::PHASE_UNSPECIFIED;
}

v1::Backup::State ToProto(engine::BackupState state) {
  switch (state) {
    case engine::BackupState::kRunning:
      return v1::Backup::RUNNING;
    case engine::BackupState::kComplete:
      return v1::Backup::COMPLETE;
    case engine::BackupState::kFailed:
      return v1::Backup::FAILED;
    case engine::BackupState::kCancelled:
      return v1::Backup::CANCELLED;
  }
  return v1::Backup::STATE_UNSPECIFIED;
}

}  // namespace

v1::Corpus ToProto(const engine::Corpus& corpus) {
  v1::Corpus out;
  out.set_name(CorpusResourceName(corpus.name));
  out.set_display_name(corpus.display_name);
  SetTime(corpus.create_time_us, out.mutable_create_time());
  SetTime(corpus.update_time_us, out.mutable_update_time());
  if (corpus.expire_time_us != 0) SetTime(corpus.expire_time_us, out.mutable_expire_time());
  out.set_document_count(corpus.document_count);
  out.set_document_bytes(corpus.document_bytes);
  out.set_current_generation(
      FormatResourceName(corpus.name, Collection::kGenerations, corpus.current_generation));
  out.set_stale(corpus.stale);
  out.set_pinned(corpus.pinned);
  out.set_cache_residency(ToProto(corpus.cache_residency));
  SetTime(corpus.last_used_time_us, out.mutable_last_used_time());
  out.set_eviction_rank(corpus.eviction_rank);
  out.set_cache_bytes(corpus.cache_bytes);
  out.set_context_count(corpus.context_count);
  return out;
}

v1::Document ToProto(const engine::Document& document) {
  v1::Document out;
  out.set_name(FormatResourceName(document.name, Collection::kDocuments));
  out.set_display_name(document.display_name);
  out.set_media_type(document.media_type);
  out.set_size_bytes(document.size_bytes);
  out.set_sha256(document.sha256.data(), document.sha256.size());
  SetTime(document.create_time_us, out.mutable_create_time());
  return out;
}

v1::Generation ToProto(const engine::Generation& generation) {
  v1::Generation out;
  out.set_name(FormatResourceName(generation.name, Collection::kGenerations));
  SetTime(generation.create_time_us, out.mutable_create_time());
  out.set_document_count(static_cast<int64_t>(generation.documents.size()));
  out.set_token_count(generation.token_count);
  out.set_context_count(generation.context_count);
  out.set_model_fingerprint(generation.model_fingerprint);
  out.set_prompt_layout(generation.prompt_layout);
  out.set_residency(ToProto(generation.residency));
  out.set_cache_bytes(generation.cache_bytes);
  for (const std::string& id : generation.documents) {
    out.add_documents(FormatResourceName(generation.name.corpus, Collection::kDocuments, id));
  }
  for (const engine::ContextInfo& context : generation.contexts) {
    *out.add_contexts() = ToProto(context, generation.name.corpus);
  }
  return out;
}

v1::Operation ToProto(const engine::Operation& operation, std::string_view request_id) {
  v1::Operation out;
  out.set_name(FormatResourceName(operation.name, Collection::kOperations));
  out.set_done(operation.done);
  v1::IngestMetadata& metadata = *out.mutable_metadata();
  metadata.set_phase(ToProto(operation.phase));
  metadata.set_tokens_total(operation.tokens_total);
  metadata.set_tokens_done(operation.tokens_done);
  metadata.set_tokens_cached(operation.tokens_cached);
  metadata.set_documents(operation.documents);
  metadata.set_cache_bytes_total(operation.cache_bytes_total);
  metadata.set_validate_only(operation.validate_only);
  metadata.set_resumed(operation.resumed);
  metadata.set_contexts(operation.contexts);
  if (operation.done && !operation.error.ok()) {
    *out.mutable_error() = ToRpcStatus(operation.error, request_id);
  }
  out.set_generation(
      FormatResourceName(operation.name.corpus, Collection::kGenerations, operation.generation));
  SetTime(operation.create_time_us, out.mutable_create_time());
  if (operation.end_time_us != 0) SetTime(operation.end_time_us, out.mutable_end_time());
  return out;
}

v1::Session ToProto(const engine::Session& session) {
  const engine::CorpusName& corpus = session.name.corpus;
  v1::Session out;
  out.set_name(FormatResourceName(session.name, Collection::kSessions));
  out.set_generation(FormatResourceName(corpus, Collection::kGenerations, session.generation));
  out.set_turn_count(session.turn_count);
  out.set_token_count(session.token_count);
  SetTime(session.create_time_us, out.mutable_create_time());
  SetTime(session.update_time_us, out.mutable_update_time());
  if (session.expire_time_us != 0) SetTime(session.expire_time_us, out.mutable_expire_time());
  out.set_forked_from(FormatResourceName(corpus, Collection::kSessions, session.forked_from));
  out.set_context(session.context);
  return out;
}

v1::Turn ToProto(const engine::Turn& turn, const engine::CorpusName& corpus) {
  v1::Turn out;
  out.set_number(turn.number);
  out.set_question(turn.question);
  out.set_answer(turn.answer.text);
  out.set_finish_reason(ToProto(turn.answer.finish_reason));
  out.set_not_in_documents(turn.answer.not_in_documents);
  for (const engine::Evidence& evidence : turn.answer.evidence) {
    *out.add_evidence() = ToProto(evidence, corpus);
  }
  *out.mutable_coverage() = ToProto(turn.answer.coverage);
  *out.mutable_usage() = ToProto(turn.answer.usage);
  SetTime(turn.create_time_us, out.mutable_create_time());
  return out;
}

v1::AskResponse::Started ToProto(const engine::AnswerStarted& started,
                                 const engine::CorpusName& corpus) {
  v1::AskResponse::Started out;
  out.set_generation(FormatResourceName(corpus, Collection::kGenerations, started.generation));
  out.set_context_tokens(started.context_tokens);
  *out.mutable_context() = ToProto(started.context, corpus);
  return out;
}

v1::AskResponse::Completed ToProto(const engine::Answer& answer, const engine::CorpusName& corpus) {
  v1::AskResponse::Completed out;
  out.set_finish_reason(ToProto(answer.finish_reason));
  for (const engine::Evidence& evidence : answer.evidence) {
    *out.add_evidence() = ToProto(evidence, corpus);
  }
  *out.mutable_coverage() = ToProto(answer.coverage);
  *out.mutable_usage() = ToProto(answer.usage);
  out.set_answer(answer.text);
  out.set_not_in_documents(answer.not_in_documents);
  out.set_turn(answer.turn);
  *out.mutable_context() = ToProto(answer.context, corpus);
  return out;
}

v1::RetrieveResponse ToProto(const engine::Retrieval& retrieval, const engine::CorpusName& corpus) {
  v1::RetrieveResponse out;
  for (const engine::Evidence& span : retrieval.spans) *out.add_spans() = ToProto(span, corpus);
  *out.mutable_coverage() = ToProto(retrieval.coverage);
  *out.mutable_usage() = ToProto(retrieval.usage);
  out.set_generation(FormatResourceName(corpus, Collection::kGenerations, retrieval.generation));
  for (const engine::ContextFinding& finding : retrieval.contexts) {
    v1::RetrieveResponse::Finding& context = *out.add_contexts();
    *context.mutable_context() = ToProto(finding.context, corpus);
    context.set_mass(finding.mass);
    *context.mutable_coverage() = ToProto(finding.coverage);
  }
  return out;
}

v1::Tenant ToProto(const engine::Tenant& tenant) {
  v1::Tenant out;
  out.set_name(TenantName(tenant.id));
  out.set_display_name(tenant.display_name);
  SetTime(tenant.create_time_us, out.mutable_create_time());
  v1::TenantQuota& quota = *out.mutable_quota();
  quota.set_disk_bytes(tenant.quota.disk_bytes);
  quota.set_tokens_per_minute(tenant.quota.tokens_per_minute);
  quota.set_concurrent_requests(tenant.quota.concurrent_requests);
  quota.set_weight(tenant.quota.weight);
  if (!tenant.usage.has_value()) return out;
  v1::TenantUsage& usage = *out.mutable_usage();
  usage.set_corpora(tenant.usage->corpora);
  usage.set_document_bytes(tenant.usage->document_bytes);
  usage.set_cache_bytes(tenant.usage->cache_bytes);
  usage.set_requests(tenant.usage->requests);
  usage.set_tokens_available(tenant.usage->tokens_available);
  usage.set_tokens_total(tenant.usage->tokens_total);
  return out;
}

v1::Backup ToProto(const engine::Backup& backup, std::string_view request_id) {
  v1::Backup out;
  out.set_name(BackupName(backup.id));
  out.set_state(ToProto(backup.state));
  if (!backup.error.ok()) *out.mutable_error() = ToRpcStatus(backup.error, request_id);
  out.set_bytes_total(backup.bytes_total);
  out.set_bytes_done(backup.bytes_done);
  SetTime(backup.create_time_us, out.mutable_create_time());
  if (backup.end_time_us != 0) SetTime(backup.end_time_us, out.mutable_end_time());
  out.set_directory(backup.directory);
  return out;
}

v1::Model ToProto(const engine::ModelInfo& model) {
  v1::Model out;
  out.set_name(std::string(kModelName));
  out.set_display_name(model.display_name);
  out.set_fingerprint(model.fingerprint);
  out.set_backend(model.backend);
  out.set_attention(model.attention);
  out.set_prompt_layout(model.prompt_layout);
  out.set_context_limit_tokens(model.context_limit_tokens);
  out.set_contexts_limit(model.contexts_limit);
  out.set_question_limit_tokens(model.question_limit_tokens);
  out.set_answer_limit_tokens(model.answer_limit_tokens);
  out.set_document_limit_bytes(model.document_limit_bytes);
  out.set_layers(model.layers);
  out.set_query_heads(model.query_heads);
  out.set_kv_heads(model.kv_heads);
  out.set_head_dim(model.head_dim);
  out.set_index_dim(model.index_dim);
  out.set_block_tokens(model.block_tokens);
  out.set_selected_blocks(model.selected_blocks);
  out.set_parameters(model.parameters);
  out.set_kv_bytes_per_token(model.kv_bytes_per_token);
  out.set_index_bytes_per_token(model.index_bytes_per_token);
  out.set_device(model.device);
  out.set_device_memory_bytes(model.device_memory_bytes);
  out.set_device_context_tokens(model.device_context_tokens);
  out.set_device_note(model.device_note);
  return out;
}

v1::Stats ToProto(const engine::Stats& stats) {
  v1::Stats out;
  out.set_queued_requests(stats.queued_requests);
  out.set_running_requests(stats.running_requests);
  out.set_open_contexts(stats.open_contexts);
  out.set_prefill_tokens(stats.prefill_tokens);
  out.set_corpus_prefill_tokens(stats.corpus_prefill_tokens);
  out.set_cached_tokens(stats.cached_tokens);
  out.set_generated_tokens(stats.generated_tokens);
  out.set_drafted_tokens(stats.drafted_tokens);
  out.set_accepted_tokens(stats.accepted_tokens);
  out.set_pool_blocks(stats.pool_blocks);
  out.set_pool_blocks_used(stats.pool_blocks_used);
  out.set_pool_hits(stats.pool_hits);
  out.set_pool_misses(stats.pool_misses);
  out.set_block_lookups(stats.block_lookups);
  out.set_block_hits(stats.block_hits);
  out.set_disk_read_bytes(stats.disk_read_bytes);
  out.set_disk_written_bytes(stats.disk_written_bytes);
  out.set_disk_used_bytes(stats.disk_used_bytes);
  out.set_memory_index_bytes(stats.memory_index_bytes);
  out.set_corpora(stats.corpora);
  out.set_documents(stats.documents);
  out.set_sessions(stats.sessions);
  out.set_disk_cap_bytes(stats.disk_cap_bytes);
  out.set_disk_reserved_bytes(stats.disk_reserved_bytes);
  out.mutable_disk_bytes()->insert(stats.disk_bytes.begin(), stats.disk_bytes.end());
  out.mutable_evictions()->insert(stats.evictions.begin(), stats.evictions.end());
  out.set_verified_bytes(stats.verified_bytes);
  out.set_verify_walks(stats.verify_walks);
  out.mutable_damages()->insert(stats.damages.begin(), stats.damages.end());
  out.set_quarantined_generations(stats.quarantined_generations);
  out.set_repair_rebuilds(stats.repair_rebuilds);
  out.set_read_retries(stats.read_retries);
  out.set_slow_reads(stats.slow_reads);
  out.set_timed_out_reads(stats.timed_out_reads);
  out.set_write_outages(stats.write_outages);
  out.set_write_recoveries(stats.write_recoveries);
  out.mutable_recomputed()->insert(stats.recomputed.begin(), stats.recomputed.end());
  out.set_prefill_tokens_per_second(stats.prefill_tokens_per_second);
  out.set_pending_tokens(stats.pending_tokens);
  out.set_displaced_requests(stats.displaced_requests);
  out.set_device_pages(stats.device_pages);
  out.set_device_pages_used(stats.device_pages_used);
  out.set_device_page_hits(stats.device_page_hits);
  out.set_device_page_misses(stats.device_page_misses);
  out.set_device_replayed_steps(stats.device_replayed_steps);
  out.set_device_launched_steps(stats.device_launched_steps);
  out.set_request_memory_bytes(stats.request_memory_bytes);
  out.set_request_memory_limit_bytes(stats.request_memory_limit_bytes);
  return out;
}

}  // namespace lectern::services
