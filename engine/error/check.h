// LECTERN_CHECK: our own bug ends the process loudly, in every build. Never for what the world can
// cause: that is a Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define LECTERN_CHECK(condition)                                                         \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
