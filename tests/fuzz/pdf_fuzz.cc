// PDF to the text of its pages.
#include "engine/text/pdf_text.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::engine;  // NOLINT: the target's subject
  const auto pages = ReadPdfPagesHere(AsText(data, size));
  if (!pages.ok()) return 0;
  for (const std::string& page : *pages) {
    FUZZ_CHECK(FirstInvalidUtf8(page) == std::string_view::npos);
  }
  return 0;
}
