// Long-running operations.
#include "storage/catalog_store.h"
#include "storage/fail_point.h"

namespace lectern::storage {
namespace {

// Running operations of the whole store are one list.
constexpr uint64_t kNoParent = 0;
constexpr int32_t kCancelledCode = static_cast<int32_t>(absl::StatusCode::kCancelled);

absl::Status Ended(const Operation& operation) {
  return absl::FailedPreconditionError(fmt::format("operation {} has ended", operation.uid));
}

}  // namespace

absl::StatusOr<Operation> CatalogStore::CreateOperation(uint64_t corpus_uid,
                                                        const NewOperation& request, int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Corpus> corpus = GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return corpus.status();
  Operation operation;
  operation.uid = transaction.NewUid();
  operation.tenant_uid = corpus->tenant_uid;
  operation.corpus_uid = corpus_uid;
  operation.kind = request.kind;
  operation.phase = request.phase;
  operation.tokens_total = request.tokens_total;
  operation.request_id = request.request_id;
  operation.detail = request.detail;
  operation.create_time = now;
  operation.update_time = now;
  Batch& batch = transaction.batch();
  const Link link = {operation.uid};
  PutRecord(&batch, ObjectKey(KeySpace::kOperation, link.uid), operation);
  PutRecord(&batch, ChildKey(KeySpace::kTenantOperations, operation.tenant_uid, link.uid), link);
  PutRecord(&batch, ChildKey(KeySpace::kCorpusOperations, corpus_uid, link.uid), link);
  PutRecord(&batch, ChildKey(KeySpace::kRunningOperations, kNoParent, link.uid), link);
  LECTERN_FAIL_POINT(kOperationCreate);
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return operation;
}

absl::StatusOr<Operation> CatalogStore::GetOperation(uint64_t operation_uid) const {
  return Load<Operation>(KeySpace::kOperation, operation_uid, "operation");
}

absl::StatusOr<Page<Operation>> CatalogStore::ListOperations(uint64_t tenant_uid,
                                                             uint64_t corpus_uid,
                                                             const PageRequest& page) const {
  const bool of_corpus = corpus_uid != 0;
  return ListChildrenNewestFirst<Operation>(
      of_corpus ? KeySpace::kCorpusOperations : KeySpace::kTenantOperations,
      of_corpus ? corpus_uid : tenant_uid, KeySpace::kOperation, page);
}

absl::StatusOr<std::vector<Operation>> CatalogStore::RunningOperations() const {
  absl::StatusOr<std::vector<uint64_t>> uids = Children(KeySpace::kRunningOperations, kNoParent);
  if (!uids.ok()) return uids.status();
  std::vector<Operation> running;
  for (const uint64_t uid : *uids) {
    absl::StatusOr<Operation> operation = GetOperation(uid);
    if (absl::IsNotFound(operation.status())) continue;  // deleted since
    if (!operation.ok()) return operation.status();
    running.push_back(*std::move(operation));
  }
  return running;
}

absl::StatusOr<Operation> CatalogStore::UpdateOperation(uint64_t operation_uid,
                                                        const OperationUpdate& update,
                                                        int64_t now) {
  Transaction transaction(state_);
  absl::StatusOr<Operation> operation = GetOperation(operation_uid);
  if (!operation.ok()) return operation.status();
  if (operation->state != OperationState::kRunning) return Ended(*operation);
  if (update.phase.has_value()) operation->phase = *update.phase;
  if (update.tokens_done.has_value()) operation->tokens_done = *update.tokens_done;
  if (update.tokens_total.has_value()) operation->tokens_total = *update.tokens_total;
  if (update.detail.has_value()) operation->detail = *update.detail;
  operation->update_time = now;
  PutRecord(&transaction.batch(), ObjectKey(KeySpace::kOperation, operation_uid), *operation);
  if (absl::Status status = transaction.Commit(Durability::kBuffered); !status.ok()) return status;
  return operation;
}

void CatalogStore::CloseOperation(Transaction* transaction, Operation* operation,
                                  OperationState state, int64_t now) {
  operation->state = state;
  operation->update_time = now;
  operation->end_time = now;
  PutRecord(&transaction->batch(), ObjectKey(KeySpace::kOperation, operation->uid), *operation);
  transaction->batch().Delete(ColumnFamily::kCatalog,
                              ChildKey(KeySpace::kRunningOperations, kNoParent, operation->uid));
}

absl::StatusOr<Operation> CatalogStore::EndOperation(uint64_t operation_uid,
                                                     const OperationEnd& end, int64_t now) {
  if (end.state != OperationState::kFailed && end.state != OperationState::kCancelled) {
    return absl::InvalidArgumentError("an operation ends here as failed or cancelled");
  }
  Transaction transaction(state_);
  absl::StatusOr<Operation> operation = GetOperation(operation_uid);
  if (!operation.ok()) return operation.status();
  if (operation->state != OperationState::kRunning) return Ended(*operation);
  operation->error_code = end.error_code;
  operation->error_reason = end.error_reason;
  operation->error_message = end.error_message;
  CloseOperation(&transaction, &*operation, end.state, now);
  absl::StatusOr<IngestIntent> intent = GetIngest(operation_uid);
  if (intent.ok()) {
    absl::Status status = RemoveIntent(&transaction, *intent, /*corpus_goes=*/false);
    if (!status.ok()) return status;
  } else if (!absl::IsNotFound(intent.status())) {
    return intent.status();
  }
  if (absl::Status status = transaction.Commit(); !status.ok()) return status;
  return operation;
}

absl::Status CatalogStore::DeleteOperation(uint64_t operation_uid) {
  Transaction transaction(state_);
  absl::StatusOr<Operation> operation = GetOperation(operation_uid);
  if (!operation.ok()) return operation.status();
  if (operation->state == OperationState::kRunning) {
    return absl::FailedPreconditionError(
        fmt::format("operation {} is running: cancel it first", operation_uid));
  }
  Batch& batch = transaction.batch();
  batch.Delete(ColumnFamily::kCatalog, ObjectKey(KeySpace::kOperation, operation_uid));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kTenantOperations, operation->tenant_uid, operation_uid));
  batch.Delete(ColumnFamily::kCatalog,
               ChildKey(KeySpace::kCorpusOperations, operation->corpus_uid, operation_uid));
  return transaction.Commit();
}

absl::Status CatalogStore::EndCorpusOperations(Transaction* transaction, const Corpus& corpus,
                                               int64_t now) {
  absl::StatusOr<std::vector<uint64_t>> uids = Children(KeySpace::kCorpusOperations, corpus.uid);
  if (!uids.ok()) return uids.status();
  for (const uint64_t uid : *uids) {
    transaction->batch().Delete(ColumnFamily::kCatalog,
                                ChildKey(KeySpace::kCorpusOperations, corpus.uid, uid));
    absl::StatusOr<Operation> operation = GetOperation(uid);
    if (!operation.ok()) return operation.status();
    if (operation->state != OperationState::kRunning) continue;
    operation->error_code = kCancelledCode;
    operation->error_reason = "CORPUS_DELETED";
    operation->error_message = fmt::format("corpus \"{}\" was deleted", corpus.id);
    CloseOperation(transaction, &*operation, OperationState::kCancelled, now);
    absl::StatusOr<IngestIntent> intent = GetIngest(uid);
    if (absl::IsNotFound(intent.status())) continue;
    if (!intent.ok()) return intent.status();
    absl::Status status = RemoveIntent(transaction, *intent, /*corpus_goes=*/true);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace lectern::storage
