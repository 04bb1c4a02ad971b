#include "kernels/block_tile/block_tile.h"

#include <gtest/gtest.h>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;

struct Layout {
  const char* name;
  void (*pack)(const TileRun&, const Bf16*, int64_t, Bf16*);
  void (*unpack)(const TileRun&, const Bf16*, Bf16*, int64_t);
  void (*pack_reference)(const TileRun&, const Bf16*, int64_t, Bf16*);
  void (*unpack_reference)(const TileRun&, const Bf16*, Bf16*, int64_t);
};

class BlockTile : public ::testing::TestWithParam<Layout> {};

constexpr TileRun kRuns[] = {{0, 128, 64}, {0, 128, 128}, {0, 1, 64},    {127, 1, 64},
                             {1, 1, 16},   {5, 7, 48},    {3, 125, 256}, {64, 33, 128},
                             {0, 0, 64},   {126, 2, 80},  {17, 16, 64},  {1, 127, 16}};

// All patterns of bits, NaN payloads included.
Bf16s AnyBits(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bf16s out(static_cast<size_t>(n));
  for (Bf16& x : out) x.bits = static_cast<uint16_t>(random());
  return out;
}

TEST_P(BlockTile, PacksAndUnpacksAsTheReferenceAndTouchesNothingElse) {
  const Layout& layout = GetParam();
  for (const TileRun& run : kRuns) {
    for (int64_t extra : {0, 1, 6}) {  // an odd stride leaves rows off 32-bit words
      const int64_t stride = run.dim + extra;
      const Bf16s rows = AnyBits(std::max(1, run.count) * stride, 1);
      const Bf16s before = AnyBits(TileElements(run.dim), 2);
      Bf16s want = before, got = before;
      layout.pack_reference(run, rows.data(), stride, want.data());
      layout.pack(run, rows.data(), stride, got.data());
      ASSERT_TRUE(testing::SameBits(want, got)) << run.first << " " << run.count << " " << run.dim;

      Bf16s back_want(rows.size(), Bf16{0x5555}), back_got = back_want;
      layout.unpack_reference(run, got.data(), back_want.data(), stride);
      layout.unpack(run, got.data(), back_got.data(), stride);
      ASSERT_TRUE(testing::SameBits(back_want, back_got));
      for (int t = 0; t < run.count; ++t) {
        for (int d = 0; d < run.dim; ++d) {
          const size_t at = static_cast<size_t>(t * stride + d);
          ASSERT_EQ(rows[at], back_got[at]);
        }
      }
    }
  }
}

TEST_P(BlockTile, TokenByTokenEqualsAllAtOnce) {
  const Layout& layout = GetParam();
  const int dim = 64;
  const Bf16s rows = AnyBits(kBlockTokens * dim, 3);
  Bf16s whole = AnyBits(TileElements(dim), 4), pieces = AnyBits(TileElements(dim), 5);
  layout.pack({0, kBlockTokens, dim}, rows.data(), dim, whole.data());
  for (int t = 0; t < kBlockTokens;) {
    const int n = std::min(1 + t % 7, kBlockTokens - t);
    layout.pack({t, n, dim}, rows.data() + t * dim, dim, pieces.data());
    t += n;
  }
  EXPECT_TRUE(testing::SameBits(whole, pieces));
}

INSTANTIATE_TEST_SUITE_P(Both, BlockTile,
                         ::testing::Values(Layout{"Keys", PackKeys, UnpackKeys, PackKeysReference,
                                                  UnpackKeysReference},
                                           Layout{"Values", PackValues, UnpackValues,
                                                  PackValuesReference, UnpackValuesReference}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace lectern::kernels
