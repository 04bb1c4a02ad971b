#include "kernels/index_mass/index_mass_cuda.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/index_select/index_select.h"
#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::DeviceArray;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kUnwritten = -7.5f;

// A context and the absolute positions of its listed rows.
struct Asking {
  int tokens;
  std::vector<int32_t> positions;
};

// Contexts in shuffled pages with NaN behind their ends, and the rows that ask.
struct Case {
  int heads, dim;
  std::vector<Asking> asking;
  std::vector<IndexMassRequest> requests;
  std::vector<int32_t> table, rows, positions, selected;
  std::vector<Bf16> q, keys;
  int q_rows = 0, max_count = 0, max_position = 0;
  int64_t q_stride, blocks = 1;
  static constexpr int kSlots = 16;

  Case(int heads, int dim, const std::vector<Asking>& contexts, uint64_t seed, float scale = 1)
      : heads(heads), dim(dim), asking(contexts), q_stride(int64_t{heads} * dim + 8) {
    testing::Noise noise(seed);
    int pages = 2;
    for (const Asking& a : asking) pages += (a.tokens + kBlockTokens - 1) / kBlockTokens;
    std::vector<int32_t> order(static_cast<size_t>(pages));
    std::iota(order.begin(), order.end(), 0);
    for (int i = pages - 1; i > 0; --i) {
      std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(noise.Below(i + 1))]);
    }
    keys.assign(static_cast<size_t>(pages * TileElements(dim)), Bf16{0x7fff});
    for (const Asking& a : asking) {
      requests.push_back({static_cast<int32_t>(positions.size()),
                          static_cast<int32_t>(a.positions.size()),
                          static_cast<int32_t>(table.size())});
      max_count = std::max(max_count, static_cast<int>(a.positions.size()));
      for (int t = 0; t < a.tokens; ++t) {
        if (t % kBlockTokens == 0) table.push_back(order[table.size()]);
        Bf16* key = Key(requests.back(), t);
        for (int d = 0; d < dim; ++d) key[d] = ToBf16(noise.Normal() * scale);
      }
      positions.insert(positions.end(), a.positions.begin(), a.positions.end());
    }
    // Listed rows lie anywhere in q, and the last come first.
    q_rows = 2 * static_cast<int>(positions.size()) + 1;
    for (size_t i = 0; i < positions.size(); ++i) {
      rows.push_back(q_rows - 2 - 2 * static_cast<int>(i));
      max_position = std::max(max_position, positions[i]);
    }
    blocks = max_position / kBlockTokens + 1;
    q = noise.Normals(static_cast<size_t>(q_rows * q_stride));
    // Some earlier blocks and the own one.
    selected.assign(static_cast<size_t>(q_rows * heads * kSlots), -1);
    for (size_t i = 0; i < positions.size(); ++i) {
      const int own = positions[i] / kBlockTokens;
      for (int h = 0; h < heads; ++h) {
        int32_t* to = selected.data() + (int64_t{rows[i]} * heads + h) * kSlots;
        int taken = 0;
        for (int b = 0; b < own && taken < kSlots - 1; ++b) {
          if (noise.Below(3) == 0) to[taken++] = b;
        }
        to[taken] = own;
      }
    }
  }
  Bf16* Key(const IndexMassRequest& request, int token) {
    const int64_t page = table[static_cast<size_t>(request.page_begin + token / kBlockTokens)];
    return keys.data() + (page * kBlockTokens + token % kBlockTokens) * dim;
  }
  size_t queries() const { return positions.size() * static_cast<size_t>(heads); }
};

struct Masses {
  std::vector<float> block_lse, block_max, visible, inside;
  explicit Masses(const Case& c)
      : block_lse(c.queries() * static_cast<size_t>(c.blocks), kUnwritten),
        block_max(block_lse),
        visible(c.queries(), kUnwritten),
        inside(visible) {}
};

IndexMassCudaParams Describe(const Case& c) {
  IndexMassCudaParams p{};
  p.q_row_stride = c.q_stride;
  p.num_requests = static_cast<int32_t>(c.requests.size());
  p.max_count = c.max_count;
  p.listed = static_cast<int32_t>(c.positions.size());
  p.max_position = c.max_position;
  p.heads = c.heads;
  p.dim = c.dim;
  p.selected_stride = Case::kSlots;
  p.block_stride = c.blocks;
  return p;
}

Masses OnCpu(const Case& c) {
  Masses m(c);
  IndexMassCudaParams p = Describe(c);
  p.q = c.q.data(), p.keys = c.keys.data(), p.page_table = c.table.data();
  p.requests = c.requests.data(), p.rows = c.rows.data(), p.positions = c.positions.data();
  p.selected = c.selected.data();
  p.block_lse = m.block_lse.data(), p.block_max = m.block_max.data();
  p.lse_visible = m.visible.data(), p.lse_selected = m.inside.data();
  IndexMassReference(p);
  return m;
}

Masses OnGpu(const Case& c) {
  Masses m(c);
  const DeviceArray<Bf16> q(c.q), keys(c.keys);
  const DeviceArray<int32_t> table(c.table), rows(c.rows), positions(c.positions),
      selected(c.selected);
  const DeviceArray<IndexMassRequest> requests(c.requests);
  DeviceArray<float> block_lse(m.block_lse), block_max(m.block_max), visible(m.visible),
      inside(m.inside);
  IndexMassCudaParams p = Describe(c);
  p.q = q.get(), p.keys = keys.get(), p.page_table = table.get();
  p.requests = requests.get(), p.rows = rows.get(), p.positions = positions.get();
  p.selected = selected.get();
  p.block_lse = block_lse.get(), p.block_max = block_max.get();
  p.lse_visible = visible.get(), p.lse_selected = inside.get();
  const auto reset = [&] { visible.Fill(0x5a), inside.Fill(0x5a); };
  const auto host = [&] {
    m.block_lse = block_lse.Host(), m.block_max = block_max.Host();
    m.visible = visible.Host(), m.inside = inside.Host();
    std::vector<float> all = m.block_lse;
    for (const auto* part : {&m.block_max, &m.visible, &m.inside}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  };
  testing::Outcome(
      reset, [&](cudaStream_t s) { return IndexMassCuda(p, s); }, host);
  return m;
}

void ExpectNear(const std::vector<float>& want, const std::vector<float>& got, double bound,
                const char* what) {
  ASSERT_EQ(want.size(), got.size());
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) {
      ASSERT_TRUE(std::isnan(got[i])) << what << " " << i << ": " << got[i];
    } else if (std::isinf(want[i]) || want[i] == kUnwritten) {
      ASSERT_EQ(want[i], got[i]) << what << " " << i;
    } else {
      ASSERT_NEAR(want[i], got[i], bound) << what << " " << i;
      worst = std::max(worst, std::abs(double{want[i]} - got[i]));
    }
  }
  std::printf("%s: at most %.2g from fp64\n", what, worst);
}

void ExpectTheReferences(const Case& c) {
  const Masses want = OnCpu(c), got = OnGpu(c);
  // Scores of unit normals are about sqrt(dim) large; their fp32 sums are off by less than 1e-5 of
  // |q| |k|, about dim 1e-5.
  ExpectNear(want.block_max, got.block_max, 1e-5 * c.dim, "block maxima");
  ExpectNear(want.block_lse, got.block_lse, 1e-4, "block masses");
  ExpectNear(want.visible, got.visible, 1e-4, "visible");
  ExpectNear(want.inside, got.inside, 1e-4, "selected");
}

class IndexMassCudas : public testing::GpuTest {};

TEST_F(IndexMassCudas, IsTheReferences) {
  for (int dim : {64, 128}) {
    for (int heads : {1, 2, 4, 5, 32}) {
      ExpectTheReferences({heads, dim, {{1, {0}}}, 20});
      ExpectTheReferences(
          {heads,
           dim,
           {{129, {127, 128, 0, 63}}, {4000, {3999}}, {300, {}}, {2048, {2047, 130, 5}}, {128, {}}},
           21});
    }
    std::vector<int32_t> many(41);
    std::iota(many.begin(), many.end(), 1500);
    ExpectTheReferences({4, dim, {{1541, many}, {700, {699, 698}}}, 22});
  }
}

TEST_F(IndexMassCudas, NanAndInfiniteKeysAreWhatTheReferenceMakesOfThem) {
  Case c(2, 128, {{700, {699, 130, 640}}}, 23);
  const IndexMassRequest request = c.requests[0];
  for (int t : {3, 140, 141, 650}) c.Key(request, t)[5] = Bf16{0x7fc0};
  for (int t = 256; t < 384; ++t) c.Key(request, t)[0] = Bf16{0xffc1};  // a block of nothing
  ExpectTheReferences(c);
  Case all(2, 64, {{200, {199, 100}}}, 24);
  for (int t = 0; t < 200; ++t) all.Key(all.requests[0], t)[1] = Bf16{0x7fc0};
  ExpectTheReferences(all);
}

TEST_F(IndexMassCudas, LargeScoresDoNotOverflow) {
  Case c(2, 64, {{1000, {999, 400}}}, 25, 12.0f);  // |s| / sqrt(dim) up to about 50
  ExpectTheReferences(c);
}

TEST_F(IndexMassCudas, RowsDoNotDependOnCompany) {
  std::vector<int32_t> many(23);
  std::iota(many.begin(), many.end(), 2500);
  const Case all(4, 128, {{2523, many}, {900, {899}}}, 26);
  const Masses together = OnGpu(all);
  for (size_t place : {0u, 11u, 22u, 23u}) {
    Case one = all;
    const IndexMassRequest from = all.requests[place < many.size() ? 0 : 1];
    one.requests = {{0, 1, from.page_begin}};
    one.rows = {all.rows[place]};
    one.positions = {all.positions[place]};
    one.max_count = 1;
    one.max_position = one.positions[0];
    const Masses alone = OnGpu(one);
    for (int h = 0; h < 4; ++h) {
      const size_t i = place * 4 + static_cast<size_t>(h), j = static_cast<size_t>(h);
      EXPECT_EQ(together.visible[i], alone.visible[j]) << place;
      EXPECT_EQ(together.inside[i], alone.inside[j]) << place;
      for (int b = 0; b <= one.positions[0] / kBlockTokens; ++b) {
        const auto at = [&](size_t query) {
          return query * static_cast<size_t>(all.blocks) + static_cast<size_t>(b);
        };
        ASSERT_EQ(together.block_lse[at(i)], alone.block_lse[at(j)]) << place << " " << b;
        ASSERT_EQ(together.block_max[at(i)], alone.block_max[at(j)]) << place << " " << b;
      }
    }
  }
}

// Bounds may be larger than they must, and a listed row may be in no request.
TEST_F(IndexMassCudas, BoundsDoNotShow) {
  const Case tight(4, 128, {{1100, {1099, 700, 3}}, {900, {899}}}, 27);
  Case loose = tight;
  loose.max_position = 8191, loose.blocks = 64;
  loose.max_count = 16;
  loose.requests.pop_back();
  const Masses want = OnGpu(tight), got = OnGpu(loose);
  for (size_t query = 0; query < 3 * 4; ++query) {
    EXPECT_EQ(want.visible[query], got.visible[query]) << query;
    EXPECT_EQ(want.inside[query], got.inside[query]) << query;
  }
}

// --- Widening

struct Widened {
  std::vector<int32_t> selected;
  std::vector<float> inside;
};

struct WidenCase {
  int listed, heads;
  int64_t stride;
  std::vector<int32_t> positions, rows;
  std::vector<float> scores, lse, visible;
  int first_topk, topk;
  float widen_below;
  static constexpr int kStride = kMaxWidenedTopk + 1;

  WidenSelectionCudaParams Describe() const {
    WidenSelectionCudaParams p{};
    p.score_stride = p.block_stride = stride;
    p.listed = listed;
    p.heads = heads;
    p.first_topk = first_topk;
    p.topk = topk;
    p.widen_below = widen_below;
    p.selected_stride = kStride;
    return p;
  }
  size_t queries() const { return static_cast<size_t>(listed) * static_cast<size_t>(heads); }
};

Widened WidenOnCpu(const WidenCase& c) {
  Widened w{std::vector<int32_t>(c.queries() * WidenCase::kStride, -9),
            std::vector<float>(c.queries())};
  WidenSelectionCudaParams p = c.Describe();
  p.scores = c.scores.data(), p.block_lse = c.lse.data(), p.lse_visible = c.visible.data();
  p.positions = c.positions.data(), p.rows = c.rows.data();
  p.selected = w.selected.data(), p.lse_selected = w.inside.data();
  WidenSelectionReference(p);
  return w;
}

Widened WidenOnGpu(const WidenCase& c) {
  const DeviceArray<float> scores(c.scores), lse(c.lse), visible(c.visible);
  const DeviceArray<int32_t> positions(c.positions), rows(c.rows);
  DeviceArray<int32_t> selected(c.queries() * WidenCase::kStride);
  DeviceArray<float> inside(c.queries());
  WidenSelectionCudaParams p = c.Describe();
  p.scores = scores.get(), p.block_lse = lse.get(), p.lse_visible = visible.get();
  p.positions = positions.get(), p.rows = rows.get();
  p.selected = selected.get(), p.lse_selected = inside.get();
  Widened w;
  w.selected = testing::Outcome(selected, [&](cudaStream_t s) { return WidenSelectionCuda(p, s); });
  w.inside = inside.Host();
  return w;
}

class WidenSelectionCudas : public testing::GpuTest {};

TEST_F(WidenSelectionCudas, IsTheReferences) {
  enum Kind { kNormal, kFewValues, kEqual, kNegative, kNans, kKinds };
  for (int positions_of : {1, 2, 17, 100, 1000, 8192, 9000}) {  // blocks
    if (testing::kThreadByThread && positions_of > 100) continue;
    for (int kind = 0; kind < kKinds; ++kind) {
      for (float widen_below : {0.0f, 0.3f, 0.9f, 1.0f}) {
        testing::Noise noise(static_cast<uint64_t>(positions_of * 10 + kind));
        WidenCase c{3, 2, positions_of + 1, {}, {2, 0, 1}, {}, {}, {}, 16, 64, widen_below};
        if (widen_below == 0.3f) c.first_topk = 1, c.topk = 5;
        if (widen_below == 0.9f) c.first_topk = 3;
        for (int i = 0; i < c.listed; ++i) {
          c.positions.push_back(positions_of * kBlockTokens - 1 - i * 40);
        }
        for (size_t query = 0; query < c.queries(); ++query) {
          const int own = c.positions[query / 2] / kBlockTokens;
          double sum = 0;
          for (int b = 0; b < c.stride; ++b) {
            float score = noise.Normal() * 3;
            if (kind == kFewValues) score = static_cast<float>(noise.Below(3)) - 1.0f;
            if (kind == kEqual) score = -0.0f;
            if (kind == kNegative) score = -std::abs(score) - 1;
            if (kind == kNans && noise.Below(3) > 0) score = noise.Below(2) > 0 ? NAN : -kInfinity;
            if (b >= own) score = b == own ? NAN : kInfinity;  // never looked at
            c.scores.push_back(score);
            c.lse.push_back(std::isfinite(score) ? score * 0.9f + noise.Normal() : -kInfinity);
            if (b == own) c.lse.back() = 1.0f;
            if (b <= own) sum += std::exp(double{c.lse.back()});
          }
          c.visible.push_back(static_cast<float>(std::log(sum)));
        }
        const Widened want = WidenOnCpu(c), got = WidenOnGpu(c);
        ASSERT_EQ(want.selected, got.selected)
            << positions_of << " blocks, kind " << kind << ", below " << widen_below;
        for (size_t i = 0; i < want.inside.size(); ++i) {
          ASSERT_NEAR(want.inside[i], got.inside[i], 1e-5) << i;
        }
      }
    }
  }
}

TEST_F(WidenSelectionCudas, NothingAtAllWidensToTheEnd) {
  WidenCase c{1, 1, 40, {39 * kBlockTokens}, {0}, {}, {}, {-kInfinity}, 4, 16, 0.5f};
  c.scores.assign(40, -kInfinity);
  c.lse.assign(40, -kInfinity);
  const Widened want = WidenOnCpu(c), got = WidenOnGpu(c);
  EXPECT_EQ(want.selected, got.selected);
  EXPECT_EQ(got.selected[14], 14);
  EXPECT_EQ(got.selected[15], 39);
  EXPECT_EQ(got.inside[0], -kInfinity);
}

// Mass and widening together against the CPU's selection, on numbers whose scores are exact, so
// that ties are real and both must see them alike.
TEST_F(WidenSelectionCudas, WithMassesIsTheCpusSelection) {
  for (int dim : {64, 128}) {
    const int heads = 4;
    Case c(heads, dim, {{6000, {5999, 5000, 2100, 300, 100}}}, 27);
    testing::Noise noise(28);
    for (Bf16& x : c.q) x = ToBf16(static_cast<float>(noise.Below(7) - 3));
    for (int t = 0; t < 6000; ++t) {
      Bf16* key = c.Key(c.requests[0], t);
      const bool loud = t / kBlockTokens % 9 == 2;
      for (int d = 0; d < dim; ++d) {
        key[d] = ToBf16(static_cast<float>(noise.Below(loud ? 5 : 3) - (loud ? 2 : 1)));
      }
    }
    const Masses m = OnGpu(c);
    for (float widen_below : {0.2f, 0.6f, 0.95f, 1.0f}) {
      const WidenCase w{static_cast<int>(c.positions.size()),
                        heads,
                        c.blocks,
                        c.positions,
                        {0, 1, 2, 3, 4},
                        m.block_max,
                        m.block_lse,
                        m.visible,
                        8,
                        32,
                        widen_below};
      const Widened got = WidenOnGpu(w);
      // The same on the CPU.
      std::vector<testing::Bf16s> tiles;
      std::vector<const Bf16*> blocks;
      for (int first = 0; first < 6000; first += kBlockTokens) {
        tiles.push_back(testing::Poison(TileElements(dim)));
        PackKeys({0, std::min(kBlockTokens, 6000 - first), dim}, c.Key(c.requests[0], first), dim,
                 tiles.back().data());
      }
      for (const testing::Bf16s& tile : tiles) blocks.push_back(tile.data());
      std::vector<Bf16> q;
      for (int32_t row : c.rows) {
        q.insert(q.end(), c.q.begin() + row * c.q_stride,
                 c.q.begin() + row * c.q_stride + heads * dim);
      }
      std::vector<int32_t> selected(c.queries() * 32);
      std::vector<float> visible(c.queries()), inside(visible);
      const std::vector<uint8_t> flagged(c.positions.size(), 1);
      IndexSelectParams p{};
      p.q = q.data(), p.q_row_stride = heads * dim, p.positions = c.positions.data();
      p.key_blocks = blocks.data(), p.blocks = static_cast<int32_t>(blocks.size());
      p.rows = static_cast<int32_t>(c.positions.size()), p.heads = heads, p.dim = dim, p.topk = 32;
      p.selected = selected.data(), p.flagged = flagged.data(), p.lse_visible = visible.data();
      p.lse_selected = inside.data(), p.first_topk = 8, p.widen_below = widen_below;
      IndexSelect(p);
      for (size_t i = 0; i < c.queries(); ++i) {
        const auto at = [](const std::vector<int32_t>& v, size_t first) {
          return std::vector<int32_t>(v.begin() + static_cast<int64_t>(first),
                                      v.begin() + static_cast<int64_t>(first) + 32);
        };
        ASSERT_EQ(at(selected, i * 32), at(got.selected, i * WidenCase::kStride))
            << i << " below " << widen_below;
        EXPECT_NEAR(visible[i], m.visible[i], 1e-4);
        EXPECT_NEAR(inside[i], got.inside[i], 1e-4);
      }
    }
  }
}

TEST(IndexMassCuda, RefusesWhatItIsNotMadeFor) {
  IndexMassCudaParams mass{};
  mass.heads = 4;
  mass.dim = 96;
  EXPECT_EQ(IndexMassCuda(mass, nullptr), cudaErrorInvalidValue);
  mass.dim = 64;
  mass.heads = 33;
  EXPECT_EQ(IndexMassCuda(mass, nullptr), cudaErrorInvalidValue);
  WidenSelectionCudaParams widen{};
  widen.first_topk = 16;
  widen.topk = widen.selected_stride = kMaxWidenedTopk + 1;
  EXPECT_EQ(WidenSelectionCuda(widen, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace lectern::kernels
