#include "kernels/rope/rope_table.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

TEST(RopeTable, IsTheDefinitionUpToAMillionPositions) {
  std::vector<int32_t> positions = {0, 1, 127, 128, 131071, (1 << 20) - 1, 1 << 20};
  for (int i = 0; i < 60; ++i) positions.push_back(i * 17476);
  for (int rotary : {2, 32, 64, 128}) {
    for (double theta : {10000.0, 5e6}) {
      const size_t pairs = static_cast<size_t>(rotary / 2);
      testing::Floats cos(positions.size() * pairs), sin = cos;
      FillRopeTable({positions.data(), static_cast<int64_t>(positions.size()), rotary, theta,
                     cos.data(), sin.data()});
      for (size_t r = 0; r < positions.size(); ++r) {
        for (size_t i = 0; i < pairs; ++i) {
          // Independent: long double, and the power as exp of a logarithm.
          const long double angle = positions[r] * expl(-2.0L * i / rotary * logl(theta));
          ASSERT_NEAR(cos[r * pairs + i], static_cast<double>(cosl(angle)), 7e-8);
          ASSERT_NEAR(sin[r * pairs + i], static_cast<double>(sinl(angle)), 7e-8);
        }
      }
    }
  }
}

}  // namespace
}  // namespace lectern::kernels
