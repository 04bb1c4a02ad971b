// Keys files, and what callers send as keys. What parses must come back.
#include "services/security/api_key.h"
#include "services/security/keys_file.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::services;  // NOLINT: the target's subject
  const std::string_view input = AsText(data, size);
  if (const auto id = KeyIdOf(input)) FUZZ_CHECK(id->size() == 16);
  const auto keys = ParseKeys(input);
  if (keys.ok()) FUZZ_CHECK(ParseKeys(FormatKeys(*keys)).ok());
  return 0;
}
