#include "kernels/head_norm_rope/head_norm_rope.h"

#include <gtest/gtest.h>

#include "kernels/rope/rope_table.h"
#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

struct Shape {
  int heads, dim, rotary;
  bool norm;
  NormGain gain;
};

constexpr Shape kShapes[] = {
    {8, 64, 64, true, NormGain::kPlain},   {2, 64, 32, true, NormGain::kGemma},
    {64, 128, 64, true, NormGain::kGemma}, {1, 64, 64, false, NormGain::kPlain},
    {3, 16, 0, true, NormGain::kPlain},    {2, 80, 20, true, NormGain::kPlain},
    {1, 2, 2, true, NormGain::kPlain},     {4, 256, 256, true, NormGain::kPlain},
    {5, 48, 6, false, NormGain::kPlain},
};

struct Tables {
  Floats cos, sin;
};

Tables TablesFor(int64_t rows, int rotary, int32_t first) {
  Tables t{Floats(static_cast<size_t>(rows * rotary / 2 + 1)), {}};
  t.sin = t.cos;
  if (rotary == 0) return t;
  std::vector<int32_t> positions;
  for (int64_t r = 0; r < rows; ++r) positions.push_back(first + static_cast<int32_t>(r));
  FillRopeTable({positions.data(), rows, rotary, 10000.0, t.cos.data(), t.sin.data()});
  return t;
}

TEST(HeadNormRope, MatchesFp64) {
  for (const Shape& s : kShapes) {
    const int64_t rows = 7, width = s.heads * s.dim, stride = width + 4;
    const Floats x = testing::NormalFloats(rows * stride, 1, 3),
                 w = testing::NormalFloats(s.dim, 2);
    const Tables t = TablesFor(rows, s.rotary, 100000);
    Floats want(static_cast<size_t>(rows * stride), 9), got = want;
    Bf16s rounded(want.size());
    HeadNormRopeParams p{x.data(),     stride,       s.norm ? w.data() : nullptr,
                         t.cos.data(), t.sin.data(), nullptr,
                         want.data(),  stride,       rows,
                         s.heads,      s.dim,        s.rotary,
                         1e-6f,        s.gain};
    HeadNormRopeReference(p);
    p.y_f32 = got.data();
    HeadNormRope(p);
    p.y = rounded.data();
    p.y_f32 = nullptr;
    HeadNormRope(p);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(want[i], got[i], 4e-6 * (1 + std::abs(want[i]))) << s.dim << " " << s.rotary;
      if (static_cast<int64_t>(i) % stride < width) {
        ASSERT_EQ(rounded[i], ToBf16(got[i]));
      }
    }
  }
}

TEST(HeadNormRope, InPlaceAndAnyCompanyGiveTheSameBits) {
  for (const Shape& s : kShapes) {
    const int64_t rows = 70, width = s.heads * s.dim;
    const Floats x = testing::NormalFloats(rows * width, 5), w = testing::NormalFloats(s.dim, 6);
    const Tables t = TablesFor(rows, s.rotary, 5);
    Floats apart(x.size()), in_place = x;
    const testing::Threads two(2);
    HeadNormRope({x.data(), width, s.norm ? w.data() : nullptr, t.cos.data(), t.sin.data(), nullptr,
                  apart.data(), width, rows, s.heads, s.dim, s.rotary, 1e-6f, s.gain});
    for (int64_t r = 0; r < rows; ++r) {
      float* row = in_place.data() + r * width;
      HeadNormRope({row, width, s.norm ? w.data() : nullptr, t.cos.data() + r * s.rotary / 2,
                    t.sin.data() + r * s.rotary / 2, nullptr, row, width, 1, s.heads, s.dim,
                    s.rotary, 1e-6f, s.gain});
    }
    ASSERT_TRUE(testing::SameBits(apart, in_place)) << s.dim << " " << s.rotary;
  }
}

}  // namespace
}  // namespace lectern::kernels
