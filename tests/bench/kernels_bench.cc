// How near the kernels come to their limits on this machine, each limit measured in the same run:
// oneDNN's rate in one big product of the same shape for arithmetic, a plain read of memory for
// streaming kernels. Counters:
//   GFLOP/s, GB/s  as counted in the operations' headers
//   of_limit       that rate over the limit
//
// kernels_bench [--benchmark_filter=...]

#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <numeric>
#include <random>

#include "kernels/head_norm_rope/head_norm_rope.h"
#include "kernels/index_select/index_select.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/sparse_attention/sparse_attention.h"
#include "kernels/swiglu/swiglu.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "tests/kernels/support/inputs.h"

namespace lectern::kernels {
namespace {

using testing::Bf16s;
using testing::Floats;

// Of the calling thread's processor time when it is the only one (other programs then hardly show),
// else of the clock.
double Seconds(const std::function<void()>& work) {
  const auto now = [] {
    timespec t;
    clock_gettime(omp_get_max_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  work();
  return now() - start;
}

// Best of the repetitions of about a third of a second. Limits and kernels alike: the best tells
// most of the machine, the least of its other work.
double BestSeconds(const std::function<void()>& work) {
  double best = Seconds(work), total = best;
  while (total < 0.3) {
    const double t = Seconds(work);
    best = std::min(best, t);
    total += t;
  }
  return best;
}

__attribute__((target("avx2"), optimize("O3"))) uint64_t Sum(const uint64_t* words, int64_t n) {
  uint64_t sum[16] = {};
  for (int64_t i = 0; i < n; i += 16) {
    for (int j = 0; j < 16; ++j) sum[j] += words[i + j];
  }
  return std::accumulate(sum, sum + 16, uint64_t{0});
}

// Bytes per second of a sum over 512 MiB with all threads.
double ReadBandwidth() {
  static const double rate = [] {
    constexpr int64_t kWords = 64 << 20, kPiece = 1 << 17;
    const std::vector<uint64_t> memory(kWords, 1);
    uint64_t total = 0;
    const double seconds = BestSeconds([&] {
      uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum) schedule(static)
      for (int64_t i = 0; i < kWords; i += kPiece)
        sum += Sum(&memory[static_cast<size_t>(i)], kPiece);
      total += sum;
    });
    benchmark::DoNotOptimize(total);
    return kWords * 8.0 / seconds;
  }();
  return rate;
}

// FLOP per second of oneDNN in one product [rows][k] x [k][n], its own threads and layouts, in the
// type MatmulTiles uses.
double OneDnnRate(int64_t rows, int64_t n, int64_t k) {
  using dnnl::memory;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto type = MatmulUsesBf16() ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::desc x({rows, k}, type, memory::format_tag::ab);
  const memory::desc w({k, n}, type, memory::format_tag::any);
  const memory::desc y({rows, n}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, w, y), engine);
  const dnnl::matmul product(description);
  memory mx(description.src_desc(), engine), mw(description.weights_desc(), engine),
      my(description.dst_desc(), engine);
  for (const memory* m : {&mx, &mw, &my}) {
    std::memset(m->get_data_handle(), 0, m->get_desc().get_size());
  }
  const double seconds = BestSeconds([&] {
    product.execute(stream, {{DNNL_ARG_SRC, mx}, {DNNL_ARG_WEIGHTS, mw}, {DNNL_ARG_DST, my}});
    stream.wait();
  });
  return 2.0 * static_cast<double>(rows * n * k) / seconds;
}

double BigProductRate() {
  static const double rate = OneDnnRate(2048, 2048, 2048);
  return rate;
}

// Runs the loop and reports the best iteration.
void Measure(benchmark::State& state, const char* name, double amount, double limit,
             const std::function<void()>& work) {
  double best = 1e30;
  for (auto _ : state) {
    const double seconds = Seconds(work);
    state.SetIterationTime(seconds);
    best = std::min(best, seconds);
  }
  state.counters[name] = amount * 1e-9 / best;
  state.counters["of_limit"] = amount / best / limit;
}

void BM_ReadBandwidth(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(ReadBandwidth());
  state.counters["GB/s"] = ReadBandwidth() * 1e-9;
}
BENCHMARK(BM_ReadBandwidth)->Iterations(1);

void BM_BigProduct(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(BigProductRate());
  state.counters["GFLOP/s"] = BigProductRate() * 1e-9;
}
BENCHMARK(BM_BigProduct)->Iterations(1);

// tiles, N, K; limit: oneDNN in one product of the same shape.
void BM_MatmulTiles(benchmark::State& state) {
  const int64_t tiles = state.range(0), n = state.range(1), k = state.range(2);
  const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(tiles * 128 * k, 2);
  const PackedMatrix packed(w.data(), n, k);
  Floats y(static_cast<size_t>(tiles * 128 * n));
  const auto store = state.range(3) != 0 ? MatmulStore::kAdd : MatmulStore::kOverwrite;
  const double limit = OneDnnRate(tiles * 128, n, k);
  Measure(state, "GFLOP/s", 2.0 * static_cast<double>(tiles * 128 * n * k), limit, [&] {
    MatmulTiles(packed, {x.data(), y.data(), n, tiles, store});
  });
}
BENCHMARK(BM_MatmulTiles)
    ->ArgNames({"tiles", "N", "K", "add"})
    ->Args({8, 960, 512, 0})  // q, k, v, index q, index k of 8/2 heads of 64
    ->Args({8, 512, 512, 1})
    ->Args({8, 2816, 512, 0})  // gate and up
    ->Args({8, 512, 1408, 1})
    ->Args({1, 2816, 512, 0})
    ->Args({8, 8192, 512, 0})
    ->UseManualTime();

void BM_MatVec(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1), k = state.range(2);
  const Bf16s w = testing::NormalBf16s(n * k, 1), x = testing::NormalBf16s(rows * k, 2);
  const PackedMatrix packed(w.data(), n, k);
  Floats y(static_cast<size_t>(rows * n));
  Measure(state, "GB/s", 2.0 * static_cast<double>(n * k), ReadBandwidth(), [&] {
    MatVec(packed, {x.data(), k, y.data(), n, rows});
  });
}
BENCHMARK(BM_MatVec)
    ->ArgNames({"rows", "N", "K"})
    ->Args({1, 131072, 512})  // beyond every cache
    ->Args({8, 131072, 512})
    ->Args({64, 131072, 512})
    ->Args({1, 8192, 512})  // the bundled model's: from cache, may exceed memory's rate
    ->Args({1, 2816, 512})
    ->UseManualTime();

// One context's index keys, each block somewhere else in memory as in a pool.
struct IndexKeys {
  Bf16s memory;
  std::vector<const Bf16*> blocks;
  IndexKeys(int64_t count, int dim) : memory(testing::NormalBf16s(TileElements(dim) * 64, 1)) {
    memory.resize(static_cast<size_t>(count * TileElements(dim)));
    for (int64_t b = 64; b < count; ++b) {
      std::copy_n(memory.begin() + b % 64 * TileElements(dim), TileElements(dim),
                  memory.begin() + b * TileElements(dim));
    }
    // Distinct content, so that thresholds behave as on real scores.
    std::mt19937_64 random(3);
    for (size_t i = 0; i < memory.size(); i += 31)
      memory[i] = ToBf16(static_cast<float>(random() % 64) / 16 - 2);
    for (int64_t b = 0; b < count; ++b) blocks.push_back(memory.data() + b * TileElements(dim));
    std::shuffle(blocks.begin(), blocks.end(), random);
  }
};

IndexSelectParams SelectParams(const IndexKeys& keys, const Bf16s& q,
                               const std::vector<int32_t>& positions, int heads, int dim,
                               std::vector<int32_t>& selected) {
  IndexSelectParams p{};
  p.q = q.data();
  p.q_row_stride = int64_t{heads} * dim;
  p.positions = positions.data();
  p.key_blocks = keys.blocks.data();
  p.blocks = static_cast<int32_t>(keys.blocks.size());
  p.rows = static_cast<int32_t>(positions.size());
  p.heads = heads;
  p.dim = dim;
  p.topk = 16;
  selected.assign(positions.size() * static_cast<size_t>(heads) * 16, 0);
  p.selected = selected.data();
  return p;
}

// The last chunk of 1,024 rows of a context; limit: the big product.
void BM_IndexSelectPrefill(benchmark::State& state) {
  const int heads = static_cast<int>(state.range(0)), dim = static_cast<int>(state.range(1));
  const int tokens = static_cast<int>(state.range(2)), rows = 1024;
  const IndexKeys keys(tokens / 128, dim);
  const Bf16s q = testing::NormalBf16s(int64_t{rows} * heads * dim, 2);
  std::vector<int32_t> positions(rows), selected;
  std::iota(positions.begin(), positions.end(), tokens - rows);
  const IndexSelectParams p = SelectParams(keys, q, positions, heads, dim, selected);
  const double flops = 2.0 * rows * heads * dim * (tokens - rows / 2.0);
  Measure(state, "GFLOP/s", flops, BigProductRate(), [&] { IndexSelect(p); });
}
BENCHMARK(BM_IndexSelectPrefill)
    ->ArgNames({"heads", "dim", "tokens"})
    ->Args({2, 64, 8192})
    ->Args({2, 64, 32768})
    ->Args({2, 64, 131072})
    ->Args({4, 128, 131072})
    ->UseManualTime();

// One row; limit: reading the keys once.
void BM_IndexSelectDecode(benchmark::State& state) {
  const int heads = static_cast<int>(state.range(0)), dim = static_cast<int>(state.range(1));
  const int tokens = static_cast<int>(state.range(2)), rows = static_cast<int>(state.range(3));
  const IndexKeys keys(tokens / 128, dim);
  const Bf16s q = testing::NormalBf16s(int64_t{rows} * heads * dim, 2);
  std::vector<int32_t> positions(static_cast<size_t>(rows), tokens - 1), selected;
  const IndexSelectParams p = SelectParams(keys, q, positions, heads, dim, selected);
  Measure(state, "GB/s", 2.0 * tokens * dim, ReadBandwidth(), [&] { IndexSelect(p); });
}
BENCHMARK(BM_IndexSelectDecode)
    ->ArgNames({"heads", "dim", "tokens", "rows"})
    ->Args({2, 64, 1 << 20, 1})
    ->Args({4, 128, 1 << 20, 1})
    ->Args({2, 64, 1 << 20, 4})
    ->Args({2, 64, 131072, 1})
    ->UseManualTime();

// A context's KV heads and a chunk's tiles with random choices of 16 blocks, the own one among
// them.
struct AttentionWork {
  AttentionShape shape;
  std::vector<Bf16s> k, v;
  Bf16s q;
  Floats states;
  Bf16s out;
  std::vector<int32_t> positions;
  std::vector<std::vector<int32_t>> rows;
  std::vector<std::vector<AttentionBlock>> blocks;
  std::vector<AttentionTile> tiles;
  double visible_tokens = 0;  // over rows and KV heads

  AttentionWork(int kv_heads, int heads, int dim, int tokens, int count, int chosen)
      : shape{heads, dim, 1.0f / std::sqrt(static_cast<float>(dim))} {
    const int all = tokens / 128;
    for (int b = 0; b < all * kv_heads; ++b) {
      k.push_back(testing::NormalBf16s(TileElements(dim), static_cast<uint64_t>(b)));
      v.push_back(testing::NormalBf16s(TileElements(dim), static_cast<uint64_t>(b) + 1000000));
    }
    positions.resize(static_cast<size_t>(count));
    std::iota(positions.begin(), positions.end(), tokens - count);
    q = testing::NormalBf16s(int64_t{count} * kv_heads * heads * dim, 7);
    out.resize(q.size());
    std::mt19937_64 random(9);
    const int tile_count = (count + 127) / 128 * kv_heads;
    const int64_t state_floats = AttentionStateFloats(shape, 128);
    states.resize(static_cast<size_t>(tile_count * state_floats));
    rows.reserve(static_cast<size_t>(tile_count * all));
    for (int g = 0; g < kv_heads; ++g) {  // neighbours share keys and values
      for (int first = 0; first < count; first += 128) {
        const int n = std::min(128, count - first);
        std::vector<std::vector<int32_t>> lists(static_cast<size_t>(all));
        for (int r = 0; r < n; ++r) {
          const int own = positions[static_cast<size_t>(first + r)] / 128;
          lists[static_cast<size_t>(own)].push_back(r);
          std::vector<int> earlier(static_cast<size_t>(own));
          std::iota(earlier.begin(), earlier.end(), 0);
          std::shuffle(earlier.begin(), earlier.end(), random);
          const int others = std::min(own, chosen - 1);
          for (int i = 0; i < others; ++i)
            lists[static_cast<size_t>(earlier[static_cast<size_t>(i)])].push_back(r);
          visible_tokens += 128.0 * others + positions[static_cast<size_t>(first + r)] % 128 + 1;
        }
        blocks.emplace_back();
        for (int b = 0; b < all; ++b) {
          rows.push_back(lists[static_cast<size_t>(b)]);
          const size_t at = static_cast<size_t>(g * all + b);
          if (rows.back().empty()) continue;
          blocks.back().push_back({b, k[at].data(), v[at].data(), rows.back().data(),
                                   static_cast<int32_t>(rows.back().size())});
        }
        AttentionTile t;
        t.q = q.data() + (int64_t{first} * kv_heads + g) * heads * dim;
        t.q_row_stride = int64_t{kv_heads} * heads * dim;
        t.q_head_stride = dim;
        t.positions = positions.data() + first;
        t.rows = n;
        t.state = states.data() + static_cast<int64_t>(tiles.size()) * state_floats;
        t.out = out.data() + (t.q - q.data());
        t.out_row_stride = t.q_row_stride;
        t.out_head_stride = dim;
        tiles.push_back(t);
      }
    }
    for (size_t i = 0; i < tiles.size(); ++i) {
      tiles[i].blocks = blocks[i].data();
      tiles[i].num_blocks = static_cast<int32_t>(blocks[i].size());
    }
  }

  void Run() {
    const int64_t n = static_cast<int64_t>(tiles.size());
    BeginAttention(shape, tiles.data(), n);
    AccumulateAttention(shape, tiles.data(), n);
    FinishAttention(shape, tiles.data(), n);
  }
};

void BM_AttentionPrefill(benchmark::State& state) {
  const int kv_heads = static_cast<int>(state.range(0)), heads = static_cast<int>(state.range(1));
  const int dim = static_cast<int>(state.range(2)), tokens = static_cast<int>(state.range(3));
  AttentionWork work(kv_heads, heads, dim, tokens, 1024, static_cast<int>(state.range(4)));
  Measure(state, "GFLOP/s", 4.0 * heads * dim * work.visible_tokens, BigProductRate(),
          [&] { work.Run(); });
}
BENCHMARK(BM_AttentionPrefill)
    ->ArgNames({"kv_heads", "heads", "dim", "tokens", "blocks"})
    ->Args({2, 4, 64, 8192, 16})
    ->Args({2, 4, 64, 32768, 16})
    ->Args({2, 4, 64, 131072, 16})
    ->Args({2, 4, 64, 8192, 100000})  // dense
    ->Args({4, 16, 128, 32768, 16})
    ->Args({2, 1, 64, 32768, 16})
    ->UseManualTime();

// One row; limit: reading its blocks' keys and values once.
void BM_AttentionDecode(benchmark::State& state) {
  const int kv_heads = static_cast<int>(state.range(0)), heads = static_cast<int>(state.range(1));
  const int dim = static_cast<int>(state.range(2)), tokens = static_cast<int>(state.range(3));
  AttentionWork work(kv_heads, heads, dim, tokens, 1, static_cast<int>(state.range(4)));
  Measure(state, "GB/s", 4.0 * dim * work.visible_tokens, ReadBandwidth(), [&] { work.Run(); });
}
BENCHMARK(BM_AttentionDecode)
    ->ArgNames({"kv_heads", "heads", "dim", "tokens", "blocks"})
    ->Args({2, 4, 64, 8192, 16})
    ->Args({2, 4, 64, 262144, 100000})  // dense, beyond every cache
    ->Args({4, 16, 128, 8192, 16})
    ->UseManualTime();

// Small operations; limit: the bytes they move at memory's read rate.
void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = 1024, hidden = state.range(0);
  const Floats x = testing::NormalFloats(rows * hidden, 1), w = testing::NormalFloats(hidden, 2);
  Bf16s y(static_cast<size_t>(rows * hidden));
  Measure(state, "GB/s", 6.0 * static_cast<double>(rows * hidden), ReadBandwidth(), [&] {
    RmsNorm({x.data(), hidden, w.data(), y.data(), hidden, rows, hidden, 1e-6f, NormGain::kPlain});
  });
}
BENCHMARK(BM_RmsNorm)->Arg(512)->Arg(6144)->UseManualTime();

void BM_SwiGlu(benchmark::State& state) {
  const int64_t rows = 1024, cols = state.range(0);
  const Floats x = testing::NormalFloats(rows * 2 * cols, 1);
  Bf16s y(static_cast<size_t>(rows * cols));
  Measure(state, "GB/s", 10.0 * static_cast<double>(rows * cols), ReadBandwidth(), [&] {
    SwiGlu({x.data(), x.data() + cols, 2 * cols, y.data(), cols, rows, cols});
  });
}
BENCHMARK(BM_SwiGlu)->Arg(1408)->UseManualTime();

void BM_HeadNormRope(benchmark::State& state) {
  const int64_t rows = 1024, heads = state.range(0), dim = 64;
  const Floats x = testing::NormalFloats(rows * heads * dim, 1), w = testing::NormalFloats(dim, 2);
  const Floats angles = testing::NormalFloats(rows * dim / 2, 3);
  Bf16s y(x.size());
  Measure(state, "GB/s", 6.0 * static_cast<double>(rows * heads * dim), ReadBandwidth(), [&] {
    HeadNormRope({x.data(), heads * dim, w.data(), angles.data(), angles.data(), y.data(), nullptr,
                  heads * dim, rows, static_cast<int32_t>(heads), dim, dim, 1e-6f,
                  NormGain::kPlain});
  });
}
BENCHMARK(BM_HeadNormRope)->Arg(8)->Arg(2)->UseManualTime();

void BM_Pack(benchmark::State& state) {
  const int dim = static_cast<int>(state.range(0)), blocks = 64;
  const Bf16s rows = testing::NormalBf16s(int64_t{blocks} * 128 * dim, 1);
  Bf16s tiles(rows.size());
  Measure(state, "GB/s", 4.0 * static_cast<double>(rows.size()), ReadBandwidth(), [&] {
    for (int b = 0; b < blocks; ++b) {
      const int64_t at = b * TileElements(dim);
      if (state.range(1) != 0) {
        PackValues({0, 128, dim}, rows.data() + at, dim, tiles.data() + at);
      } else {
        PackKeys({0, 128, dim}, rows.data() + at, dim, tiles.data() + at);
      }
    }
  });
}
BENCHMARK(BM_Pack)
    ->ArgNames({"dim", "values"})
    ->Args({64, 0})
    ->Args({64, 1})
    ->Args({128, 0})
    ->UseManualTime();

}  // namespace
}  // namespace lectern::kernels

BENCHMARK_MAIN();
