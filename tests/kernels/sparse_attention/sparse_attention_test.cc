#include "kernels/sparse_attention/sparse_attention.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

// One KV head of a context whose tokens are packed as far as they exist; unused slots hold poison.
struct Cache {
  int tokens, dim;
  std::vector<Bf16s> k, v;

  Cache(int tokens, int dim, const Bf16s& keys, const Bf16s& values) : tokens(tokens), dim(dim) {
    for (int first = 0; first < tokens; first += kBlockTokens) {
      const TileRun run{0, std::min(kBlockTokens, tokens - first), dim};
      k.push_back(testing::Poison(TileElements(dim)));
      v.push_back(testing::Poison(TileElements(dim)));
      PackKeys(run, keys.data() + int64_t{first} * dim, dim, k.back().data());
      PackValues(run, values.data() + int64_t{first} * dim, dim, v.back().data());
    }
  }
  Cache(int tokens, int dim, uint64_t seed, float scale = 1)
      : Cache(tokens, dim, testing::NormalBf16s(int64_t{tokens} * dim, seed, scale),
              testing::NormalBf16s(int64_t{tokens} * dim, seed + 1)) {}
};

// Which blocks each row chose.
using Choice = std::vector<std::vector<int>>;

// Some blocks of each row, its own always among them.
Choice SomeBlocks(const std::vector<int32_t>& positions, int most, uint64_t seed) {
  std::mt19937_64 random(seed);
  Choice choice;
  for (int32_t p : positions) {
    const int own = p / kBlockTokens;
    std::vector<int> blocks;
    for (int b = 0; b < own; ++b) blocks.push_back(b);
    std::shuffle(blocks.begin(), blocks.end(), random);
    blocks.resize(std::min<size_t>(blocks.size(), static_cast<size_t>(most - 1)));
    blocks.push_back(own);
    std::sort(blocks.begin(), blocks.end());
    choice.push_back(blocks);
  }
  return choice;
}

Choice AllBlocks(const std::vector<int32_t>& positions) {
  return SomeBlocks(positions, 1 << 20, 1);
}

struct Results {
  Floats out, lse, block_lse;
};

// A tile over `cache`: rows `positions` with q [rows][heads][dim].
struct Problem {
  AttentionShape shape;
  const Cache* cache;
  const Bf16* q;
  std::vector<int32_t> positions;
  Choice choice;

  // The tile's blocks as CSR; rows and lse entries live in the vectors beside it.
  struct Lists {
    std::vector<std::vector<int32_t>> rows;
    std::vector<Floats> block_lse;
    std::vector<AttentionBlock> blocks;
  };
  Lists MakeLists() const {
    Lists lists;
    const int count = static_cast<int>(cache->k.size());
    lists.rows.resize(static_cast<size_t>(count));
    for (size_t r = 0; r < choice.size(); ++r) {
      for (int b : choice[r]) lists.rows[static_cast<size_t>(b)].push_back(static_cast<int32_t>(r));
    }
    lists.block_lse.resize(static_cast<size_t>(count));
    for (int b = 0; b < count; ++b) {
      const size_t i = static_cast<size_t>(b);
      lists.block_lse[i].assign(lists.rows[i].size() * static_cast<size_t>(shape.heads), 77);
      lists.blocks.push_back({b, cache->k[i].data(), cache->v[i].data(), lists.rows[i].data(),
                              static_cast<int32_t>(lists.rows[i].size()),
                              lists.block_lse[i].data()});
    }
    return lists;
  }

  AttentionTile Tile(Results& results) const {
    const size_t queries = positions.size() * static_cast<size_t>(shape.heads);
    results.out.assign(queries * static_cast<size_t>(shape.dim), 55);
    results.lse.assign(queries, 55);
    AttentionTile tile;
    tile.q = q;
    tile.q_row_stride = int64_t{shape.heads} * shape.dim;
    tile.q_head_stride = shape.dim;
    tile.positions = positions.data();
    tile.rows = static_cast<int32_t>(positions.size());
    tile.out_f32 = results.out.data();
    tile.out_row_stride = tile.q_row_stride;
    tile.out_head_stride = shape.dim;
    tile.lse = results.lse.data();
    return tile;
  }

  static void Collect(const Lists& lists, Results& results) {
    for (const Floats& f : lists.block_lse) {
      results.block_lse.insert(results.block_lse.end(), f.begin(), f.end());
    }
  }

  Results Reference() const {
    Results results;
    Lists lists = MakeLists();
    AttentionTile tile = Tile(results);
    tile.blocks = lists.blocks.data();
    tile.num_blocks = static_cast<int32_t>(lists.blocks.size());
    SparseAttentionReference(shape, tile);
    Collect(lists, results);
    return results;
  }

  // `step` blocks per call.
  Results Run(int step = 1 << 20) const {
    Results results;
    Lists lists = MakeLists();
    AttentionTile tile = Tile(results);
    Floats state(static_cast<size_t>(AttentionStateFloats(shape, tile.rows)));
    tile.state = state.data();
    BeginAttention(shape, &tile, 1);
    const int count = static_cast<int>(lists.blocks.size());
    for (int b = 0; b < count; b += step) {
      tile.blocks = lists.blocks.data() + b;
      tile.num_blocks = std::min(step, count - b);
      AccumulateAttention(shape, &tile, 1);
    }
    FinishAttention(shape, &tile, 1);
    Collect(lists, results);
    return results;
  }
};

AttentionShape Shape(int heads, int dim) {
  return {heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))};
}

void ExpectClose(const Results& want, const Results& got, double out_error, const char* what) {
  for (size_t i = 0; i < want.out.size(); ++i) {
    ASSERT_NEAR(want.out[i], got.out[i], out_error) << what << " out " << i;
  }
  for (size_t i = 0; i < want.lse.size(); ++i) {
    ASSERT_NEAR(want.lse[i], got.lse[i], 2e-5 * (1 + std::abs(want.lse[i])))
        << what << " lse " << i;
  }
  for (size_t i = 0; i < want.block_lse.size(); ++i) {
    ASSERT_NEAR(want.block_lse[i], got.block_lse[i], 2e-5 * (1 + std::abs(want.block_lse[i])))
        << what << " block " << i;
  }
}

// 2^-9 of each weight, against values of size up to about 4.5.
constexpr double kValueError = 4.5 / 512;

TEST(SparseAttention, MatchesFp64OnEveryShape) {
  for (int heads : {1, 3, 4, 5, 16}) {
    for (int dim : {16, 64, 80, 128, 256}) {
      for (int tokens : {1, 2, 127, 128, 129, 400}) {
        const Cache cache(tokens, dim, 1);
        Problem p{Shape(heads, dim), &cache, nullptr, {}, {}};
        for (int t = tokens - 1; t >= 0 && p.positions.size() < 7; t -= 1 + tokens / 7) {
          p.positions.push_back(t);
        }
        const Bf16s q =
            testing::NormalBf16s(static_cast<int64_t>(p.positions.size()) * heads * dim, 9);
        p.q = q.data();
        p.choice = SomeBlocks(p.positions, 4, 3);
        ExpectClose(p.Reference(), p.Run(), kValueError, "sparse");
        p.choice = AllBlocks(p.positions);
        ExpectClose(p.Reference(), p.Run(), kValueError, "dense");
      }
    }
  }
}

TEST(SparseAttention, MeanErrorIsThatOfOneBf16Rounding) {
  const Cache cache(128 * 16, 64, 1);
  Problem p{Shape(4, 64), &cache, nullptr, {2047, 2000, 1500}, {}};
  const Bf16s q = testing::NormalBf16s(3 * 4 * 64, 9);
  p.q = q.data();
  p.choice = AllBlocks(p.positions);
  const Results want = p.Reference(), got = p.Run();
  double error = 0, rounding = 0;
  for (size_t i = 0; i < want.out.size(); ++i) {
    error += std::abs(want.out[i] - got.out[i]);
    rounding += std::abs(want.out[i] - ToFloat(ToBf16(want.out[i])));
  }
  EXPECT_LT(error, 1.3 * rounding);
}

// A tile of 128 rows, 16 blocks each of 40: what prefill does.
struct Prefill {
  Cache cache{128 * 40 - 3, 64, 5};
  Bf16s q = testing::NormalBf16s(128 * 4 * 64, 6);
  Problem p{Shape(4, 64), &cache, q.data(), {}, {}};
  Prefill() {
    for (int r = 0; r < 125; ++r) p.positions.push_back(128 * 39 + r);
    p.choice = SomeBlocks(p.positions, 16, 7);
  }
};

TEST(SparseAttention, BitsDoNotDependOnCallsOrThreads) {
  const Prefill prefill;
  Results all;
  {
    const testing::Threads one(1);
    all = prefill.p.Run();
  }
  for (int threads : {1, 2, 7}) {
    const testing::Threads set(threads);
    for (int step : {1, 3, 40}) {
      const Results got = prefill.p.Run(step);
      EXPECT_TRUE(testing::SameBits(all.out, got.out)) << threads << " " << step;
      EXPECT_TRUE(testing::SameBits(all.lse, got.lse)) << threads << " " << step;
      EXPECT_TRUE(testing::SameBits(all.block_lse, got.block_lse)) << threads << " " << step;
    }
  }
}

TEST(SparseAttention, ARowAloneOrBeforeItsSuccessorsExistHasTheSameBits) {
  for (int heads : {1, 3, 4, 8}) {
    const int dim = 64, tokens = 128 * 6 + 100;
    const Bf16s keys = testing::NormalBf16s(tokens * dim, 1),
                values = testing::NormalBf16s(tokens * dim, 2);
    const Cache cache(tokens, dim, keys, values);
    Problem all{Shape(heads, dim), &cache, nullptr, {}, {}};
    for (int r = 0; r < 100; ++r) all.positions.push_back(128 * 6 + r);
    const Bf16s q = testing::NormalBf16s(100 * heads * dim, 3);
    all.q = q.data();
    all.choice = SomeBlocks(all.positions, 5, 4);
    const Results together = all.Run();
    const int64_t width = int64_t{heads} * dim;
    for (int threads : {1, 2, 4}) {
      const testing::Threads set(threads);
      for (int r : {0, 1, 2, 31, 64, 99}) {
        // The cache as it was when the row was the newest: poison behind it.
        const Cache then(128 * 6 + r + 1, dim, keys, values);
        const Problem one{all.shape,
                          &then,
                          q.data() + r * width,
                          {128 * 6 + r},
                          {all.choice[static_cast<size_t>(r)]}};
        const Results alone = one.Run();
        EXPECT_EQ(std::memcmp(alone.out.data(), &together.out[static_cast<size_t>(r * width)],
                              alone.out.size() * sizeof(float)),
                  0)
            << heads << " heads, row " << r << ", threads " << threads;
        EXPECT_EQ(std::memcmp(alone.lse.data(), &together.lse[static_cast<size_t>(r * heads)],
                              alone.lse.size() * sizeof(float)),
                  0);
      }
    }
  }
}

TEST(SparseAttention, ManyTilesAtOnceEqualEachAlone) {
  const Prefill prefill;
  const Results want = prefill.p.Run();
  const AttentionShape& shape = prefill.p.shape;
  std::vector<Results> results(5);
  std::vector<Floats> states;
  std::vector<AttentionTile> tiles;
  Problem::Lists lists = prefill.p.MakeLists();
  for (Results& r : results) {
    tiles.push_back(prefill.p.Tile(r));
    states.emplace_back(static_cast<size_t>(AttentionStateFloats(shape, tiles.back().rows)));
    tiles.back().blocks = lists.blocks.data();
    tiles.back().num_blocks = static_cast<int32_t>(lists.blocks.size());
  }
  for (AttentionBlock& b : lists.blocks) b.block_lse = nullptr;
  for (size_t i = 0; i < tiles.size(); ++i) tiles[i].state = states[i].data();
  BeginAttention(shape, tiles.data(), 5);
  AccumulateAttention(shape, tiles.data(), 5);
  FinishAttention(shape, tiles.data(), 5);
  for (const Results& r : results) EXPECT_TRUE(testing::SameBits(want.out, r.out));
}

TEST(SparseAttention, Bf16OutputIsTheRoundedFp32OutputAtAnyStride) {
  const Cache cache(300, 64, 1);
  Problem p{Shape(2, 64), &cache, nullptr, {299, 10}, {}};
  const Bf16s q = testing::NormalBf16s(2 * 2 * 64, 2);
  p.q = q.data();
  p.choice = AllBlocks(p.positions);
  const Results want = p.Run();
  Results unused;
  Problem::Lists lists = p.MakeLists();
  AttentionTile tile = p.Tile(unused);
  Floats state(static_cast<size_t>(AttentionStateFloats(p.shape, 2)));
  Bf16s out(2000, Bf16{0x4242});
  tile.state = state.data();
  tile.blocks = lists.blocks.data();
  tile.num_blocks = 3;
  tile.out_f32 = nullptr;
  tile.out = out.data() + 3;
  tile.out_row_stride = 999;
  tile.out_head_stride = 70;
  tile.lse = nullptr;
  BeginAttention(p.shape, &tile, 1);
  AccumulateAttention(p.shape, &tile, 1);
  FinishAttention(p.shape, &tile, 1);
  size_t written = 0;
  for (int r = 0; r < 2; ++r) {
    for (int h = 0; h < 2; ++h) {
      for (int d = 0; d < 64; ++d, ++written) {
        EXPECT_EQ(out[static_cast<size_t>(3 + r * 999 + h * 70 + d)], ToBf16(want.out[written]));
      }
    }
  }
  EXPECT_EQ(std::count(out.begin(), out.end(), Bf16{0x4242}), 2000 - 256);
}

TEST(SparseAttention, HostileLogits) {
  const int dim = 16, tokens = 128 * 3 + 1;
  const auto check = [&](const char* name, float query, auto key) {
    Bf16s keys;
    for (int t = 0; t < tokens; ++t) {
      for (int d = 0; d < dim; ++d) keys.push_back(ToBf16(key(t)));
    }
    const Cache cache(tokens, dim, keys, testing::NormalBf16s(tokens * dim, 2));
    const Bf16s q(4 * dim, ToBf16(query));
    Problem p{Shape(2, dim), &cache, q.data(), {tokens - 1, 128}, {}};
    p.choice = AllBlocks(p.positions);
    ExpectClose(p.Reference(), p.Run(), kValueError, name);
  };
  check("all equal", 0.0f, [](int) { return 1.0f; });
  check("all negative", 1.0f, [](int t) { return -1.0f - static_cast<float>(t % 3); });
  check("rising by whole exponents", 4.0f, [](int t) { return static_cast<float>(t / 8); });
  check("falling", 4.0f, [](int t) { return static_cast<float>(-t / 8); });
  check("one far above", 1e4f, [](int t) { return t == 200 ? 1e4f : 1.0f; });
  check("very large everywhere", 1e18f, [](int t) { return t % 2 == 0 ? 1e18f : -1e18f; });
  check("denormal keys", 1.0f, [](int) { return 1e-40f; });
}

TEST(SparseAttention, ARowWithoutBlocksIsZero) {
  const Cache cache(128, 64, 1);
  const Bf16s q = testing::NormalBf16s(2 * 64, 2);
  const Problem p{Shape(1, 64), &cache, q.data(), {100, 127}, {{}, {0}}};
  const Results got = p.Run();
  for (size_t d = 0; d < 64; ++d) EXPECT_EQ(got.out[d], 0.0f);
  EXPECT_EQ(got.lse[0], -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isfinite(got.lse[1]));
}

TEST(SparseAttention, ANanOfOneRowStaysThere) {
  const Cache cache(256, 64, 1);
  Bf16s q = testing::NormalBf16s(4 * 64, 2);
  Problem p{Shape(1, 64), &cache, q.data(), {255, 254, 253, 252}, {}};
  p.choice = AllBlocks(p.positions);
  const Results clean = p.Run();
  q[64 + 5] = Bf16{0x7fc0};
  const Results dirty = p.Run();
  for (size_t i = 0; i < clean.out.size(); ++i) {
    if (i / 64 == 1) {
      EXPECT_TRUE(std::isnan(dirty.out[i]));
    } else {
      EXPECT_EQ(dirty.out[i], clean.out[i]);
    }
  }
}

}  // namespace
}  // namespace lectern::kernels
