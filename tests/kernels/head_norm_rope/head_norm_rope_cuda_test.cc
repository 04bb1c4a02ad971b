#include "kernels/head_norm_rope/head_norm_rope_cuda.h"

#include <numeric>

#include "kernels/head_norm_rope/head_norm_rope.h"
#include "kernels/rope/rope_table.h"
#include "tests/kernels/support/gpu.h"

namespace lectern::kernels {
namespace {

using testing::Agreement;
using testing::DeviceArray;

constexpr float kEps = 1e-6f;
constexpr Bf16 kFill = {0x5a5a};
constexpr int kPages = 7;

struct Shape {
  int heads, kv_heads, dim, index_heads, index_dim, rotary_dim;
  bool gains = true;
  NormGain gain = NormGain::kGemma;

  int64_t q_width() const { return int64_t{heads} * dim; }
  int64_t kv_width() const { return int64_t{kv_heads} * dim; }
  int64_t index_q_width() const { return int64_t{index_heads} * index_dim; }
  int64_t index_width() const { return index_heads > 0 ? index_dim : 0; }
  int64_t columns() const { return q_width() + 2 * kv_width() + index_q_width() + index_width(); }
};

struct Batch {
  Shape shape;
  int64_t rows, stride;
  std::vector<float> x, cos, sin, q_gain, k_gain, index_q_gain, index_k_gain;
  std::vector<int32_t> kv_pages, index_pages, slots;

  // Every fifth row stands for no token; the others lie in places of their own, in no order.
  Batch(const Shape& s, int64_t rows, uint64_t seed)
      : shape(s), rows(rows), stride((s.columns() + 3) / 4 * 4 + 4) {
    x = testing::Normals(rows * stride, seed, 2);
    q_gain = testing::Normals(s.dim, seed + 1);
    k_gain = testing::Normals(s.dim, seed + 2);
    index_q_gain = testing::Normals(std::max(16, s.index_dim), seed + 3);
    index_k_gain = testing::Normals(std::max(16, s.index_dim), seed + 4);
    std::vector<int32_t> positions, places(kPages * kBlockTokens);
    std::iota(places.begin(), places.end(), 0);
    testing::Noise noise(seed + 5);
    for (size_t i = places.size() - 1; i > 0; --i) {
      std::swap(places[i], places[static_cast<size_t>(noise.Below(static_cast<int>(i) + 1))]);
    }
    for (int64_t r = 0; r < rows; ++r) {
      positions.push_back(noise.Below(1 << 20));
      const int32_t place = places[static_cast<size_t>(r)];
      slots.push_back(place % kBlockTokens);
      kv_pages.push_back(r % 5 == 3 ? -1 : place / kBlockTokens);
      index_pages.push_back(r % 5 == 3 || r == 1 ? -1 : kPages - 1 - place / kBlockTokens);
    }
    const int half = s.rotary_dim / 2;
    cos.resize(static_cast<size_t>(std::max<int64_t>(1, rows * half)));
    sin = cos;
    if (half > 0) {
      FillRopeTable({positions.data(), rows, s.rotary_dim, 1e6, cos.data(), sin.data()});
    }
  }
};

// Everything that the operation writes.
struct Written {
  std::vector<Bf16> q, index_q, k, v, index_k, k_cache, v_cache, index_cache;

  explicit Written(const Batch& b) {
    const Shape& s = b.shape;
    const auto rows = [&](int64_t width) {
      return std::vector<Bf16>(static_cast<size_t>(b.rows * width), kFill);
    };
    const auto pages = [&](int64_t width) {
      return std::vector<Bf16>(static_cast<size_t>(kPages * kBlockTokens * width), kFill);
    };
    q = rows(s.q_width()), index_q = rows(s.index_q_width());
    k = rows(s.kv_width()), v = k, index_k = rows(s.index_width());
    k_cache = pages(s.kv_width()), v_cache = k_cache, index_cache = pages(s.index_width());
  }
  static constexpr std::vector<Bf16> Written::*kAll[] = {
      &Written::q,       &Written::index_q, &Written::k,       &Written::v,
      &Written::index_k, &Written::k_cache, &Written::v_cache, &Written::index_cache};
};

// As the decoder does it on the CPU, and the insertion by its definition.
Written OnCpu(const Batch& b, void (*kernel)(const HeadNormRopeParams&)) {
  const Shape& s = b.shape;
  Written w(b);
  const auto rotate = [&](int64_t column, const std::vector<float>& gain, int heads, int dim,
                          std::vector<Bf16>& y) {
    kernel({.x = b.x.data() + column,
            .x_stride = b.stride,
            .w = s.gains ? gain.data() : nullptr,
            .cos = s.rotary_dim > 0 ? b.cos.data() : nullptr,
            .sin = s.rotary_dim > 0 ? b.sin.data() : nullptr,
            .y = y.data(),
            .y_f32 = nullptr,
            .y_stride = int64_t{heads} * dim,
            .rows = b.rows,
            .heads = heads,
            .dim = dim,
            .rotary_dim = s.rotary_dim,
            .eps = kEps,
            .gain = s.gain});
  };
  rotate(0, b.q_gain, s.heads, s.dim, w.q);
  rotate(s.q_width(), b.k_gain, s.kv_heads, s.dim, w.k);
  ConvertRowsToBf16({b.x.data() + s.q_width() + s.kv_width(), b.stride, w.v.data(), s.kv_width(),
                     b.rows, s.kv_width()});
  if (s.index_heads > 0) {
    const int64_t column = s.q_width() + 2 * s.kv_width();
    rotate(column, b.index_q_gain, s.index_heads, s.index_dim, w.index_q);
    rotate(column + s.index_q_width(), b.index_k_gain, 1, s.index_dim, w.index_k);
  }
  const auto insert = [&](const std::vector<Bf16>& rows, const std::vector<int32_t>& pages,
                          int heads, int dim, std::vector<Bf16>& cache) {
    for (int64_t r = 0; r < b.rows; ++r) {
      const int64_t page = pages[static_cast<size_t>(r)];
      for (int h = 0; h < heads && page >= 0; ++h) {
        const int64_t token = (page * heads + h) * kBlockTokens + b.slots[static_cast<size_t>(r)];
        std::copy_n(rows.begin() + (r * heads + h) * dim, dim, cache.begin() + token * dim);
      }
    }
  };
  insert(w.k, b.kv_pages, s.kv_heads, s.dim, w.k_cache);
  insert(w.v, b.kv_pages, s.kv_heads, s.dim, w.v_cache);
  if (s.index_heads > 0) insert(w.index_k, b.index_pages, 1, s.index_dim, w.index_cache);
  return w;
}

Written OnGpu(const Batch& b, bool rows_wanted = true) {
  const Shape& s = b.shape;
  const bool index = s.index_heads > 0;
  const DeviceArray<float> x(b.x), cos(b.cos), sin(b.sin), q_gain(b.q_gain), k_gain(b.k_gain),
      index_q_gain(b.index_q_gain), index_k_gain(b.index_k_gain);
  const DeviceArray<int32_t> kv_pages(b.kv_pages), index_pages(b.index_pages), slots(b.slots);
  Written w(b);
  DeviceArray<Bf16> q(w.q), index_q(w.index_q), k(w.k), v(w.v), index_k(w.index_k),
      k_cache(w.k_cache), v_cache(w.v_cache), index_cache(w.index_cache);
  DeviceArray<Bf16>* const all[] = {&q,       &index_q, &k,       &v,
                                    &index_k, &k_cache, &v_cache, &index_cache};
  const HeadNormRopeCudaParams p = {.x = x.get(),
                                    .x_stride = b.stride,
                                    .rows = b.rows,
                                    .heads = s.heads,
                                    .kv_heads = s.kv_heads,
                                    .dim = s.dim,
                                    .index_heads = s.index_heads,
                                    .index_dim = s.index_dim,
                                    .rotary_dim = s.rotary_dim,
                                    .q_gain = s.gains ? q_gain.get() : nullptr,
                                    .k_gain = s.gains ? k_gain.get() : nullptr,
                                    .index_q_gain = s.gains ? index_q_gain.get() : nullptr,
                                    .index_k_gain = s.gains ? index_k_gain.get() : nullptr,
                                    .eps = kEps,
                                    .gain = s.gain,
                                    .cos = s.rotary_dim > 0 ? cos.get() : nullptr,
                                    .sin = s.rotary_dim > 0 ? sin.get() : nullptr,
                                    .q = q.get(),
                                    .index_q = index ? index_q.get() : nullptr,
                                    .k = rows_wanted ? k.get() : nullptr,
                                    .v = rows_wanted ? v.get() : nullptr,
                                    .index_k = rows_wanted && index ? index_k.get() : nullptr,
                                    .kv_pages = kv_pages.get(),
                                    .index_pages = index ? index_pages.get() : nullptr,
                                    .slots = slots.get(),
                                    .k_cache = k_cache.get(),
                                    .v_cache = v_cache.get(),
                                    .index_cache = index ? index_cache.get() : nullptr};
  const auto reset = [&] {
    for (DeviceArray<Bf16>* array : all) array->Fill(0x5a);
  };
  const auto host = [&] {
    std::vector<Bf16> everything;
    for (size_t i = 0; i < std::size(all); ++i) {
      w.*Written::kAll[i] = all[i]->Host();
      everything.insert(everything.end(), (w.*Written::kAll[i]).begin(),
                        (w.*Written::kAll[i]).end());
    }
    return everything;
  };
  testing::Outcome(
      reset, [&](cudaStream_t stream) { return HeadNormRopeCuda(p, stream); }, host);
  return w;
}

const Shape kShapes[] = {
    {8, 2, 64, 2, 64, 32},     // the bundled model's
    {64, 4, 128, 4, 128, 64},  // MiniMax-M3's
    {64, 4, 128, 4, 128, 64, false},
    {6, 3, 128, 0, 0, 128, true, NormGain::kPlain},  // a dense layer, rotated as a whole
    {3, 1, 64, 3, 64, 64, true, NormGain::kPlain},   // heads that fill no piece
    {5, 1, 128, 1, 64, 20},                          // halves off the vectors
    {5, 5, 32, 1, 16, 2},
    {4, 2, 16, 2, 128, 0},
    {4, 2, 64, 2, 32, 0, false},
};

class HeadNormRopeCudas : public testing::NeedsGpu<::testing::TestWithParam<Shape>> {};

TEST_P(HeadNormRopeCudas, IsTheCpusButForTheOrderOfASum) {
  const char* const names[] = {"q",       "index q", "k",       "v",
                               "index k", "k cache", "v cache", "index cache"};
  for (int64_t rows : {1, 2, 131}) {
    const Batch b(GetParam(), rows, 12);
    const Written got = OnGpu(b), cpu = OnCpu(b, HeadNormRope),
                  reference = OnCpu(b, HeadNormRopeReference);
    for (size_t i = 0; i < std::size(Written::kAll); ++i) {
      const auto part = Written::kAll[i];
      Agreement agreement;
      agreement.Add(cpu.*part, got.*part);
      agreement.ExpectClose(names[i]);
      if (part == &Written::v || part == &Written::v_cache) {
        EXPECT_TRUE(testing::SameBits(cpu.*part, got.*part));
      }
      // fp64 cancels where fp32 does not, so a rotated sum near zero may be more than a step off.
      ASSERT_EQ((reference.*part).size(), (got.*part).size());
      for (size_t j = 0; j < (got.*part).size(); ++j) {
        const float want = ToFloat((reference.*part)[j]), have = ToFloat((got.*part)[j]);
        ASSERT_LE(std::abs(want - have), std::abs(want) * 0x1p-7f + 1e-5f) << names[i] << " " << j;
      }
    }
  }
}

TEST_P(HeadNormRopeCudas, CachesAreFilledWithoutTheRowsToo) {
  const Batch b(GetParam(), 40, 13);
  const Written both = OnGpu(b), caches = OnGpu(b, /*rows_wanted=*/false);
  EXPECT_TRUE(testing::SameBits(both.k_cache, caches.k_cache));
  EXPECT_TRUE(testing::SameBits(both.v_cache, caches.v_cache));
  EXPECT_TRUE(testing::SameBits(both.index_cache, caches.index_cache));
  EXPECT_TRUE(testing::SameBits(both.q, caches.q));
  for (Bf16 x : caches.k) ASSERT_EQ(x, kFill);
}

TEST_P(HeadNormRopeCudas, HeadsDoNotDependOnCompany) {
  Batch b(GetParam(), 50, 14);
  const Shape& s = b.shape;
  const Written before = OnGpu(b);
  // A NaN stays in its head; another row stays as it is.
  b.x[static_cast<size_t>(7 * b.stride + s.dim)] = std::numeric_limits<float>::quiet_NaN();
  const Written after = OnGpu(b);
  EXPECT_TRUE(testing::SameBits(before.k, after.k));
  EXPECT_TRUE(testing::SameBits(before.index_q, after.index_q));
  int64_t nans = 0;
  for (size_t i = 0; i < before.q.size(); ++i) {
    const auto at = static_cast<int64_t>(i) - 7 * s.q_width() - s.dim;
    if (at < 0 || at >= s.dim) {
      ASSERT_EQ(before.q[i], after.q[i]) << i;
    } else {
      nans += std::isnan(ToFloat(after.q[i])) ? 1 : 0;
    }
  }
  EXPECT_GE(nans, s.gains ? s.dim : 1);
  Batch one(s, 1, 14);
  one.x.assign(b.x.begin() + 9 * b.stride, b.x.begin() + 10 * b.stride);
  const int64_t half = s.rotary_dim / 2;
  if (half > 0) {
    one.cos.assign(b.cos.begin() + 9 * half, b.cos.begin() + 10 * half);
    one.sin.assign(b.sin.begin() + 9 * half, b.sin.begin() + 10 * half);
  }
  const Written alone = OnGpu(one);
  EXPECT_TRUE(std::equal(alone.q.begin(), alone.q.end(), after.q.begin() + 9 * s.q_width()));
  EXPECT_TRUE(std::equal(alone.k.begin(), alone.k.end(), after.k.begin() + 9 * s.kv_width()));
}

INSTANTIATE_TEST_SUITE_P(Shapes, HeadNormRopeCudas, ::testing::ValuesIn(kShapes));

TEST(HeadNormRopeCuda, RefusesWhatItIsNotMadeFor) {
  HeadNormRopeCudaParams p{};
  p.heads = p.kv_heads = 1;
  p.dim = 96;
  EXPECT_EQ(HeadNormRopeCuda(p, nullptr), cudaErrorInvalidValue);
  p.dim = 64;
  p.rotary_dim = 66;
  EXPECT_EQ(HeadNormRopeCuda(p, nullptr), cudaErrorInvalidValue);
  p.rotary_dim = 64;
  p.index_heads = 1;
  p.index_dim = 32;
  EXPECT_EQ(HeadNormRopeCuda(p, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace lectern::kernels
