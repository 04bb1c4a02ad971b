// Care for a data directory that no server has open: verify it, copy it, bring a copy back. What
// `lectern verify`, `lectern backup` and `lectern restore` call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lectern::engine {

struct FoundDamage {
  std::string kind;                  // "catalog", "document", "layout", "blocks", "hash"
  std::string what;                  // the record and what is wrong with it
  std::vector<std::string> corpora;  // "tenant/corpus" of those affected
  // It can be computed again from documents that verify, and a server that opens the directory does
  // so (engine/care/store_care.h).
  bool rebuildable = false;
};

struct VerifyReport {
  int64_t records = 0;
  int64_t bytes = 0;
  double seconds = 0;
  int64_t corpora = 0;
  std::vector<FoundDamage> damages;
};

// Opens the directory as a server does (what a crash left is put in order on the way) and verifies
// every record in it. bytes_per_second 0: as fast as the disk gives. Errors: those of Engine::Open
// for the data directory; DATA_LOSS when it cannot be opened for damage.
absl::StatusOr<VerifyReport> VerifyDataDir(const std::string& data_dir, int64_t bytes_per_second);

// Copies the directory as it is to `backup`, which must not exist or be empty. Table files are
// linked where both are on one file system: such a backup costs nothing and guards against
// deletion, not against a broken disk.
//   ALREADY_EXISTS BACKUP_EXISTS; FAILED_PRECONDITION DATA_DIR_LOCKED while a server runs on it
absl::Status BackupDataDir(const std::string& data_dir, const std::string& backup);

// Copies a backup, every byte of it, to `data_dir`, which must not exist or be empty.
//   NOT_FOUND BACKUP_NOT_FOUND; ALREADY_EXISTS DATA_DIR_EXISTS
absl::Status RestoreDataDir(const std::string& backup, const std::string& data_dir);

}  // namespace lectern::engine
