// Text, Markdown and HTML to text. The first byte chooses. The text must be valid UTF-8, and its
// map must lead every byte of it into the document.
#include "engine/text/extractor.h"
#include "engine/text/utf8.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::engine;  // NOLINT: the target's subject
  std::string_view input = AsText(data, size);
  constexpr std::string_view kTypes[] = {"text/plain", "text/markdown", "text/html", ""};
  const std::string_view type = kTypes[TakeChoice(&input, std::size(kTypes))];
  if (type.empty() && input.starts_with("%PDF")) return 0;  // pdf_fuzz's
  const auto text = ExtractText(input, {.media_type = type, .name = "document"});
  if (!text.ok()) return 0;
  FUZZ_CHECK(!text->text.empty());
  FUZZ_CHECK(FirstInvalidUtf8(text->text) == std::string_view::npos);
  FUZZ_CHECK(SourceMap::Parse(text->map.Serialize()).ok());
  return 0;
}
