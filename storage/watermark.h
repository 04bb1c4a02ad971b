// A witness outside the database of how far it had come. RocksDB takes a log or manifest that ends
// early for the trace of a crash, and opens with what is left; whether acknowledged writes were
// lost with the rest, only somebody else can tell. After a synced write its sequence number is
// written to a file of its own, unsynced: the file then never says more than is durable, and a
// database that has less was damaged. Internal to storage.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::storage {

class Watermark {
 public:
  // Opens or makes the file. Errors as of Store::Open.
  static absl::StatusOr<std::unique_ptr<Watermark>> Open(const std::string& path);
  ~Watermark();
  Watermark(const Watermark&) = delete;
  Watermark& operator=(const Watermark&) = delete;

  // kDataLoss: the database is behind. A file that is new, or torn by a power loss, says 0.
  absl::Status Check(uint64_t database_sequence) const;
  // Thread-safe. A failure is ignored: the mark is then too low, which is always allowed.
  void Raise(uint64_t sequence);

 private:
  Watermark(std::string path, int file) : path_(std::move(path)), file_(file) {}

  const std::string path_;
  const int file_;
  mutable std::mutex mutex_;
  uint64_t sequence_ = 0;  // guarded by mutex_
};

}  // namespace lectern::storage
