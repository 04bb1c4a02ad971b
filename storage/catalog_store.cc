#include "storage/catalog_store.h"

#include <algorithm>
#include <charconv>

#include <xxhash.h>

namespace lectern::storage {
namespace {

constexpr size_t kTokenDigits = 16;

std::string TokenText(KeySpace list, uint64_t parent, uint64_t order) {
  const std::string key = ChildKey(list, parent, order);
  return fmt::format("{:016x}{:016x}", order, XXH3_64bits(key.data(), key.size()));
}

}  // namespace

std::string PageToken(KeySpace list, uint64_t parent, uint64_t order) {
  return TokenText(list, parent, order);
}

absl::StatusOr<uint64_t> ParsePageToken(KeySpace list, uint64_t parent, std::string_view token) {
  uint64_t order = 0;
  const std::string_view digits = token.substr(0, kTokenDigits);
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), order, 16);
  if (parsed.ec != std::errc() || token != TokenText(list, parent, order)) {
    return absl::InvalidArgumentError(
        "page_token is not one that this list returned: pass next_page_token of the page before, "
        "unchanged");
  }
  return order;
}

absl::StatusOr<uint64_t> PageStart(KeySpace list, uint64_t parent, const PageRequest& page) {
  if (page.token.empty()) return 0;
  absl::StatusOr<uint64_t> last = ParsePageToken(list, parent, page.token);
  if (!last.ok()) return last.status();
  return *last + 1;
}

uint32_t PageSize(const PageRequest& page) {
  return page.size == 0 ? kDefaultPageSize : std::min(page.size, kMaxPageSize);
}

std::set<uint64_t> LineagesOf(std::span<const Segment> segments, uint64_t own) {
  std::set<uint64_t> lineages;
  for (const Segment& segment : segments) lineages.insert(segment.lineage);
  if (own != 0) lineages.insert(own);
  return lineages;
}

std::vector<Segment> FirstBlocks(std::span<const Segment> segments, uint32_t end) {
  std::vector<Segment> first;
  for (const Segment& segment : segments) {
    if (segment.first_block >= end) break;
    first.push_back(segment);
    first.back().block_count = std::min(segment.end_block(), end) - segment.first_block;
  }
  return first;
}

absl::Status CatalogStore::CheckFree(KeySpace names, uint64_t parent, std::string_view id,
                                     std::string_view what) const {
  if (id.empty() || id.size() > kMaxIdBytes) {
    return absl::InvalidArgumentError(
        fmt::format("the id of a {} has 1 to {} bytes, not {}", what, kMaxIdBytes, id.size()));
  }
  PinnedValue value;
  const absl::Status status =
      store().Get(ColumnFamily::kCatalog, NameKey(names, parent, id), &value);
  if (absl::IsNotFound(status)) return absl::OkStatus();
  if (!status.ok()) return status;
  return absl::AlreadyExistsError(fmt::format("{} \"{}\" already exists", what, id));
}

absl::StatusOr<std::vector<uint64_t>> CatalogStore::Children(KeySpace list, uint64_t parent) const {
  std::vector<uint64_t> uids;
  const std::string prefix = ObjectKey(list, parent);
  auto cursor = store().NewCursor(ColumnFamily::kCatalog, prefix, PrefixEnd(prefix));
  for (; cursor->Valid(); cursor->Next()) {
    absl::StatusOr<Link> link = ParseRecord<Link>(cursor->key(), cursor->value());
    if (!link.ok()) return link.status();
    uids.push_back(link->uid);
  }
  if (!cursor->status().ok()) return cursor->status();
  return uids;
}

}  // namespace lectern::storage
