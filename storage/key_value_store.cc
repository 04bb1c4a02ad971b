#include "storage/key_value_store.h"

namespace lectern::storage {

std::string_view ColumnFamilyName(ColumnFamily family) {
  switch (family) {
    case ColumnFamily::kCatalog:
      return "default";
    case ColumnFamily::kHash:
      return "hash";
    case ColumnFamily::kIndexKeys:
      return "index_keys";
    case ColumnFamily::kKv:
      return "kv";
    case ColumnFamily::kDocument:
      return "document";
  }
  return "unknown";
}

void Batch::Put(ColumnFamily family, std::string key, std::string value) {
  bytes_ += key.size() + value.size();
  operations_.push_back({Kind::kPut, family, std::move(key), std::move(value)});
}

void Batch::Delete(ColumnFamily family, std::string key) {
  bytes_ += key.size();
  operations_.push_back({Kind::kDelete, family, std::move(key), {}});
}

void Batch::DeleteRange(ColumnFamily family, std::string begin, std::string end) {
  bytes_ += begin.size() + end.size();
  operations_.push_back({Kind::kDeleteRange, family, std::move(begin), std::move(end)});
}

}  // namespace lectern::storage
