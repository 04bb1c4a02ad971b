#include "services/worker/export_call.h"

#include <optional>
#include <utility>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "services/rpc/errors.h"
#include "services/rpc/names.h"
#include "services/rpc/reason.h"
#include "services/worker/unary_call.h"
#include "services/worker/worker_service.h"

namespace lectern::services {
namespace {

// Records are gathered up to so much; one that is larger goes alone.
constexpr size_t kMessageBytes = 1 << 20;

}  // namespace

ExportCall::ExportCall(WorkerService& worker, grpc::CallbackServerContext& context,
                       const worker::v1::ExportCorpusRequest& request)
    : worker_(worker),
      context_(context),
      request_(request),
      record_(worker.metrics(), worker.admission(), "Worker/ExportCorpus") {
  record_.set_caller(InternalCaller(context));
}

ExportCall* ExportCall::Start(WorkerService& worker, grpc::CallbackServerContext& context,
                              const worker::v1::ExportCorpusRequest& request) {
  auto* call = new ExportCall(worker, context, request);
  if (!call->record_.admitted().ok()) {
    call->End(call->record_.admitted());
  } else if (!worker.executor().Submit([call] { call->Continue(call->Begin()); })) {
    call->End(ExecutorFullError());
  }
  return call;
}

absl::Status ExportCall::Begin() {
  const Caller& caller = record_.caller();
  Ownership* ownership = worker_.ownership();
  if (ownership == nullptr) {
    return engine::Error(
        absl::StatusCode::kFailedPrecondition, reason::kClusterMissing,
        "this worker is of no cluster: there is no other that could take a corpus");
  }
  LECTERN_RETURN_IF_ERROR(ownership->MayBegin(caller, /*of_corpus=*/true));
  LECTERN_ASSIGN_OR_RETURN(const engine::CorpusName name,
                           ParseCorpusName(request_.name(), caller.tenant, "name"));
  int64_t hold = 0;
  if (request_.last()) {
    LECTERN_ASSIGN_OR_RETURN(hold, ownership->HoldChanges(caller));
  }
  engine::CorpusParts have;
  have.documents.assign(request_.documents().begin(), request_.documents().end());
  have.generations.assign(request_.generations().begin(), request_.generations().end());
  for (const auto& blocks : request_.blocks()) {
    have.blocks.push_back({blocks.lineage(), blocks.end_block(), blocks.tail_tokens()});
  }
  engine::TransferRound round = {.last = request_.last()};
  if (request_.replica()) {
    round.turns = request_.cache_bytes() > 0;
    round.cache_bytes = request_.cache_bytes();
  }
  LECTERN_ASSIGN_OR_RETURN(
      records_, worker_.engine().ExportCorpus(name, {request_.store_id(), request_.corpus_uid()},
                                              have, round));
  auto& header = *message_.mutable_header();
  header.set_store_id(records_->origin().store_id);
  header.set_corpus_uid(records_->origin().corpus_uid);
  header.set_bytes(records_->bytes());
  header.set_hold_revision(hold);
  header.set_busy(records_->busy());
  return absl::OkStatus();
}

absl::Status ExportCall::Fill() {
  message_.Clear();
  size_t bytes = 0;
  while (bytes < kMessageBytes) {
    LECTERN_ASSIGN_OR_RETURN(std::optional<engine::CorpusRecord> record, records_->Next());
    if (!record) {
      message_.set_complete(true);
      message_.set_more(records_->more());
      break;
    }
    bytes += record->key.size() + record->value.size();
    auto& out = *message_.add_records();
    out.set_family(record->family);
    out.set_key(std::move(record->key));
    out.set_value(std::move(record->value));
  }
  // Nothing leaves a worker that may not act for its group any more.
  return worker_.ownership()->MayEnd(record_.caller(), /*of_corpus=*/true);
}

void ExportCall::Continue(const absl::Status& status) {
  if (status.ok()) {
    StartWrite(&message_);
  } else {
    End(status);
  }
}

void ExportCall::OnWriteDone(bool ok) {
  worker_.executor().MustSubmit([this, ok] {
    if (!ok || context_.IsCancelled()) {
      End(GivenUpError(context_));
    } else if (message_.complete()) {
      End(absl::OkStatus());
    } else {
      Continue(Fill());
    }
  });
}

void ExportCall::End(const absl::Status& status) {
  records_.reset();
  const grpc::Status out = ToGrpcStatus(status, record_.caller().request_id);
  record_.Finish(out);
  Finish(out);
}

}  // namespace lectern::services
