#include "services/process/byte_size.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace lectern::services {
namespace {

struct Unit {
  absl::string_view name;
  int64_t bytes;
};

// Largest first within a family: what AbslUnparseFlag tries.
constexpr Unit kUnits[] = {{"TiB", int64_t{1} << 40},
                           {"GiB", int64_t{1} << 30},
                           {"MiB", int64_t{1} << 20},
                           {"KiB", int64_t{1} << 10},
                           {"TB", 1'000'000'000'000},
                           {"GB", 1'000'000'000},
                           {"MB", 1'000'000},
                           {"kB", 1'000},
                           {"B", 1},
                           {"", 1}};
constexpr double kLargest = 9e18;

}  // namespace

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error) {
  const auto* end = std::find_if(text.begin(), text.end(),
                                 [](unsigned char c) { return c != '.' && !std::isdigit(c); });
  const absl::string_view number = text.substr(0, end - text.begin());
  const absl::string_view unit_name = text.substr(number.size());
  double value = 0;
  for (const Unit& unit : kUnits) {
    if (unit.name != unit_name) continue;
    if (!absl::SimpleAtod(number, &value) || value * static_cast<double>(unit.bytes) > kLargest) {
      break;
    }
    size->bytes = std::llround(value * static_cast<double>(unit.bytes));
    return true;
  }
  *error = "must be a number of bytes like 1048576, 512MiB or 2GiB";
  return false;
}

std::string AbslUnparseFlag(ByteSize size) {
  for (const Unit& unit : kUnits) {
    if (size.bytes >= unit.bytes && size.bytes % unit.bytes == 0) {
      return fmt::format("{}{}", size.bytes / unit.bytes, std::string(unit.name));
    }
  }
  return fmt::format("{}", size.bytes);
}

}  // namespace lectern::services
