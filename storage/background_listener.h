// Watches what RocksDB does by itself: counts flushes and compactions, makes both places at which a
// test can kill the process, and tells the gate of errors. Internal to storage.
#pragma once

#include <atomic>
#include <cstdint>

#include <rocksdb/listener.h>

#include "storage/key_value_store.h"
#include "storage/write_gate.h"

namespace lectern::storage {

class BackgroundListener final : public rocksdb::EventListener {
 public:
  explicit BackgroundListener(WriteGate* gate) : gate_(gate) {}

  const char* Name() const override { return "lectern"; }

  void OnFlushBegin(rocksdb::DB*, const rocksdb::FlushJobInfo&) override;
  void OnFlushCompleted(rocksdb::DB*, const rocksdb::FlushJobInfo&) override;
  void OnCompactionBegin(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override;
  void OnCompactionCompleted(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override;
  void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override;
  void OnErrorRecoveryEnd(const rocksdb::BackgroundErrorRecoveryInfo& info) override;

  BackgroundCounters Counters() const {
    return {.flushes = flushes_,
            .compactions = compactions_,
            .outages = gate_->outages(),
            .recoveries = gate_->recoveries()};
  }

 private:
  WriteGate* const gate_;
  std::atomic<uint64_t> flushes_ = 0;
  std::atomic<uint64_t> compactions_ = 0;
};

}  // namespace lectern::storage
