#include "kernels/matmul/matmul.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/isa/isa.h"
#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

// |sum of products| errors: fp32 accumulation of k terms of size one.
double Tolerance(int64_t k) { return 4e-7 * static_cast<double>(k) + 1e-6; }

TEST(MatmulTiles, MatchesFp64InBothModes) {
  struct Case {
    int64_t n, k, tiles;
  };
  for (const Case& c : {Case{1, 2, 1}, Case{3, 64, 2}, Case{257, 62, 1}, Case{300, 512, 1},
                        Case{300, 130, 3}, Case{20, 1408, 2}}) {
    for (MatmulStore store : {MatmulStore::kOverwrite, MatmulStore::kAdd}) {
      const Bf16s w = testing::NormalBf16s(c.n * c.k, 1),
                  x = testing::NormalBf16s(c.tiles * 128 * c.k, 2);
      const PackedMatrix packed(w.data(), c.n, c.k);
      const int64_t stride = c.n + 3;
      Floats want = testing::NormalFloats(c.tiles * 128 * stride, 3), got = want;
      MatmulTilesReference(packed, {x.data(), want.data(), stride, c.tiles, store});
      MatmulTiles(packed, {x.data(), got.data(), stride, c.tiles, store});
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(want[i], got[i], Tolerance(c.k)) << c.n << " " << c.k << " at " << i;
      }
    }
  }
}

TEST(MatmulTiles, ARowDependsOnNothingButItself) {
  for (int64_t n : {64, 320, 1000}) {
    const int64_t k = 512, tiles = 5;
    const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(tiles * 128 * k, 2);
    const PackedMatrix packed(w.data(), n, k);
    Floats all(static_cast<size_t>(tiles * 128 * n));
    {
      const testing::Threads two(2);
      MatmulTiles(packed, {x.data(), all.data(), n, tiles});
    }
    for (int threads : {1, 2}) {
      const testing::Threads set(threads);
      for (int64_t tile = 0; tile < tiles; tile += 2) {
        // Alone, with every row but a few zero, as a chunk of few tokens leaves them.
        Bf16s sparse(static_cast<size_t>(128 * k), Bf16{0});
        for (int64_t r : {0, 7, 63, 127}) {
          std::copy_n(x.begin() + (tile * 128 + r) * k, k, sparse.begin() + r * k);
        }
        Floats alone(static_cast<size_t>(128 * n));
        MatmulTiles(packed, {sparse.data(), alone.data(), n, 1});
        for (int64_t r : {0, 7, 63, 127}) {
          ASSERT_EQ(std::memcmp(&alone[static_cast<size_t>(r * n)],
                                &all[static_cast<size_t>((tile * 128 + r) * n)],
                                static_cast<size_t>(n) * sizeof(float)),
                    0)
              << n << " tile " << tile << " row " << r << " threads " << threads;
        }
      }
    }
  }
}

TEST(MatmulTiles, SegmentsEqualOneMatrix) {
  const int64_t k = 64, n = 600;
  const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(128 * k, 2);
  const PackedMatrix whole(w.data(), n, k);
  const WeightRows parts[] = {{w.data(), 250}, {w.data() + 250 * k, 20}, {w.data() + 270 * k, 330}};
  const PackedMatrix fused(parts, k);
  EXPECT_EQ(fused.n(), n);
  Floats a(static_cast<size_t>(128 * n)), b = a;
  MatmulTiles(whole, {x.data(), a.data(), n, 1});
  MatmulTiles(fused, {x.data(), b.data(), n, 1});
  EXPECT_TRUE(testing::SameBits(a, b));
  Floats c(static_cast<size_t>(3 * n)), d = c;
  MatVec(whole, {x.data(), k, c.data(), n, 3});
  MatVec(fused, {x.data(), k, d.data(), n, 3});
  EXPECT_TRUE(testing::SameBits(c, d));
}

TEST(MatVec, MatchesFp64InBothModes) {
  for (int64_t k : {2, 30, 32, 34, 64, 98, 512, 1408}) {
    for (int64_t n : {1, 7, 8, 33, 512}) {
      for (int64_t rows : {1, 2, 3, 7}) {
        const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(rows * (k + 2), 2);
        const PackedMatrix packed(w.data(), n, k);
        for (MatmulStore store : {MatmulStore::kOverwrite, MatmulStore::kAdd}) {
          Floats want = testing::NormalFloats(rows * (n + 1), 3), got = want;
          MatVecReference(packed, {x.data(), k + 2, want.data(), n + 1, rows, store});
          MatVec(packed, {x.data(), k + 2, got.data(), n + 1, rows, store});
          for (size_t i = 0; i < got.size(); ++i) {
            ASSERT_NEAR(want[i], got[i], Tolerance(k)) << n << " " << k << " " << rows;
          }
        }
      }
    }
  }
}

TEST(MatVec, ARowDependsOnNothingButItself) {
  const int64_t n = 1027, k = 514, rows = 64;
  const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(rows * k, 2);
  const PackedMatrix packed(w.data(), n, k);
  Floats all(static_cast<size_t>(rows * n));
  {
    const testing::Threads two(2);
    MatVec(packed, {x.data(), k, all.data(), n, rows});
  }
  for (int threads : {1, 2}) {
    const testing::Threads set(threads);
    for (int64_t count : {1, 2, 3, 7}) {
      Floats some(static_cast<size_t>(count * n));
      MatVec(packed, {x.data() + 5 * k, k, some.data(), n, count});
      EXPECT_EQ(
          std::memcmp(some.data(), &all[static_cast<size_t>(5 * n)], some.size() * sizeof(float)),
          0)
          << count << " " << threads;
    }
  }
}

TEST(Matmul, PathFollowsTheProcessorAndTheEnvironment) {
  const std::string provenance = KernelProvenance();
  EXPECT_NE(provenance.find(IsaName(CurrentIsa())), std::string::npos) << provenance;
  EXPECT_NE(provenance.find(MatmulPathName()), std::string::npos) << provenance;
  EXPECT_EQ(MatmulUsesBf16(), provenance.find("/bf16/") != std::string::npos);
  const char* cap = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (CurrentIsa() < Isa::kAvx512Bf16 || (cap != nullptr && std::string(cap) == "AVX2")) {
    EXPECT_FALSE(MatmulUsesBf16()) << provenance;
  }
}

}  // namespace
}  // namespace lectern::kernels
