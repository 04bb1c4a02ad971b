#include "storage/rocksdb_cursor.h"

#include "storage/rocksdb_status.h"

namespace lectern::storage {
namespace {

class RocksCursor final : public Cursor {
 public:
  RocksCursor(rocksdb::DB* db, const std::vector<rocksdb::ColumnFamilyHandle*>& layers,
              rocksdb::ReadOptions options, std::string_view begin, std::string_view end)
      : end_(end), upper_bound_(ToSlice(end_)) {
    options.iterate_upper_bound = &upper_bound_;
    for (rocksdb::ColumnFamilyHandle* layer : layers) {
      layers_.emplace_back(db->NewIterator(options, layer));
      layers_.back()->Seek(ToSlice(begin));
    }
    Choose();
  }

  bool Valid() const override { return current_ != nullptr; }
  void Next() override {
    const std::string key(ToView(current_->key()));
    for (const auto& layer : layers_) {
      if (layer->Valid() && ToView(layer->key()) == key) layer->Next();
    }
    Choose();
  }
  std::string_view key() const override { return ToView(current_->key()); }
  std::string_view value() const override { return ToView(current_->value()); }
  absl::Status status() const override {
    for (const auto& layer : layers_) {
      if (!layer->status().ok()) return ToStatus(layer->status(), "scan");
    }
    return absl::OkStatus();
  }

 private:
  // The smallest key; of equal ones, the earliest layer's. None after an error in any layer.
  void Choose() {
    current_ = nullptr;
    for (const auto& layer : layers_) {
      if (!layer->Valid()) {
        if (layer->status().ok()) continue;
        current_ = nullptr;
        return;
      }
      if (current_ == nullptr || ToView(layer->key()) < ToView(current_->key())) {
        current_ = layer.get();
      }
    }
  }

  std::string end_;
  rocksdb::Slice upper_bound_;
  std::vector<std::unique_ptr<rocksdb::Iterator>> layers_;
  rocksdb::Iterator* current_ = nullptr;
};

}  // namespace

std::unique_ptr<Cursor> NewRocksCursor(rocksdb::DB* db,
                                       const std::vector<rocksdb::ColumnFamilyHandle*>& layers,
                                       const rocksdb::ReadOptions& options, std::string_view begin,
                                       std::string_view end) {
  return std::make_unique<RocksCursor>(db, layers, options, begin, end);
}

}  // namespace lectern::storage
