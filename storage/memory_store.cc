#include "storage/memory_store.h"

#include <array>
#include <map>
#include <mutex>
#include <shared_mutex>

#include <fmt/format.h>

namespace lectern::storage {
namespace {

using Value = std::shared_ptr<const std::string>;
using Table = std::map<std::string, Value, std::less<>>;

class MemoryCursor final : public Cursor {
 public:
  explicit MemoryCursor(std::vector<std::pair<std::string, Value>> entries)
      : entries_(std::move(entries)) {}

  bool Valid() const override { return position_ < entries_.size(); }
  void Next() override { ++position_; }
  std::string_view key() const override { return entries_[position_].first; }
  std::string_view value() const override { return *entries_[position_].second; }
  absl::Status status() const override { return absl::OkStatus(); }

 private:
  std::vector<std::pair<std::string, Value>> entries_;
  size_t position_ = 0;
};

class MemoryStore final : public KeyValueStore {
 public:
  absl::Status Get(ColumnFamily family, std::string_view key, PinnedValue* value) const override {
    std::shared_lock lock(mutex_);
    return Find(family, key, value);
  }

  std::vector<absl::Status> MultiGet(ColumnFamily family, std::span<const std::string> keys,
                                     std::span<PinnedValue> values) const override {
    std::shared_lock lock(mutex_);
    std::vector<absl::Status> statuses;
    statuses.reserve(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) statuses.push_back(Find(family, keys[i], &values[i]));
    return statuses;
  }

  absl::Status Write(const Batch& batch, Durability) override {
    std::unique_lock lock(mutex_);
    for (const Batch::Operation& operation : batch.operations()) {
      Table& table = tables_[static_cast<size_t>(operation.family)];
      switch (operation.kind) {
        case Batch::Kind::kPut:
          table[operation.key] = std::make_shared<const std::string>(operation.value);
          break;
        case Batch::Kind::kDelete:
          table.erase(operation.key);
          break;
        case Batch::Kind::kDeleteRange:
          if (operation.key < operation.value) {
            table.erase(table.lower_bound(operation.key), table.lower_bound(operation.value));
          }
          break;
      }
    }
    return absl::OkStatus();
  }

  std::unique_ptr<Cursor> NewCursor(ColumnFamily family, std::string_view begin,
                                    std::string_view end, size_t) const override {
    std::shared_lock lock(mutex_);
    const Table& table = tables_[static_cast<size_t>(family)];
    std::vector<std::pair<std::string, Value>> entries;
    if (begin < end) entries.assign(table.lower_bound(begin), table.lower_bound(end));
    return std::make_unique<MemoryCursor>(std::move(entries));
  }

  absl::StatusOr<std::unique_ptr<BulkLoad>> NewBulkLoad() override;

  absl::Status ReclaimRange(ColumnFamily, std::string_view, std::string_view) override {
    return absl::OkStatus();
  }

  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Expunge(ColumnFamily) override { return absl::OkStatus(); }

  absl::StatusOr<DiskUsage> Usage() const override {
    std::shared_lock lock(mutex_);
    DiskUsage usage;
    for (size_t family = 0; family < tables_.size(); ++family) {
      for (const auto& [key, value] : tables_[family]) {
        usage.family_bytes[family] += key.size() + value->size();
      }
      usage.family_table_bytes[family] = usage.family_bytes[family];
      usage.table_bytes += usage.family_bytes[family];
    }
    return usage;
  }

  BackgroundCounters Background() const override { return {}; }

  absl::StatusOr<uint64_t> Checkpoint(const std::string&) override {
    return absl::FailedPreconditionError("a store in memory has no files to copy");
  }

 private:
  absl::Status Find(ColumnFamily family, std::string_view key, PinnedValue* value) const {
    const Table& table = tables_[static_cast<size_t>(family)];
    const auto found = table.find(key);
    if (found == table.end()) return absl::NotFoundError("no such key");
    *value = PinnedValue(*found->second, found->second);
    return absl::OkStatus();
  }

  mutable std::shared_mutex mutex_;
  std::array<Table, kColumnFamilyCount> tables_;
};

class MemoryBulkLoad final : public BulkLoad {
 public:
  explicit MemoryBulkLoad(MemoryStore* store) : store_(store) {}

  absl::Status Add(ColumnFamily family, std::string_view key, std::string_view value) override {
    std::string& last = last_key_[static_cast<size_t>(family)];
    if (!last.empty() && key <= last) {
      return absl::InvalidArgumentError("bulk load: keys must ascend");
    }
    last = key;
    batch_.Put(family, std::string(key), std::string(value));
    return absl::OkStatus();
  }

  absl::Status Commit() override { return store_->Write(batch_, Durability::kSynced); }

 private:
  MemoryStore* store_;
  Batch batch_;
  std::array<std::string, kColumnFamilyCount> last_key_;
};

absl::StatusOr<std::unique_ptr<BulkLoad>> MemoryStore::NewBulkLoad() {
  return std::make_unique<MemoryBulkLoad>(this);
}

}  // namespace

std::unique_ptr<KeyValueStore> NewMemoryStore() { return std::make_unique<MemoryStore>(); }

}  // namespace lectern::storage
