// A flag for a number of bytes: "1048576", "512MiB", "2GiB", "1.5GB".
#pragma once

#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>

namespace lectern::services {

struct ByteSize {
  int64_t bytes = 0;
};

// Units: B, KiB, MiB, GiB, TiB (powers of 1024) and kB, MB, GB, TB (powers of 1000); none means B.
bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error);
std::string AbslUnparseFlag(ByteSize size);

}  // namespace lectern::services
