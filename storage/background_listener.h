// Watches what RocksDB does by itself: counts flushes and compactions, and makes both places at
// which a test can kill the process. Internal to storage.
#pragma once

#include <atomic>
#include <cstdint>

#include <rocksdb/listener.h>

#include "storage/key_value_store.h"

namespace lectern::storage {

class BackgroundListener final : public rocksdb::EventListener {
 public:
  const char* Name() const override { return "lectern"; }

  void OnFlushBegin(rocksdb::DB*, const rocksdb::FlushJobInfo&) override;
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override;
  void OnCompactionBegin(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override;
  void OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override;

  BackgroundCounters Counters() const { return {flushes_, compactions_}; }

 private:
  std::atomic<uint64_t> flushes_ = 0;
  std::atomic<uint64_t> compactions_ = 0;
};

}  // namespace lectern::storage
