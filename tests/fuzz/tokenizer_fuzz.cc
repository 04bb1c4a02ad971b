// tokenizer.json, and a text through whatever loads.
#include "engine/text/tokenizer.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::engine;  // NOLINT: the target's subject
  const auto tokenizer = Tokenizer::Load(AsText(data, size));
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {"", " The 12 quick foxes'll\n\n jump <q> \xc3\xa9\xe2\x82\xac."}) {
    (*tokenizer)->EncodeIds(text).status().IgnoreError();
  }
  return 0;
}
