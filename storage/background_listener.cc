#include "storage/background_listener.h"

#include "storage/fail_point.h"

namespace lectern::storage {

void BackgroundListener::OnFlushBegin(rocksdb::DB*, const rocksdb::FlushJobInfo&) {
  LECTERN_KILL_POINT(kFlushBegun);
}

void BackgroundListener::OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) {
  ++flushes_;
  LECTERN_KILL_POINT(kFlushed);
}

void BackgroundListener::OnCompactionBegin(rocksdb::DB*, const rocksdb::CompactionJobInfo&) {
  LECTERN_KILL_POINT(kCompactionBegun);
}

void BackgroundListener::OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo&) {
  ++compactions_;
  LECTERN_KILL_POINT(kCompacted);
}

void BackgroundListener::OnBackgroundError(rocksdb::BackgroundErrorReason reason,
                                           rocksdb::Status* error) {
  using Severity = rocksdb::Status::Severity;
  // Not weighed yet means that RocksDB recovers from it by itself; a compaction is simply repeated.
  const bool repeated = reason == rocksdb::BackgroundErrorReason::kCompaction &&
                        error->severity() == Severity::kNoError;
  if (repeated || error->severity() == Severity::kSoftError) return;
  gate_->Failed(*error, error->severity() < Severity::kFatalError);
}

void BackgroundListener::OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) {
  gate_->RecoveryEnded(info.old_bg_error, info.new_bg_error);
}

}  // namespace lectern::storage
