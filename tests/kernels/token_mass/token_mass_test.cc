#include "kernels/token_mass/token_mass.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

TEST(TokenMass, MatchesFp64AndIgnoresSlotsThatAreNotThere) {
  for (int dim : {16, 64, 128}) {
    for (int tokens : {0, 1, 7, 127, 128}) {
      for (int heads : {1, 4}) {
        const auto q = testing::NormalBf16s(heads * (dim + 3), 1);
        testing::Bf16s tile = testing::Poison(TileElements(dim));
        const auto keys = testing::NormalBf16s(kBlockTokens * dim, 2);
        PackKeys({0, tokens, dim}, keys.data(), dim, tile.data());
        testing::Floats lse(static_cast<size_t>(heads), 3.0f);
        lse.back() = heads > 1 ? -std::numeric_limits<float>::infinity() : 3.0f;
        testing::Floats want(kBlockTokens, 0.25f), got = want;
        const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
        TokenMassReference(
            {q.data(), dim + 3, heads, dim, tile.data(), tokens, scale, lse.data(), want.data()});
        TokenMass(
            {q.data(), dim + 3, heads, dim, tile.data(), tokens, scale, lse.data(), got.data()});
        for (int t = 0; t < kBlockTokens; ++t) {
          const size_t i = static_cast<size_t>(t);
          ASSERT_NEAR(want[i], got[i], 1e-5 * (1 + std::abs(want[i]))) << dim << " " << tokens;
          if (t >= tokens) {
            ASSERT_EQ(got[i], 0.25f);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lectern::kernels
