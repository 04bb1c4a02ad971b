#include "services/cluster/corpus_pull.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"

namespace lectern::services {
namespace {

using worker::v1::ExportCorpusRequest;
using worker::v1::ExportCorpusResponse;

// The last round may begin when the one before brought no more than this, or after so many.
constexpr int64_t kSmallRoundBytes = 16 << 20;
constexpr int kMostRounds = 5;

absl::Status FromSource(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const RemoteError error = ToRemoteError(status);
  if (!error.reason.empty()) {
    return engine::Error(error.code, error.reason, error.message, error.metadata);
  }
  return engine::Error(
      absl::StatusCode::kUnavailable, reason::kWorkerUnreachable,
      fmt::format("the group that has the corpus cannot be reached: {}", status.error_message()));
}

absl::Status CutOff() {
  return engine::Error(absl::StatusCode::kUnavailable, reason::kWorkerUnreachable,
                       "what the group that has the corpus sends was cut off");
}

}  // namespace

absl::StatusOr<CorpusPull::Pulled> CorpusPull::Run(
    const Caller& caller, const std::function<absl::Status(int64_t)>& may_publish) {
  ExportCorpusRequest request;
  int64_t bytes = kSmallRoundBytes + 1;
  for (int round = 0; round < kMostRounds && bytes > kSmallRoundBytes; ++round) {
    LECTERN_ASSIGN_OR_RETURN(const Round pulled, PullRound(caller, request));
    bytes = pulled.again ? kSmallRoundBytes + 1 : pulled.bytes;
  }
  request.set_last(true);
  LECTERN_ASSIGN_OR_RETURN(const Round last, PullRound(caller, request));
  if (last.again) return CutOff();
  LECTERN_RETURN_IF_ERROR(may_publish(last.hold_revision));
  LECTERN_RETURN_IF_ERROR(import_->Publish());
  return Pulled{import_->uid(), last.hold_revision};
}

absl::StatusOr<CorpusPull::Replicated> CorpusPull::Replicate(const Caller& caller,
                                                             int64_t cache_bytes) {
  ExportCorpusRequest request;
  request.set_replica(true);
  request.set_cache_bytes(cache_bytes);
  const int64_t before = progress_.bytes;
  LECTERN_ASSIGN_OR_RETURN(Round round, PullRound(caller, request));
  if (round.again) {
    LECTERN_ASSIGN_OR_RETURN(round, PullRound(caller, request));
    if (round.again) return CutOff();
  }
  LECTERN_ASSIGN_OR_RETURN(const bool whole, import_->Keep(cache_bytes > 0 && !round.more));
  return Replicated{
      .origin = round.origin,
      .left = round.more ? std::max<int64_t>(round.bytes - (progress_.bytes - before), 0) : 0,
      .more = round.more,
      .busy = round.busy || (cache_bytes > 0 && !round.more && !whole)};
}

void CorpusPull::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

absl::StatusOr<CorpusPull::Round> CorpusPull::PullRound(const Caller& caller,
                                                        ExportCorpusRequest request) {
  request.set_name(CorpusResourceName({caller.tenant, caller.corpus}));
  if (import_ != nullptr) {
    LECTERN_ASSIGN_OR_RETURN(const engine::CorpusParts have, import_->Have());
    request.set_store_id(origin_.store_id);
    request.set_corpus_uid(origin_.corpus_uid);
    for (const uint64_t uid : have.documents) request.add_documents(uid);
    for (const uint64_t uid : have.generations) request.add_generations(uid);
    for (const auto& blocks : have.blocks) {
      auto& had = *request.add_blocks();
      had.set_lineage(blocks.lineage);
      had.set_end_block(blocks.end_block);
      had.set_tail_tokens(blocks.tail_tokens);
    }
  }
  grpc::ClientContext context;
  SetInternalCaller(caller, context);
  {
    const std::lock_guard lock(mutex_);
    context_ = &context;
    if (cancelled_) context.TryCancel();
  }
  const auto reader = stub_->ExportCorpus(&context, request);
  Round round;
  bool complete = false;
  bool opened = false;
  absl::Status status;
  ExportCorpusResponse message;
  while (status.ok() && !round.again && reader->Read(&message)) {
    if (message.has_header()) {
      status = Open(caller, message.header(), round);
      opened = true;
    } else if (!opened) {
      status = CutOff();
    }
    if (status.ok() && !round.again) status = Take(message);
    complete = message.complete();
    round.more = message.more();
  }
  if (!status.ok() || round.again) context.TryCancel();
  const grpc::Status ended = reader->Finish();
  {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  }
  if (!status.ok()) return status;
  if (round.again) return round;
  LECTERN_RETURN_IF_ERROR(FromSource(ended));
  if (!complete) return CutOff();
  LECTERN_RETURN_IF_ERROR(import_->EndRound());
  LECTERN_RETURN_IF_ERROR(told_(progress_));
  return round;
}

absl::Status CorpusPull::Open(const Caller& caller, const ExportCorpusResponse::Header& header,
                              Round& round) {
  round.origin = {header.store_id(), header.corpus_uid()};
  round.bytes = header.bytes();
  round.hold_revision = header.hold_revision();
  round.busy = header.busy();
  if (import_ == nullptr || round.origin != origin_) {
    // What came of another corpus of this name is of no use.
    import_.reset();
    origin_ = round.origin;
    LECTERN_ASSIGN_OR_RETURN(import_,
                             engine_.ImportCorpus({caller.tenant, caller.corpus}, origin_));
    LECTERN_ASSIGN_OR_RETURN(const engine::CorpusParts have, import_->Have());
    round.again = !have.empty();
    if (round.again) return absl::OkStatus();
  }
  progress_.left = progress_.bytes + header.bytes();
  return import_->BeginRound(header.bytes());
}

absl::Status CorpusPull::Take(const ExportCorpusResponse& message) {
  for (const ExportCorpusResponse::Record& record : message.records()) {
    LECTERN_RETURN_IF_ERROR(import_->Add({record.family(), record.key(), record.value()}));
    ++progress_.records;
    progress_.bytes += static_cast<int64_t>(record.value().size());
  }
  return told_(progress_);
}

}  // namespace lectern::services
