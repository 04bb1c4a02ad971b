#include "kernels/bf16/bf16.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(ToBf16(FromBits(0x3f808000)).bits, 0x3f80);  // tie, even below
  EXPECT_EQ(ToBf16(FromBits(0x3f818000)).bits, 0x3f82);  // tie, even above
  EXPECT_EQ(ToBf16(FromBits(0x3f808001)).bits, 0x3f81);
  EXPECT_EQ(ToBf16(FromBits(0x7f7fffff)).bits, 0x7f80);  // largest float overflows
  EXPECT_EQ(ToBf16(FromBits(0x80000001)).bits, 0x8000);
  EXPECT_EQ(ToBf16(FromBits(0x00018000)).bits, 0x0002);  // denormals are kept
  EXPECT_TRUE(std::isnan(ToFloat(ToBf16(FromBits(0x7f800001)))));
}

TEST(Bf16, EveryNumberSurvivesTheRoundTrip) {
  Bf16s all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
  Floats wide(all.size());
  ConvertToFloat(all.data(), static_cast<int64_t>(all.size()), wide.data());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(wide[i]), static_cast<uint32_t>(i) << 16);
    if (!std::isnan(wide[i])) {
      EXPECT_EQ(ToBf16(wide[i]), all[i]);
    }
  }
}

TEST(Bf16, RowsMatchTheReferenceBitForBitOnHardNumbers) {
  std::mt19937_64 random(7);
  for (int64_t cols : {1, 2, 7, 15, 16, 17, 31, 33, 64, 129}) {
    const int64_t rows = 300, x_stride = cols + 3, y_stride = cols + 1;
    Floats x(static_cast<size_t>(rows * x_stride));
    // Every kind of bit pattern: NaN, infinities, denormals and exact ties among them.
    for (float& v : x) {
      uint32_t bits = static_cast<uint32_t>(random());
      if (random() % 4 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
      if (random() % 8 == 0) bits |= 0x7f800000u;
      if (random() % 8 == 0) bits &= 0x807fffffu;
      v = FromBits(bits);
    }
    Bf16s want(static_cast<size_t>(rows * y_stride), Bf16{0x1234}), got = want;
    ConvertRowsToBf16Reference({x.data(), x_stride, want.data(), y_stride, rows, cols});
    ConvertRowsToBf16({x.data(), x_stride, got.data(), y_stride, rows, cols});
    EXPECT_TRUE(testing::SameBits(want, got)) << cols;
  }
}

}  // namespace
}  // namespace lectern::kernels
