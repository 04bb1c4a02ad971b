#include "kernels/prefill_index/prefill_index.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "tests/kernels/cuda/device.h"
#include "tests/kernels/prefill_sequence/paged.h"

namespace lectern::kernels {
namespace {

using testing::Check;
using testing::Chunk;
using testing::DeviceArray;
using testing::kPage;
using testing::Layout;

constexpr double kTie = 1e-5;  // of |q||k|: what fp32 sums may confuse

// Block maxima in fp64, NaN as minus infinity: [rows * heads][blocks].
__global__ void BlockMaxima(const Bf16* q, const Bf16* keys, const int32_t* table,
                            const PrefillSequence* sequences, int heads, int dim, int blocks,
                            double* out) {
  const PrefillSequence s = sequences[blockIdx.y];
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t row = at / blocks / heads;
  const int block = static_cast<int>(at % blocks), head = static_cast<int>(at / blocks % heads);
  if (row >= s.rows || block >= (s.first + row) / kPage) return;
  const Bf16* left = q + ((s.row + row) * heads + head) * dim;
  const Bf16* right = keys + int64_t{table[s.page_begin + block]} * kPage * dim;
  double best = -INFINITY;
  for (int j = 0; j < kPage; ++j) {
    double sum = 0;
    for (int i = 0; i < dim; ++i)
      sum += double{__uint_as_float(left[i].bits << 16)} *
             double{__uint_as_float(right[j * dim + i].bits << 16)};
    if (sum > best) best = sum;
  }
  out[((s.row + row) * heads + head) * blocks + block] = best;
}

struct Shape {
  int heads = 4, dim = 128, topk = 16;
};

struct Batch {
  Shape shape;
  Layout layout;
  std::vector<Bf16> q, keys;

  Batch(const Shape& shape, const std::vector<Chunk>& chunks, uint64_t seed, float scale = 1.0f)
      : shape(shape), layout(chunks, seed) {
    testing::Noise noise(seed + 1);
    q = noise.Normals(size_t(layout.rows) * shape.heads * shape.dim);
    keys = layout.Pool(1, shape.dim, noise, scale);
  }
};

std::vector<int32_t> Select(const Batch& b, int splits) {
  const Layout& l = b.layout;
  const DeviceArray<Bf16> q(b.q), keys(b.keys);
  const DeviceArray<int32_t> table(l.table);
  const DeviceArray<PrefillSequence> sequences(l.sequences);
  DeviceArray<int32_t> selected(size_t(l.rows) * b.shape.heads * b.shape.topk);
  selected.Fill(0x7e);
  PrefillIndexParams p{};
  p.q = q.get();
  p.q_row_stride = b.shape.heads * b.shape.dim;
  p.keys = keys.get();
  l.Describe(table, sequences, p);
  p.heads = b.shape.heads;
  p.dim = b.shape.dim;
  p.topk = b.shape.topk;
  p.selected = selected.get();
  p.splits = splits > 0 ? splits : PrefillIndexSplits(p, 132);
  const DeviceArray<uint8_t> workspace(PrefillIndexWorkspaceBytes(p));
  p.workspace = workspace.get();
  Check(PrefillIndex(p, nullptr), "PrefillIndex");
  Check(cudaDeviceSynchronize(), "PrefillIndex ran");
  return selected.Host();
}

std::string List(const int32_t* ids, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += std::to_string(ids[i]) + " ";
  return out;
}

double Norm(const Bf16* x, int dim) {
  double sum = 0;
  for (int i = 0; i < dim; ++i) sum += double{ToFloat(x[i])} * ToFloat(x[i]);
  return std::sqrt(sum);
}

// Every row's set is the fp64 set but for ties, which are counted. Shows the first wrong rows.
int CheckSelection(const Batch& b, const std::vector<int32_t>& got, const char* name) {
  const Layout& l = b.layout;
  const int heads = b.shape.heads, dim = b.shape.dim, topk = b.shape.topk;
  const int blocks = (l.max_tokens + kPage - 1) / kPage;
  DeviceArray<double> maxima(size_t(l.rows) * heads * blocks);
  {
    const DeviceArray<Bf16> q(b.q), keys(b.keys);
    const DeviceArray<int32_t> table(l.table);
    const DeviceArray<PrefillSequence> sequences(l.sequences);
    const int64_t threads = int64_t{l.max_rows} * heads * blocks;
    BlockMaxima<<<dim3(unsigned(threads / 128 + 1), unsigned(l.sequences.size())), 128>>>(
        q.get(), keys.get(), table.get(), sequences.get(), heads, dim, blocks, maxima.get());
    Check(cudaDeviceSynchronize(), "reference");
  }
  const std::vector<double> scores = maxima.Host();
  int wrong = 0, ties = 0;
  for (const PrefillSequence& s : l.sequences) {
    double key_norm = 0;
    for (int t = 0; t < l.Tokens(s); ++t) {
      const double norm = Norm(b.keys.data() + l.Slot(s, t) * dim, dim);
      if (std::isfinite(norm)) key_norm = std::max(key_norm, norm);
    }
    for (int64_t at = int64_t{s.row} * heads; at < int64_t{s.row + s.rows} * heads; ++at) {
      const int own = static_cast<int>((s.first + at / heads - s.row) / kPage);
      const int wanted = std::min(topk - 1, own);
      const double* score = scores.data() + at * blocks;
      std::vector<int32_t> order(own);
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + wanted, order.end(), [&](int x, int y) {
        return score[x] != score[y] ? score[x] > score[y] : x < y;
      });
      std::vector<int32_t> want(order.begin(), order.begin() + wanted);
      std::sort(want.begin(), want.end());
      want.push_back(own);
      want.resize(topk, -1);
      const int32_t* have = got.data() + at * topk;
      if (std::equal(want.begin(), want.end(), have)) continue;
      bool form = have[wanted] == own;
      for (int i = 0; i < topk; ++i) {
        if (i < wanted) form &= have[i] >= 0 && have[i] < own && (i == 0 || have[i] > have[i - 1]);
        if (i > wanted) form &= have[i] == -1;
      }
      double worst = 0;
      if (form) {
        const double bar = score[order[wanted - 1]];
        for (int i = 0; i < wanted; ++i)
          if (score[have[i]] < bar) worst = std::max(worst, bar - score[have[i]]);
      }
      if (form && worst <= kTie * key_norm * Norm(b.q.data() + at * dim, dim)) {
        ++ties;
        continue;
      }
      if (++wrong <= 3)
        std::printf("  %s row %d head %d own %d form %d off by %g\n   want %s\n   got  %s\n", name,
                    int(at / heads), int(at % heads), own, form, worst,
                    List(want.data(), topk).c_str(), List(have, topk).c_str());
    }
  }
  EXPECT_EQ(wrong, 0) << name << ": rows of " << int64_t{l.rows} * heads;
  if (ties > 0) std::printf("  %s: %d ties\n", name, ties);
  return ties;
}

void Verify(const Shape& shape, const std::vector<Chunk>& chunks, int splits, uint64_t seed = 7) {
  const Batch batch(shape, chunks, seed);
  char name[128];
  std::snprintf(name, sizeof name, "h%d d%d k%d first %d rows %d x%zu splits %d", shape.heads,
                shape.dim, shape.topk, chunks[0].first, chunks[0].rows, chunks.size(), splits);
  CheckSelection(batch, Select(batch, splits), name);
}

class PrefillIndexTest : public ::testing::Test {
  void SetUp() override {
    if (!testing::HaveHopper()) GTEST_SKIP() << "needs a GPU of compute capability 9.0";
  }
};

TEST_F(PrefillIndexTest, OneTileOfEachShape) {
  for (int dim : {64, 128})
    for (int heads : {1, 2, 3, 4, 8}) Verify({heads, dim, 16}, {{2560, 64}}, 1);
}

TEST_F(PrefillIndexTest, Lengths) {
  for (int tokens : {1, 15, 16, 127, 128, 129, 2047, 2048, 2049, 4095, 4097}) {
    Verify({4, 128, 16}, {{0, tokens}}, 1);
    Verify({2, 64, 16}, {{0, tokens}}, 1);
  }
}

TEST_F(PrefillIndexTest, ChunksAnywhere) {
  for (const Chunk& c : {Chunk{100, 200}, Chunk{4000, 77}, Chunk{4095, 1}, Chunk{3968, 130},
                         Chunk{2047, 65}, Chunk{8191, 129}})
    for (int splits : {1, 3}) {
      Verify({4, 128, 16}, {c}, splits);
      Verify({2, 64, 16}, {c}, splits);
    }
}

TEST_F(PrefillIndexTest, BudgetsFromOneBlockToAll) {
  for (int topk : {1, 2, 7, 15}) Verify({4, 128, topk}, {{5000, 300}}, topk == 7 ? 4 : 1);
}

TEST_F(PrefillIndexTest, BatchOfMixedLengths) {
  Verify({4, 128, 16}, {{0, 1}, {1000, 333}, {4096, 64}, {127, 2}, {0, 700}}, 1);
  Verify({2, 64, 16}, {{0, 1}, {1000, 333}, {4096, 64}, {127, 2}, {0, 700}}, 5);
}

TEST_F(PrefillIndexTest, LongContextAndRangesAgreeBitForBit) {
  const Batch batch({4, 128, 16}, {{131072 - 40, 100}}, 11);
  const std::vector<int32_t> whole = Select(batch, 1);
  CheckSelection(batch, whole, "128K");
  for (int splits : {0, 2, 7, 33, 64}) EXPECT_EQ(Select(batch, splits), whole) << splits;
}

TEST_F(PrefillIndexTest, TwentyRunsAreTheSame) {
  const Batch batch({4, 128, 16}, {{6000, 2100}}, 12);
  const std::vector<int32_t> first = Select(batch, 1);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Select(batch, 1 + i % 3), first);
}

TEST_F(PrefillIndexTest, ChunkDoesNotMatter) {
  const Batch whole({4, 128, 16}, {{0, 5000}}, 13);
  const std::vector<int32_t> want = Select(whole, 1);
  for (const Chunk& c : {Chunk{4000, 1000}, Chunk{4937, 63}}) {
    Batch part = whole;
    part.layout.sequences = {{0, c.rows, c.first, 0}};
    part.layout.rows = part.layout.max_rows = c.rows;
    part.q.erase(part.q.begin(), part.q.begin() + int64_t{c.first} * 4 * 128);
    EXPECT_EQ(Select(part, 1),
              std::vector<int32_t>(want.begin() + int64_t{c.first} * 4 * 16, want.end()));
  }
}

TEST_F(PrefillIndexTest, EqualScoresGoToTheLowerBlock) {
  Batch batch({4, 128, 16}, {{6000, 130}}, 14);
  for (Bf16& x : batch.keys)
    if (x != Bf16{0x7fff}) x = ToBf16(0.5f);
  EXPECT_EQ(CheckSelection(batch, Select(batch, 1), "equal"), 0);
  EXPECT_EQ(CheckSelection(batch, Select(batch, 4), "equal, ranges"), 0);
  for (Bf16& x : batch.keys)
    if (x != Bf16{0x7fff}) x = ToBf16(0.0f);
  EXPECT_EQ(CheckSelection(batch, Select(batch, 1), "zero"), 0);
}

TEST_F(PrefillIndexTest, NegativeScoresOnly) {
  Batch batch({4, 128, 16}, {{6000, 130}}, 15);
  for (Bf16& x : batch.q) x = ToBf16(std::abs(ToFloat(x)));
  for (Bf16& x : batch.keys)
    if (x != Bf16{0x7fff}) x = ToBf16(-std::abs(ToFloat(x)));
  CheckSelection(batch, Select(batch, 1), "negative");
}

TEST_F(PrefillIndexTest, EverLargerScores) {  // every block enters every list
  Batch batch({4, 128, 16}, {{20000, 300}}, 16);
  for (Bf16& x : batch.q) x = ToBf16(std::abs(ToFloat(x)) + 0.1f);
  const PrefillSequence s = batch.layout.sequences[0];
  for (int t = 0; t < batch.layout.Tokens(s); ++t)
    for (int i = 0; i < 128; ++i)
      batch.keys[batch.layout.Slot(s, t) * 128 + i] = ToBf16(0.01f * float(t / kPage + 1));
  CheckSelection(batch, Select(batch, 1), "larger");
  CheckSelection(batch, Select(batch, 2), "larger, ranges");
}

TEST_F(PrefillIndexTest, NanAndInfiniteKeys) {
  Batch batch({4, 128, 16}, {{6000, 300}}, 17);
  const PrefillSequence s = batch.layout.sequences[0];
  const Bf16 nan{0x7fc0}, infinity{0x7f80}, minus{0xff80};
  testing::Noise noise(3);
  for (int i = 0; i < 40; ++i) {
    const int token = noise.Below(6000);
    batch.keys[batch.layout.Slot(s, token) * 128 + noise.Below(128)] = i % 3 == 0   ? nan
                                                                       : i % 3 == 1 ? infinity
                                                                                    : minus;
  }
  for (int i = 0; i < kPage * 128; ++i)  // a block of nothing but NaN
    batch.keys[batch.layout.Slot(s, 5 * kPage) * 128 + i] = nan;
  CheckSelection(batch, Select(batch, 1), "special");
  CheckSelection(batch, Select(batch, 3), "special, ranges");
  Batch all({4, 128, 16}, {{3000, 100}}, 18);
  for (Bf16& x : all.keys) x = nan;
  EXPECT_EQ(CheckSelection(all, Select(all, 1), "all NaN"), 0);
}

}  // namespace
}  // namespace lectern::kernels
