#include "engine/ingest/ingest_run.h"

#include <algorithm>

#include "engine/error/check.h"
#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/names.h"
#include "engine/quota/share_weight.h"
#include "engine/room/disk_bytes.h"
#include "engine/text/extractor.h"
#include "storage/fail_point.h"

namespace lectern::engine {
namespace {

// Whole blocks that wait for the next commit at most: a crash costs the prefill of these and of the
// chunk at hand.
constexpr int64_t kCommitBlocks = 8;

}  // namespace

IngestRun::IngestRun(const Surroundings& surroundings, const storage::Tenant& tenant,
                     storage::IngestIntent intent, IngestPlan plan, DiskPromise promise,
                     std::shared_ptr<CancelFlag> cancel)
    : Run({.kind = RunKind::kIngest, .tenant_uid = tenant.uid, .weight = ShareWeight(tenant)},
          std::move(cancel)),
      around_(surroundings),
      intent_(std::move(intent)),
      plan_(std::move(plan)),
      promise_(std::move(promise)),
      left_(&around_.counters->pending_tokens, plan_.token_count() - StoredTokens()) {
  LECTERN_CHECK(intent_.contexts.size() == plan_.contexts.size());
}

IngestRun::~IngestRun() = default;

RunNeeds IngestRun::MemoryNeeds() const {
  // The blocks of a chunk, those that wait for the commit, and a block begun at either end; of
  // index keys, those of the longest context in the end.
  int64_t longest = 0;
  for (const ContextPlan& context : plan_.contexts) {
    longest = std::max(longest, context.token_count());
  }
  return {.kv_slots = (BlocksOf(around_.chunk_tokens) + kCommitBlocks + 2) *
                      around_.memory->shape().layers(),
          .index_slots = BlocksOf(longest) + 1};
}

int64_t IngestRun::StoredTokens() const {
  int64_t tokens = 0;
  for (const storage::IngestContext& context : intent_.contexts) {
    tokens += static_cast<int64_t>(context.token_count);
  }
  return tokens;
}

absl::Status IngestRun::Start() {
  LECTERN_FAIL_POINT(kIngestStarted);
  open_.emplace(&around_.counters->open_contexts);
  absl::StatusOr<storage::Operation> operation =
      around_.catalog->UpdateOperation(intent_.operation_uid,
                                       {.phase = "prefilling",
                                        .tokens_done = static_cast<uint64_t>(StoredTokens()),
                                        .tokens_total = static_cast<uint64_t>(plan_.token_count())},
                                       around_.clock_us());
  if (!operation.ok()) return operation.status();
  return OpenNext();
}

absl::Status IngestRun::OpenNext() {
  context_.reset();
  for (; index_ < plan_.contexts.size(); ++index_) {
    const storage::IngestContext& state = intent_.contexts[index_];
    around_.counters->cached_tokens.fetch_add(static_cast<int64_t>(state.token_count),
                                              std::memory_order_relaxed);
    if (static_cast<int64_t>(state.token_count) == plan().token_count()) continue;
    std::vector<storage::Segment> segments = state.reused;
    if (state.end_block > state.first_block) {
      segments.push_back({.lineage = state.lineage,
                          .first_block = state.first_block,
                          .block_count = state.end_block - state.first_block});
    }
    LECTERN_ASSIGN_OR_RETURN(context_,
                             Context::Open(around_.memory, intent_.tenant_uid, std::move(segments),
                                           static_cast<int64_t>(state.token_count), state.lineage));
    return absl::OkStatus();
  }
  return Publish();
}

Run::Wish IngestRun::NextWish() const {
  return {.tokens = plan().token_count() - context_->token_count(), .tiled = true};
}

absl::StatusOr<StepSegment> IngestRun::Prepare(int64_t tokens) {
  step_begin_ = std::chrono::steady_clock::now();
  step_tokens_ = tokens;
  LECTERN_RETURN_IF_ERROR(context_->Reserve(tokens));
  return StepSegment{.context = context_.get(),
                     .tokens = std::span(plan().tokens)
                                   .subspan(static_cast<size_t>(context_->token_count()),
                                            static_cast<size_t>(tokens)),
                     .tiled = true};
}

absl::Status IngestRun::AfterStep(SegmentResult result) {
  LECTERN_FAIL_POINT(kIngestStepComputed);
  const int64_t stored = std::min(context_->token_count(), context_->own_begin() * kBlockTokens);
  const bool complete = context_->token_count() == plan().token_count();
  if (complete || context_->token_count() - stored >= kCommitBlocks * kBlockTokens) {
    LECTERN_RETURN_IF_ERROR(Commit(complete));
  }
  left_.Computed(step_tokens_);
  around_.counters->prefill_rate.Add(
      step_tokens_,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - step_begin_).count());
  if (!complete) return absl::OkStatus();
  ++index_;
  return OpenNext();
}

absl::Status IngestRun::Commit(bool complete) {
  const int64_t first = context_->own_begin();
  const int64_t end =
      complete ? BlocksOf(context_->token_count()) : context_->token_count() / kBlockTokens;
  if (end == first) return absl::OkStatus();
  Context::StoredBlocks blocks = context_->Export(end);
  for (int64_t block = first; block < end; ++block)
    blocks.inputs()[block - first].hash = plan().hashes[block];
  const int64_t tokens_before = first * kBlockTokens;
  absl::StatusOr<storage::IngestIntent> intent =
      around_.catalog->CommitIngestBlocks(intent_.operation_uid, index_,
                                          {.first_block = static_cast<uint32_t>(first),
                                           .blocks = blocks.inputs(),
                                           .provenance = around_.model->provenance()});
  if (!intent.ok()) return intent.status();
  intent_ = *std::move(intent);
  context_->Adopt(intent_.contexts[index_].lineage, end);
  const int64_t tokens = std::min(context_->token_count(), end * kBlockTokens) - tokens_before;
  promise_.Written(BlockDiskBytes(around_.memory->shape().geometry(), tokens));
  around_.counters->prefill_tokens.fetch_add(tokens, std::memory_order_relaxed);
  around_.counters->corpus_prefill_tokens.fetch_add(tokens, std::memory_order_relaxed);
  around_.counters->tenants.Charge(intent_.tenant_uid, tokens);
  const bool last = complete && index_ + 1 == plan_.contexts.size();
  return around_.catalog
      ->UpdateOperation(intent_.operation_uid,
                        {.phase = last ? "committing" : "prefilling",
                         .tokens_done = static_cast<uint64_t>(StoredTokens())},
                        around_.clock_us())
      .status();
}

absl::Status IngestRun::Publish() {
  storage::GenerationSpec spec = {.documents = intent_.documents,
                                  .layout_version = std::string(kPromptLayoutName),
                                  .extractor_version = std::to_string(kTextExtractorVersion),
                                  .model_fingerprint = around_.model->fingerprint()};
  for (const ContextPlan& context : plan_.contexts) {
    const size_t tail = context.tokens.size() % static_cast<size_t>(kBlockTokens);
    spec.contexts.push_back(
        {.token_count = context.tokens.size(),
         .tail_tokens = {context.tokens.end() - static_cast<int64_t>(tail), context.tokens.end()}});
  }
  absl::StatusOr<storage::Generation> generation =
      around_.catalog->PublishGeneration(intent_.operation_uid, spec, around_.clock_us());
  if (!generation.ok()) return generation.status();
  LECTERN_KILL_POINT(kIngestPublished);
  done_ = true;
  around_.ended(intent_.operation_uid);
  return absl::OkStatus();
}

void IngestRun::Fail(const absl::Status& untyped, bool draining) {
  if (!draining) around_.failed(intent_.operation_uid, WithReason(untyped));
  done_ = true;
  around_.ended(intent_.operation_uid);
}

}  // namespace lectern::engine
