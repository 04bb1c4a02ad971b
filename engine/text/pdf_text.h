// application/pdf -> the text of its pages.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::engine {

// What reading one PDF may take.
struct PdfLimits {
  uint64_t memory_bytes = uint64_t{1} << 30;  // of address space, beyond what was mapped before
  int seconds = 120;                          // of computing
  uint64_t text_bytes = uint64_t{256} << 20;
};

// UTF-8 text of each page, in reading order as poppler finds it; a page without text is "". Read in
// a child process with limits, one at a time. Errors, INVALID_ARGUMENT: PDF_ENCRYPTED (needs a
// password), PDF_BROKEN (not a PDF, damaged beyond reading, no pages, over 2 GiB), PDF_TOO_COMPLEX
// (beyond a limit); RESOURCE_EXHAUSTED PROCESS_LIMIT (no child can be made).
absl::StatusOr<std::vector<std::string>> ReadPdfPages(std::string_view pdf,
                                                      const PdfLimits& limits = {});

// The same in this process and without limits: for the child, and for fuzzing.
absl::StatusOr<std::vector<std::string>> ReadPdfPagesHere(std::string_view pdf);

}  // namespace lectern::engine
