// What targets share: the input as text, and a condition that must hold whatever it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#define FUZZ_CHECK(condition)                                                            \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Takes the first byte as a number below `count`; 0 of an empty input.
inline size_t TakeChoice(std::string_view* input, size_t count) {
  if (input->empty()) return 0;
  const size_t choice = static_cast<uint8_t>(input->front()) % count;
  input->remove_prefix(1);
  return choice;
}
