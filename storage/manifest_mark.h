// A witness of how far RocksDB's manifest was synced. Before RocksDB is told that a manifest is on
// disk, the file's number, length and checksum are written to a small file of their own, and
// synced. So at the next open
//   - a manifest that is shorter, or an older one than the mark knows, is damage: RocksDB would
//     take it for the trace of a crash, open with what is left, and never miss tables or logs that
//     were in use;
//   - what does not decode behind its mark was never acknowledged, and nothing was deleted or
//     overwritten because of it: it is cut off. A power loss leaves such garbage, with which
//     RocksDB would not open.
// A manifest that is not the one that was marked (a program without marks was here) is left as it
// is.
// Internal to storage.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::storage {

// Of a manifest's name, with or without directories; 0: it is no manifest's.
uint64_t ManifestNumber(std::string_view path);

class ManifestMark {
 public:
  // Empty path: there is no mark; everything passes.
  explicit ManifestMark(std::string path) : path_(std::move(path)) {}
  ~ManifestMark();
  ManifestMark(const ManifestMark&) = delete;
  ManifestMark& operator=(const ManifestMark&) = delete;

  // Opens or makes the file. One that is new or torn knows nothing.
  absl::Status Open();

  // Before RocksDB opens `directory`: kDataLoss as above; else the bytes that were cut off.
  absl::StatusOr<uint64_t> Apply(const std::string& directory);

  // `bytes` of the manifest `number`, with that XXH3-64, are synced. Once it returns OK so is the
  // mark. Thread-safe.
  absl::Status Raise(uint64_t number, uint64_t bytes, uint64_t checksum);

 private:
  struct Manifest {
    uint64_t number = 0;
    uint64_t bytes = 0;  // 0: unknown, it was made without a mark
    uint64_t checksum = 0;
  };

  const std::string path_;
  int file_ = -1;
  std::mutex mutex_;
  // A new manifest is synced once before CURRENT names it, and again only after that is durable.
  // Number 0: none. Guarded by mutex_.
  Manifest installed_;  // CURRENT names it, or a later one
  Manifest candidate_;  // that CURRENT may name
};

}  // namespace lectern::storage
