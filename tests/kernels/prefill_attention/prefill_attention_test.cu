#include "kernels/prefill_attention/prefill_attention.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/kernels/cuda/device.h"
#include "tests/kernels/prefill_sequence/paged.h"

namespace lectern::kernels {
namespace {

using testing::Check;
using testing::Chunk;
using testing::DeviceArray;
using testing::kPage;
using testing::Layout;

constexpr double kMaxError = 1e-2, kMaxCosineError = 1e-5, kMaxLseError = 1e-4;

struct Shape {
  int groups = 4, ratio = 16, dim = 128, topk = 16;
  __host__ __device__ int Heads() const { return groups * ratio; }
};

// fp64, a thread block per (row, head).
__global__ void Attend(const Bf16* q, const Bf16* k, const Bf16* v, const int32_t* table,
                       const PrefillSequence* sequences, int num_sequences, const int32_t* selected,
                       Shape shape, double scale, double* out, double* lse) {
  __shared__ double scores[kMaxPrefillSelected * kPage];
  __shared__ double total, high;
  const int row = blockIdx.x, head = blockIdx.y, group = head / shape.ratio;
  PrefillSequence s = sequences[0];
  for (int i = 1; i < num_sequences; ++i)
    if (sequences[i].rows > 0 && row >= sequences[i].row) s = sequences[i];
  const int position = s.first + row - s.row, dim = shape.dim;
  const Bf16* left = q + (int64_t{row} * shape.Heads() + head) * dim;
  const int32_t* blocks = selected + (int64_t{row} * shape.groups + group) * shape.topk;
  for (int i = threadIdx.x; i < shape.topk * kPage; i += blockDim.x) {
    const int block = blocks[i / kPage];
    double sum = -INFINITY;
    if (block >= 0 && block * kPage + i % kPage <= position) {
      const int64_t page = table[s.page_begin + block];
      const Bf16* key = k + ((page * shape.groups + group) * kPage + i % kPage) * dim;
      sum = 0;
      for (int c = 0; c < dim; ++c)
        sum += double{__uint_as_float(left[c].bits << 16)} *
               double{__uint_as_float(key[c].bits << 16)};
      sum *= scale;
    }
    scores[i] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    high = -INFINITY;
    for (int i = 0; i < shape.topk * kPage; ++i) high = fmax(high, scores[i]);
    total = 0;
    for (int i = 0; i < shape.topk * kPage; ++i)
      if (scores[i] != -INFINITY) total += exp(scores[i] - high);
    lse[int64_t{row} * shape.Heads() + head] = high + log(total);
  }
  __syncthreads();
  for (int c = threadIdx.x; c < dim; c += blockDim.x) {
    double sum = 0;
    for (int i = 0; i < shape.topk * kPage; ++i) {
      if (scores[i] == -INFINITY) continue;
      const int64_t page = table[s.page_begin + blocks[i / kPage]];
      const Bf16* value = v + ((page * shape.groups + group) * kPage + i % kPage) * dim;
      sum += exp(scores[i] - high) * double{__uint_as_float(value[c].bits << 16)};
    }
    out[(int64_t{row} * shape.Heads() + head) * dim + c] = total > 0 ? sum / total : 0;
  }
}

enum class Pattern { kRandom, kLocal, kSame, kSink, kStrided, kDistinct };

struct Batch {
  Shape shape;
  Layout layout;
  std::vector<Bf16> q, k, v;
  std::vector<int32_t> selected;

  Batch(const Shape& shape, const std::vector<Chunk>& chunks, Pattern pattern, uint64_t seed)
      : shape(shape), layout(chunks, seed) {
    testing::Noise noise(seed + 1);
    q = noise.Normals(size_t(layout.rows) * shape.Heads() * shape.dim, 1.5f);
    k = layout.Pool(shape.groups, shape.dim, noise);
    v = layout.Pool(shape.groups, shape.dim, noise);
    for (int row = 0; row < layout.rows; ++row)
      for (int group = 0; group < shape.groups; ++group) Choose(row, group, pattern, noise);
  }

  void Choose(int row, int group, Pattern pattern, testing::Noise& noise) {
    const PrefillSequence& s = layout.SequenceOf(row);
    const int own = (s.first + row - s.row) / kPage;
    std::set<int32_t> ids = {own};
    const int wanted =
        pattern == Pattern::kSink ? std::min(own + 1, 2) : std::min(own + 1, shape.topk);
    testing::Noise same(uint64_t(group) * 77 + (pattern == Pattern::kLocal ? row / 6 : 0));
    for (int i = 0; static_cast<int>(ids.size()) < wanted; ++i) {
      int id = 0;
      switch (pattern) {
        case Pattern::kRandom:
          id = noise.Below(own);
          break;
        case Pattern::kLocal:
          id = i == 0 ? 0 : same.Below(own);
          break;
        case Pattern::kSame:
          id = same.Below(own);
          break;
        case Pattern::kSink:
          id = 0;
          break;
        case Pattern::kStrided:
          id = (i * 3 + row) % own;
          break;
        case Pattern::kDistinct:
          id = (row * wanted + i) % own;
          break;
      }
      ids.insert(id);
    }
    std::vector<int32_t> list(ids.begin(), ids.end());
    list.resize(shape.topk, -1);
    selected.insert(selected.end(), list.begin(), list.end());
  }
};

struct Answer {
  std::vector<Bf16> out;
  std::vector<float> lse;
};

Answer Attention(const Batch& b, PrefillPath path) {
  const Layout& l = b.layout;
  const DeviceArray<Bf16> q(b.q), k(b.k), v(b.v);
  const DeviceArray<int32_t> table(l.table), selected(b.selected);
  const DeviceArray<PrefillSequence> sequences(l.sequences);
  DeviceArray<Bf16> out(b.q.size());
  DeviceArray<float> lse(size_t(l.rows) * b.shape.Heads());
  out.Fill(0xff);
  lse.Fill(0xff);
  PrefillAttentionParams p{};
  p.q = q.get();
  p.q_row_stride = b.shape.Heads() * b.shape.dim;
  p.k = k.get();
  p.v = v.get();
  l.Describe(table, sequences, p);
  p.groups = b.shape.groups;
  p.ratio = b.shape.ratio;
  p.dim = b.shape.dim;
  p.topk = b.shape.topk;
  p.scale = 1.0f / std::sqrt(static_cast<float>(b.shape.dim));
  p.selected = selected.get();
  p.out = out.get();
  p.out_row_stride = p.q_row_stride;
  p.lse = lse.get();
  p.table_entries = static_cast<int64_t>(l.table.size());
  p.path = path;
  DeviceArray<uint8_t> workspace(PrefillAttentionWorkspaceBytes(p));
  workspace.Fill(0xff);
  p.workspace = workspace.get();
  Check(PrefillAttention(p, nullptr), "PrefillAttention");
  Check(cudaDeviceSynchronize(), "PrefillAttention ran");
  return {out.Host(), lse.Host()};
}

void Compare(const Batch& b, const Answer& got, const char* name) {
  const Layout& l = b.layout;
  const int heads = b.shape.Heads(), dim = b.shape.dim;
  DeviceArray<double> out(b.q.size()), lse(size_t(l.rows) * heads);
  {
    const DeviceArray<Bf16> q(b.q), k(b.k), v(b.v);
    const DeviceArray<int32_t> table(l.table), selected(b.selected);
    const DeviceArray<PrefillSequence> sequences(l.sequences);
    Attend<<<dim3(unsigned(l.rows), unsigned(heads)), 128>>>(
        q.get(), k.get(), v.get(), table.get(), sequences.get(),
        static_cast<int>(l.sequences.size()), selected.get(), b.shape,
        1.0 / std::sqrt(static_cast<double>(dim)), out.get(), lse.get());
    Check(cudaDeviceSynchronize(), "reference");
  }
  const std::vector<double> want = out.Host(), want_lse = lse.Host();
  int wrong = 0, shown = 0;
  double worst = 0, worst_cosine = 0, worst_lse = 0;
  for (int64_t at = 0; at < int64_t{l.rows} * heads; ++at) {
    double error = 0, dot = 0, left = 0, right = 0;
    int where = 0;
    for (int c = 0; c < dim; ++c) {
      const double x = ToFloat(got.out[at * dim + c]), y = want[at * dim + c];
      if (!(std::abs(x - y) <= error)) {
        error = std::abs(x - y);
        where = c;
        if (std::isnan(error)) error = INFINITY;
      }
      dot += x * y;
      left += x * x;
      right += y * y;
    }
    const double cosine = 1 - dot / std::sqrt(left * right);
    const double lse_error = std::abs(got.lse[at] - want_lse[at]);
    worst = std::max(worst, error);
    worst_cosine = std::max(worst_cosine, cosine);
    worst_lse = std::max(worst_lse, lse_error);
    if (error <= kMaxError && cosine <= kMaxCosineError && lse_error <= kMaxLseError) continue;
    ++wrong;
    if (++shown <= 3)
      std::printf(
          "  %s row %d head %d dim %d want %.5f got %.5f cosine %.2e lse want %.5f got %.5f\n",
          name, int(at / heads), int(at % heads), where, want[at * dim + where],
          ToFloat(got.out[at * dim + where]), cosine, want_lse[at], got.lse[at]);
  }
  std::printf("  %-34s max %.1e cosine %.1e lse %.1e%s\n", name, worst, worst_cosine, worst_lse,
              wrong ? "  WRONG" : "");
  EXPECT_EQ(wrong, 0) << name << ": of " << int64_t{l.rows} * heads;
}

void Verify(const Shape& shape, const std::vector<Chunk>& chunks, Pattern pattern) {
  const Batch batch(shape, chunks, pattern, 5);
  for (const PrefillPath path : {PrefillPath::kUnion, PrefillPath::kGather}) {
    char name[128];
    std::snprintf(name, sizeof name, "%s g%d r%d d%d k%d %d+%d x%zu p%d",
                  path == PrefillPath::kUnion ? "union" : "gather", shape.groups, shape.ratio,
                  shape.dim, shape.topk, chunks[0].first, chunks[0].rows, chunks.size(),
                  static_cast<int>(pattern));
    Compare(batch, Attention(batch, path), name);
  }
}

class PrefillAttentionTest : public ::testing::Test {
  void SetUp() override {
    if (!testing::HaveHopper()) GTEST_SKIP() << "needs a GPU of compute capability 9.0";
  }
};

TEST_F(PrefillAttentionTest, OneBlock) {
  Verify({1, 16, 128, 1}, {{0, 8}}, Pattern::kRandom);
  Verify({1, 16, 128, 1}, {{120, 8}}, Pattern::kRandom);
  Verify({1, 4, 64, 1}, {{0, 32}}, Pattern::kRandom);
}

TEST_F(PrefillAttentionTest, Patterns) {
  for (const Pattern pattern : {Pattern::kSame, Pattern::kLocal, Pattern::kRandom, Pattern::kSink,
                                Pattern::kStrided, Pattern::kDistinct}) {
    Verify({4, 16, 128, 16}, {{6000, 130}}, pattern);
    Verify({2, 4, 64, 16}, {{6000, 130}}, pattern);
  }
}

TEST_F(PrefillAttentionTest, RatiosAndGroups) {
  for (int dim : {64, 128})
    for (int ratio : {1, 2, 3, 4, 7, 8, 12, 16})
      Verify({ratio == 3 ? 8 : 1, ratio, dim, 16}, {{3000, 150}}, Pattern::kLocal);
}

TEST_F(PrefillAttentionTest, Lengths) {
  for (int tokens : {1, 15, 16, 127, 128, 129, 2047, 2049}) {
    Verify({1, 16, 128, 16}, {{0, tokens}}, Pattern::kLocal);
    Verify({2, 4, 64, 16}, {{0, tokens}}, Pattern::kRandom);
  }
}

TEST_F(PrefillAttentionTest, EveryBlockIsDense) {
  Verify({4, 16, 128, 16}, {{1900, 148}}, Pattern::kRandom);
  Verify({2, 4, 64, 16}, {{1900, 148}}, Pattern::kRandom);
}

TEST_F(PrefillAttentionTest, BatchOfMixedLengths) {
  Verify({4, 16, 128, 16}, {{0, 1}, {1000, 33}, {4096, 64}, {127, 2}, {0, 70}}, Pattern::kLocal);
  Verify({2, 4, 64, 16}, {{0, 1}, {1000, 33}, {4096, 64}, {127, 2}, {0, 70}}, Pattern::kRandom);
}

// Same bits whatever stands beside a row.
void VerifyChunks(PrefillPath path) {
  const Batch whole({2, 16, 128, 16}, {{3000, 400}}, Pattern::kLocal, 9);
  const Answer want = Attention(whole, path);
  for (int i = 0; i < 20; ++i) {
    const Answer again = Attention(whole, path);
    EXPECT_TRUE(again.out == want.out && again.lse == want.lse);
  }
  for (const int skip : {1, 3, 8, 397}) {  // the rows behind `skip` alone
    Batch part = whole;
    part.layout.sequences = {{0, 400 - skip, 3000 + skip, 0}};
    part.layout.rows = part.layout.max_rows = 400 - skip;
    part.q.erase(part.q.begin(), part.q.begin() + int64_t{skip} * 32 * 128);
    part.selected.erase(part.selected.begin(), part.selected.begin() + int64_t{skip} * 2 * 16);
    const Answer got = Attention(part, path);
    EXPECT_TRUE(
        std::equal(got.out.begin(), got.out.end(), want.out.begin() + int64_t{skip} * 32 * 128))
        << skip;
    EXPECT_TRUE(std::equal(got.lse.begin(), got.lse.end(), want.lse.begin() + skip * 32)) << skip;
  }
}

TEST_F(PrefillAttentionTest, UnionTwentyRunsAndAnyChunkAreTheSame) {
  VerifyChunks(PrefillPath::kUnion);
}

TEST_F(PrefillAttentionTest, GatherTwentyRunsAndAnyChunkAreTheSame) {
  VerifyChunks(PrefillPath::kGather);
}

TEST_F(PrefillAttentionTest, DeviceChoosesByOverlap) {
  const Shape shape{4, 16, 128, 16};
  const Batch alike(shape, {{12000, 130}}, Pattern::kSame, 5);
  EXPECT_TRUE(Attention(alike, PrefillPath::kMeasure).out ==
              Attention(alike, PrefillPath::kUnion).out);
  const Batch different(shape, {{12000, 130}}, Pattern::kRandom, 5);
  const Answer measured = Attention(different, PrefillPath::kMeasure);
  EXPECT_TRUE(measured.out == Attention(different, PrefillPath::kGather).out);
  EXPECT_FALSE(measured.out == Attention(different, PrefillPath::kUnion).out);
}

}  // namespace
}  // namespace lectern::kernels
