#include "engine/storage_page.h"

#include <fmt/format.h>

#include "engine/error/error.h"
#include "engine/names.h"

namespace lectern::engine {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

}  // namespace

absl::StatusOr<storage::PageRequest> StoragePage(const PageRequest& page) {
  if (page.page_size < 0 || page.page_size > kMaxPageSize) {
    return InvalidArgument(
        "ARGUMENT_OUT_OF_RANGE",
        fmt::format("page_size is {}: it may be 0 to {}", page.page_size, kMaxPageSize),
        {{"field", "page_size"}, {"limit", fmt::to_string(kMaxPageSize)}});
  }
  return storage::PageRequest{
      .size = static_cast<uint32_t>(page.page_size == 0 ? kDefaultPageSize : page.page_size),
      .token = page.page_token};
}

absl::Status PageError(const absl::Status& status) {
  if (absl::IsInvalidArgument(status)) {
    return InvalidArgument(
        "BAD_PAGE_TOKEN",
        "the page token is not one that this list gave: start from the first page");
  }
  return WithReason(status);
}

}  // namespace lectern::engine
