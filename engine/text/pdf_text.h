// application/pdf -> the text of its pages.
#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

// UTF-8 text of each page, in reading order as poppler finds it; a page without text is "". Errors,
// INVALID_ARGUMENT: PDF_ENCRYPTED (needs a password), PDF_BROKEN (not a PDF, damaged beyond
// reading, no pages, over 2 GiB).
absl::StatusOr<std::vector<std::string>> ReadPdfPages(std::string_view pdf);

}  // namespace lectern::engine
