#include "engine/data_dir.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <set>

#include "engine/error/error.h"
#include "engine/error/status_macros.h"
#include "engine/local_engine.h"
#include "engine/names.h"
#include "storage/store.h"

namespace lectern::engine {
namespace {

absl::StatusOr<std::unique_ptr<storage::Store>> OpenStore(const std::string& data_dir) {
  absl::StatusOr<std::unique_ptr<storage::Store>> store =
      storage::Store::Open({.directory = data_dir, .now = NowUs()});
  if (!store.ok()) return DataDirError(store.status());
  return store;
}

std::string NameOf(storage::Catalog& catalog, uint64_t corpus_uid) {
  const absl::StatusOr<storage::Corpus> corpus = catalog.GetCorpusByUid(corpus_uid);
  if (!corpus.ok()) return fmt::format("corpus {}", corpus_uid);
  const absl::StatusOr<storage::Tenant> tenant = catalog.GetTenantByUid(corpus->tenant_uid);
  return fmt::format("{}/{}", tenant.ok() ? tenant->id : "?", corpus->id);
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyDataDir(const std::string& data_dir, int64_t bytes_per_second) {
  using Kind = storage::Damage::Kind;
  const auto begin = std::chrono::steady_clock::now();
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<storage::Store> store, OpenStore(data_dir));
  absl::StatusOr<storage::ScrubReport> scrubbed =
      store->Scrub({.bytes_per_second = static_cast<uint64_t>(bytes_per_second)});
  if (!scrubbed.ok()) return WithReason(scrubbed.status());
  VerifyReport report = {.records = static_cast<int64_t>(scrubbed->records),
                         .bytes = static_cast<int64_t>(scrubbed->bytes)};
  if (const auto stats = store->GetStats(); stats.ok()) {
    report.corpora = static_cast<int64_t>(stats->corpora);
  }
  // A corpus whose documents are damaged cannot be computed again.
  std::set<uint64_t> without_documents;
  for (const storage::Damage& damage : scrubbed->damages) {
    if (damage.kind == Kind::kDocument || damage.kind == Kind::kCatalog) {
      without_documents.insert(damage.corpora.begin(), damage.corpora.end());
    }
  }
  for (const storage::Damage& damage : scrubbed->damages) {
    FoundDamage& found = report.damages.emplace_back();
    found.kind = DamageKindName(damage.kind);
    found.what = damage.what;
    found.rebuildable =
        damage.kind == Kind::kHash || damage.kind == Kind::kLayout || damage.kind == Kind::kBlocks;
    for (const uint64_t uid : damage.corpora) {
      found.corpora.push_back(NameOf(store->catalog(), uid));
      found.rebuildable = found.rebuildable && !without_documents.contains(uid);
    }
    // Blocks that are a session's alone came from its turns, not from documents.
    if (damage.kind == Kind::kBlocks && damage.generations.empty() && !damage.sessions.empty()) {
      found.rebuildable = false;
    }
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return report;
}

absl::Status BackupDataDir(const std::string& data_dir, const std::string& backup) {
  LECTERN_ASSIGN_OR_RETURN(const std::unique_ptr<storage::Store> store, OpenStore(data_dir));
  return WithReason(store->Backup(backup), "DATA_DIR_NOT_FOUND", "BACKUP_EXISTS");
}

absl::Status RestoreDataDir(const std::string& backup, const std::string& data_dir) {
  const absl::Status status = storage::RestoreBackup(backup, data_dir);
  if (storage::OpenFailureOf(status).has_value()) return DataDirError(status);
  return WithReason(status, "BACKUP_NOT_FOUND", "DATA_DIR_EXISTS");
}

}  // namespace lectern::engine
