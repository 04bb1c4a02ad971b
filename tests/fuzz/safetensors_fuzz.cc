// A model's files: safetensors, whose views must lie inside of the file, and config.json.
#include "engine/model/config.h"
#include "engine/model/safetensors.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lectern::engine;  // NOLINT: the target's subject
  std::string_view input = AsText(data, size);
  if (TakeChoice(&input, 2) == 1) {
    ParseModelConfig(input).status().IgnoreError();
    return 0;
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(input));
  const auto tensors = SafetensorsFile::ParseTensors(bytes, "model.safetensors");
  if (!tensors.ok()) return 0;
  for (const TensorView& tensor : *tensors) {
    const auto* begin = reinterpret_cast<const std::byte*>(tensor.bytes.data());
    FUZZ_CHECK(tensor.bytes.empty() || (begin >= bytes.data() && begin + tensor.bytes.size() <=
                                                                     bytes.data() + bytes.size()));
    tensor.Describe();
  }
  return 0;
}
