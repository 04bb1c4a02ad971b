#include "kernels/index_select/index_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

// Index keys of one context as tiles, with poison behind the last token.
struct Context {
  int tokens, dim;
  std::vector<Bf16s> tiles;
  std::vector<const Bf16*> blocks;

  Context(const Bf16s& keys, int tokens, int dim) : tokens(tokens), dim(dim) {
    for (int first = 0; first < tokens; first += kBlockTokens) {
      tiles.push_back(testing::Poison(TileElements(dim)));
      PackKeys({0, std::min(kBlockTokens, tokens - first), dim}, keys.data() + int64_t{first} * dim,
               dim, tiles.back().data());
    }
    for (const Bf16s& tile : tiles) blocks.push_back(tile.data());
  }
};

struct Answer {
  std::vector<int32_t> selected;
  Floats visible, inside, margin;
};

struct Options {
  int heads = 2;
  int topk = 16;
  bool coverage = true;
  bool margin = true;
  int first_topk = 0;
  float widen_below = 0;
};

using Kernel = void (*)(const IndexSelectParams&);

// Rows at `positions` with queries q [rows][heads][dim].
Answer Select(Kernel kernel, const Context& context, const Bf16* q,
              const std::vector<int32_t>& positions, const Options& o) {
  const size_t queries = positions.size() * static_cast<size_t>(o.heads);
  Answer a;
  a.selected.assign(queries * static_cast<size_t>(o.topk), -7);
  a.visible.assign(queries, 0);
  a.inside = a.visible;
  a.margin = a.visible;
  const std::vector<uint8_t> flags(positions.size(), 1);
  IndexSelectParams p{};
  p.q = q;
  p.q_row_stride = int64_t{o.heads} * context.dim;
  p.positions = positions.data();
  p.key_blocks = context.blocks.data();
  p.blocks = static_cast<int32_t>(context.blocks.size());
  p.rows = static_cast<int32_t>(positions.size());
  p.heads = o.heads;
  p.dim = context.dim;
  p.topk = o.topk;
  p.selected = a.selected.data();
  if (o.coverage) {
    p.flagged = flags.data();
    p.lse_visible = a.visible.data();
    p.lse_selected = a.inside.data();
  }
  if (o.margin) p.margin = a.margin.data();
  p.first_topk = o.first_topk;
  p.widen_below = o.widen_below;
  kernel(p);
  return a;
}

std::vector<int32_t> Range(int first, int count) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  std::iota(out.begin(), out.end(), first);
  return out;
}

TEST(IndexSelect, WholeNumbersGiveTheReferencesBlocksWithAllTheirTies) {
  for (int dim : {16, 64, 128, 256}) {
    for (int topk : {1, 2, 5, 16, 40, 256}) {
      for (int tokens : {1, 127, 128, 129, 130, 2048, 2049, 128 * 45 + 3}) {
        // Numbers so small that many blocks share their maximum.
        const Context context(testing::WholeBf16s(int64_t{tokens} * dim, 1, 1), tokens, dim);
        std::vector<int32_t> positions;
        for (int p = tokens - 1; p >= 0 && positions.size() < 9; p -= 1 + tokens / 9)
          positions.push_back(p);
        const Options o{.heads = 3, .topk = topk};
        const Bf16s q = testing::WholeBf16s(static_cast<int64_t>(positions.size()) * 3 * dim, 2, 1);
        const Answer want = Select(IndexSelectReference, context, q.data(), positions, o);
        const Answer got = Select(IndexSelect, context, q.data(), positions, o);
        ASSERT_EQ(want.selected, got.selected) << dim << " " << topk << " " << tokens;
        ASSERT_EQ(want.margin, got.margin) << dim << " " << topk << " " << tokens;
        for (size_t i = 0; i < want.visible.size(); ++i) {
          ASSERT_NEAR(want.visible[i], got.visible[i], 1e-5 * (1 + std::abs(want.visible[i])));
          ASSERT_NEAR(want.inside[i], got.inside[i], 1e-5 * (1 + std::abs(want.inside[i])));
        }
        const Answer plain = Select(IndexSelect, context, q.data(), positions,
                                    {.heads = 3, .topk = topk, .coverage = false, .margin = false});
        ASSERT_EQ(plain.selected, got.selected);
      }
    }
  }
}

TEST(IndexSelect, RandomNumbersDifferFromFp64OnlyAtTies) {
  const int dim = 64, tokens = 128 * 80 + 17;
  const Context context(testing::NormalBf16s(int64_t{tokens} * dim, 1), tokens, dim);
  const std::vector<int32_t> positions = Range(tokens - 150, 150);
  const Bf16s q = testing::NormalBf16s(150 * 2 * dim, 2);
  const Answer want = Select(IndexSelectReference, context, q.data(), positions, {});
  const Answer got = Select(IndexSelect, context, q.data(), positions, {});
  int compared = 0;
  for (size_t i = 0; i < want.margin.size(); ++i) {
    // |q| |k| is about 64 here: a gap of 1e-5 of it decides.
    if (want.margin[i] < 64e-5f) continue;
    ++compared;
    EXPECT_TRUE(std::equal(want.selected.begin() + static_cast<int64_t>(i) * 16,
                           want.selected.begin() + static_cast<int64_t>(i + 1) * 16,
                           got.selected.begin() + static_cast<int64_t>(i) * 16))
        << i;
    EXPECT_NEAR(want.visible[i], got.visible[i], 1e-4);
    EXPECT_NEAR(want.inside[i], got.inside[i], 1e-4);
    EXPECT_LE(got.inside[i], got.visible[i]);
  }
  EXPECT_GT(compared, 290);
}

TEST(IndexSelect, RowsDoNotDependOnChunkCompanyOrThreads) {
  const int dim = 64, tokens = 128 * 150, count = 300;
  const Context context(testing::NormalBf16s(int64_t{tokens} * dim, 3), tokens, dim);
  const std::vector<int32_t> positions = Range(tokens - count, count);
  const Bf16s q = testing::NormalBf16s(count * 2 * dim, 4);
  Answer all;
  {
    const testing::Threads two(2);
    all = Select(IndexSelect, context, q.data(), positions, {});
  }
  for (int threads : {1, 2, 5}) {
    const testing::Threads set(threads);
    for (int chunk : {1, 7, 128}) {
      for (int first = 0; first < count; first += chunk < 128 ? 29 : chunk) {
        const int n = std::min(chunk, count - first);
        const std::vector<int32_t> some(positions.begin() + first, positions.begin() + first + n);
        const Answer part = Select(IndexSelect, context, q.data() + first * 2 * dim, some, {});
        for (size_t i = 0; i < part.selected.size(); ++i) {
          ASSERT_EQ(part.selected[i], all.selected[static_cast<size_t>(first) * 2 * 16 + i])
              << "chunk " << chunk << " threads " << threads;
        }
        for (size_t i = 0; i < part.margin.size(); ++i) {
          const size_t at = static_cast<size_t>(first) * 2 + i;
          ASSERT_EQ(part.margin[i], all.margin[at]);
          ASSERT_EQ(part.visible[i], all.visible[at]);
          ASSERT_EQ(part.inside[i], all.inside[at]);
        }
      }
    }
  }
}

TEST(IndexSelect, HostileScores) {
  const int dim = 16, blocks = 40, tokens = blocks * kBlockTokens - 5;
  const std::vector<int32_t> positions = {tokens - 1, 128 * 20, 128 * 16 - 1, 128 * 16, 0};
  const Bf16s ones(positions.size() * 2 * dim, ToBf16(1));
  const auto keys_of = [&](auto value) {
    Bf16s keys;
    for (int t = 0; t < tokens; ++t) {
      for (int d = 0; d < dim; ++d) keys.push_back(ToBf16(value(t / kBlockTokens)));
    }
    return keys;
  };
  const auto check = [&](const char* name, const Bf16s& keys) {
    const Context context(keys, tokens, dim);
    const Answer want =
        Select(IndexSelectReference, context, ones.data(), positions, {.coverage = false});
    const Answer got = Select(IndexSelect, context, ones.data(), positions, {.coverage = false});
    EXPECT_EQ(want.selected, got.selected) << name;
  };
  check("all equal: the lowest blocks", keys_of([](int) { return 0.0f; }));
  check("negative zeros", keys_of([](int b) { return b % 2 == 0 ? 0.0f : -0.0f; }));
  check("all negative", keys_of([](int b) { return -1.0f - static_cast<float>(b % 5); }));
  check("rising: every block beats all before",
        keys_of([](int b) { return static_cast<float>(b); }));
  check("falling", keys_of([](int b) { return -static_cast<float>(b); }));
  check("overflowing to both infinities",
        keys_of([](int b) { return b % 3 == 0 ? 3e38f : -3e38f; }));
  check("NaN is the worst", keys_of([](int b) {
          return b % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : -static_cast<float>(b);
        }));
}

TEST(IndexSelect, UpToSixteenBlocksEverythingVisibleIsSelected) {
  const int dim = 64, tokens = 2048;
  const Context context(testing::NormalBf16s(tokens * dim, 5), tokens, dim);
  const std::vector<int32_t> positions = Range(0, tokens);
  const Bf16s q = testing::NormalBf16s(tokens * 2 * dim, 6);
  const Answer got = Select(IndexSelect, context, q.data(), positions, {.coverage = false});
  for (int row = 0; row < tokens; ++row) {
    for (int head = 0; head < 2; ++head) {
      for (int i = 0; i < 16; ++i) {
        ASSERT_EQ(got.selected[static_cast<size_t>((row * 2 + head) * 16 + i)],
                  i <= row / kBlockTokens ? i : -1);
      }
    }
  }
}

TEST(IndexSelect, OnlyFlaggedRowsAreWritten) {
  const int dim = 64, tokens = 128 * 20;
  const Context context(testing::NormalBf16s(tokens * dim, 5), tokens, dim);
  const std::vector<int32_t> positions = Range(tokens - 4, 4);
  const Bf16s q = testing::NormalBf16s(4 * dim, 6);
  const uint8_t flags[] = {0, 1, 0, 1};
  std::vector<int32_t> selected(4 * 16);
  Floats visible(4, -99), inside(4, -99);
  IndexSelectParams p{};
  p.q = q.data();
  p.q_row_stride = dim;
  p.positions = positions.data();
  p.key_blocks = context.blocks.data();
  p.blocks = 20;
  p.rows = 4;
  p.heads = 1;
  p.dim = dim;
  p.topk = 16;
  p.selected = selected.data();
  p.flagged = flags;
  p.lse_visible = visible.data();
  p.lse_selected = inside.data();
  IndexSelect(p);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(visible[i] != -99, flags[i] != 0);
    EXPECT_EQ(inside[i] != -99, flags[i] != 0);
  }
}

// Queries and keys at a scale where 16 of 80 blocks hold anything from little to most of the mass.
struct Widening {
  static constexpr int kDim = 64, kTokens = 128 * 80 + 17, kRows = 40;
  Context context{testing::NormalBf16s(int64_t{kTokens} * kDim, 1), kTokens, kDim};
  Bf16s q = testing::NormalBf16s(kRows * 2 * kDim, 2);
  std::vector<int32_t> positions = Range(kTokens - kRows, kRows);

  Answer Run(Kernel kernel, const Options& o) const {
    return Select(kernel, context, q.data(), positions, o);
  }
};

int CountSelected(const Answer& a, size_t query, int topk) {
  const auto begin = a.selected.begin() + static_cast<int64_t>(query) * topk;
  return static_cast<int>(
      std::count_if(begin, begin + topk, [](int32_t block) { return block >= 0; }));
}

TEST(IndexSelect, WideningStopsWhereCoverageSuffices) {
  const Widening w;
  const Options plain{.margin = false};
  const Answer at16 = w.Run(IndexSelect, plain);
  const Answer at32 = w.Run(IndexSelect, {.topk = 32, .margin = false});
  const Answer at64 = w.Run(IndexSelect, {.topk = 64, .margin = false});
  const auto coverage = [](const Answer& a, size_t i) {
    return std::exp(double{a.inside[i]} - double{a.visible[i]});
  };
  std::map<int, int> rows_of_count;
  for (const float below : {0.05f, 0.3f, 0.5f, 0.55f, 0.6f, 0.8f, 0.95f}) {
    const Options o{.topk = 64, .margin = false, .first_topk = 16, .widen_below = below};
    const Answer got = w.Run(IndexSelect, o);
    const Answer want = w.Run(IndexSelectReference, o);
    for (size_t i = 0; i < got.visible.size(); ++i) {
      const int count = CountSelected(got, i, 64);
      const bool near =
          std::abs(coverage(at16, i) - below) < 1e-5 || std::abs(coverage(at32, i) - below) < 1e-5;
      if (near) continue;
      const int expected = coverage(at16, i) >= below ? 16 : coverage(at32, i) >= below ? 32 : 64;
      ASSERT_EQ(count, expected) << below << " " << i;
      const Answer& same = expected == 16 ? at16 : expected == 32 ? at32 : at64;
      const auto begin = got.selected.begin() + static_cast<int64_t>(i) * 64;
      ASSERT_TRUE(std::equal(begin, begin + count,
                             same.selected.begin() + static_cast<int64_t>(i) * expected));
      ASSERT_EQ(got.inside[i], same.inside[i]);
      ASSERT_EQ(got.visible[i], same.visible[i]);
      ASSERT_EQ(CountSelected(want, i, 64), expected);
      ++rows_of_count[count];
    }
  }
  EXPECT_EQ(rows_of_count.size(), 3u);  // the inputs show all three
}

TEST(IndexSelect, WideningNeverAndAlways) {
  const Widening w;
  for (Kernel kernel : {IndexSelect, IndexSelectReference}) {
    const Answer at16 = w.Run(kernel, {.margin = false});
    const Answer never =
        w.Run(kernel, {.topk = 64, .margin = false, .first_topk = 16, .widen_below = 0});
    for (size_t i = 0; i < at16.visible.size(); ++i) {
      ASSERT_EQ(CountSelected(never, i, 64), 16);
      for (size_t slot = 0; slot < 16; ++slot) {
        ASSERT_EQ(never.selected[i * 64 + slot], at16.selected[i * 16 + slot]);
      }
    }
    const Answer at64 = w.Run(kernel, {.topk = 64, .margin = false});
    const Answer always =
        w.Run(kernel, {.topk = 64, .margin = false, .first_topk = 16, .widen_below = 1});
    EXPECT_EQ(always.selected, at64.selected);
    EXPECT_EQ(always.inside, at64.inside);
  }
}

TEST(IndexSelect, WideningOfShortRowsAndWithoutCoverage) {
  const int dim = 32, tokens = 128 * 20 + 5;
  const Context context(testing::NormalBf16s(int64_t{tokens} * dim, 3), tokens, dim);
  // 1, 16, 17 and 21 visible blocks.
  const std::vector<int32_t> positions = {5, 128 * 16 - 1, 128 * 16, tokens - 1};
  const Bf16s q = testing::NormalBf16s(4 * 2 * dim, 4);
  const Options o{
      .topk = 64, .coverage = false, .margin = false, .first_topk = 16, .widen_below = 1};
  const Answer got = Select(IndexSelect, context, q.data(), positions, o);
  EXPECT_EQ(got.selected, Select(IndexSelectReference, context, q.data(), positions, o).selected);
  const int visible[] = {1, 16, 17, 21};
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(CountSelected(got, i, 64), visible[i / 2]);
  // A budget that is no power of two times the first ends at the budget.
  const Options odd{
      .topk = 18, .coverage = false, .margin = false, .first_topk = 5, .widen_below = 1};
  EXPECT_EQ(Select(IndexSelect, context, q.data(), positions, odd).selected,
            Select(IndexSelectReference, context, q.data(), positions,
                   {.topk = 18, .coverage = false, .margin = false})
                .selected);
}

}  // namespace
}  // namespace lectern::kernels
