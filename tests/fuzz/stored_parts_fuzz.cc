// What the engine stores beside blocks: source maps and layout parts. What parses must come back.
#include "engine/text/prompt_layout.h"
#include "engine/text/source_map.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::engine;  // NOLINT: the target's subject
  std::string_view input = AsText(data, size);
  if (TakeChoice(&input, 2) == 0) {
    const absl::StatusOr<SourceMap> map = SourceMap::Parse(input);
    if (map.ok()) FUZZ_CHECK(SourceMap::Parse(map->Serialize()).ok());
  } else {
    const absl::StatusOr<LayoutPart> part = LayoutPart::Parse(input);
    if (part.ok()) FUZZ_CHECK(LayoutPart::Parse(part->Serialize()).ok());
  }
  return 0;
}
