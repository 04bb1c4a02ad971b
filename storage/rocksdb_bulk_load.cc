// Table files built beside the database and taken in whole, in one edit of the manifest.
#include <map>

#include <rocksdb/sst_file_writer.h>

#include "storage/fail_point.h"
#include "storage/rocks_store.h"

namespace lectern::storage {
namespace {

class RocksBulkLoad final : public BulkLoad {
 public:
  explicit RocksBulkLoad(RocksStore* store) : store_(store) {}

  ~RocksBulkLoad() override {
    for (auto& [family, table] : tables_) {
      // An unfinished writer must be closed before its file can go; the result does not matter.
      if (table.writer != nullptr) table.writer->Finish().PermitUncheckedError();
      for (const std::string& path : table.files) {
        store_->env()->DeleteFile(path).PermitUncheckedError();
      }
    }
  }

  absl::Status Add(ColumnFamily family, std::string_view key, std::string_view value) override {
    Table& table = tables_[family];
    if (table.writer != nullptr && table.writer->FileSize() >= store_->sizes().bulk_file) {
      if (absl::Status status = Finish(&table); !status.ok()) return status;
    }
    if (table.writer == nullptr) {
      if (!table.last_key.empty() && key <= table.last_key) {
        return absl::InvalidArgumentError("bulk load: keys must ascend");
      }
      if (absl::Status status = Begin(family, &table); !status.ok()) return status;
    }
    table.last_key = key;
    store_->FindHidden(family, key, &hidden_);
    return ToStatus(table.writer->Put(ToSlice(key), ToSlice(value)), "bulk load");
  }

  absl::Status Commit() override {
    std::vector<rocksdb::IngestExternalFileArg> arguments;
    for (auto& [family, table] : tables_) {
      if (absl::Status status = Finish(&table); !status.ok()) return status;
      rocksdb::IngestExternalFileArg& argument = arguments.emplace_back();
      argument.column_family = store_->BulkHandle(family);
      argument.external_files = table.files;
      argument.options = TunedIngestOptions();
    }
    if (arguments.empty()) return absl::OkStatus();
    const absl::Status status = store_->Attempt(WriteGate::Entry::kEdit, "ingest", [&] {
      return store_->db()->IngestExternalFiles(arguments);
    });
    if (!status.ok() || hidden_.empty()) return status;
    return store_->Write(hidden_, Durability::kBuffered);
  }

 private:
  struct Table {
    std::unique_ptr<rocksdb::SstFileWriter> writer;
    std::vector<std::string> files;
    std::string last_key;
  };

  absl::Status Begin(ColumnFamily family, Table* table) {
    // The pages are kept: what was just ingested is what the next question reads.
    table->writer = std::make_unique<rocksdb::SstFileWriter>(
        rocksdb::EnvOptions(), store_->FileOptions(family), store_->BulkHandle(family),
        /*invalidate_page_cache=*/false);
    table->files.push_back(store_->NextLoadFile());
    return ToStatus(table->writer->Open(table->files.back()), "open a bulk file");
  }

  static absl::Status Finish(Table* table) {
    if (table->writer == nullptr) return absl::OkStatus();
    const rocksdb::Status status = table->writer->Finish();  // syncs the file
    table->writer.reset();
    LECTERN_FAIL_POINT(kCommitBulkFileBuilt);
    return ToStatus(status, "finish a bulk file");
  }

  RocksStore* store_;
  std::map<ColumnFamily, Table> tables_;
  Batch hidden_;  // deletes what would hide a loaded key
};

}  // namespace

absl::StatusOr<std::unique_ptr<BulkLoad>> RocksStore::NewBulkLoad() {
  return std::make_unique<RocksBulkLoad>(this);
}

}  // namespace lectern::storage
