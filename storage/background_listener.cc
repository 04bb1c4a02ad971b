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

}  // namespace lectern::storage
