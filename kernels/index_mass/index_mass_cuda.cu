#include "kernels/index_mass/index_mass_cuda.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/block_tile/block_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 4;            // of a thread block; each has a block of keys at a time
constexpr int kTileKeys = 16;        // of a matrix product
constexpr int kTileColumns = 8;      // (row, head) pairs of a matrix product
constexpr int kMostColumnTiles = 4;  // of a warp
constexpr int kSumThreads = 256;
constexpr int kWidenThreads = 512;
constexpr int kHeldScores = 16;  // of a thread, in registers: all up to 8192 blocks

// Sixteen keys as a lane sees them: 8 neighbouring dims of every 32, of the rows g and g + 8. A sum
// over dims does not care about their order as long as the queries are laid out the same way.
template <int kDim>
struct Keys {
  uint4 low[kDim / 32], high[kDim / 32];
};

template <int kDim>
__device__ __forceinline__ void Load(Keys<kDim>& keys, const Bf16* tile) {
#pragma unroll
  for (int i = 0; i < kDim / 32; ++i) {
    keys.low[i] = LoadStream(tile + 32 * i);
    keys.high[i] = LoadStream(tile + 8 * kDim + 32 * i);
  }
}

// ln-sum-exp2 in the making: the greatest score and the sum of exp2(exponent (s - top)).
struct Mass {
  float top, sum;
};

// What a top stands for in differences: minus infinity minus itself must not be NaN.
__device__ __forceinline__ float Reference(float top) { return top == -INFINITY ? 0.0f : top; }

__device__ __forceinline__ void Add(Mass& m, float s0, float s1, float exponent) {
  const float top = fmaxf(m.top, fmaxf(s0, s1)), reference = Reference(top);
  m.sum = m.sum * exp2f((m.top - reference) * exponent) + exp2f((s0 - reference) * exponent) +
          exp2f((s1 - reference) * exponent);
  m.top = top;
}

__device__ __forceinline__ Mass Merge(const Mass& a, const Mass& b, float exponent) {
  const float top = fmaxf(a.top, b.top), reference = Reference(top);
  return {top, a.sum * exp2f((a.top - reference) * exponent) +
                   b.sum * exp2f((b.top - reference) * exponent)};
}

__device__ __forceinline__ Mass FromLane(const Mass& m, int mask) {
  return {__shfl_xor_sync(kAllLanes, m.top, mask), __shfl_xor_sync(kAllLanes, m.sum, mask)};
}

// A warp takes every (chunks * kWarps)-th block of keys of a request against 8 kTiles columns, a
// column being one head of one listed row. Neighbouring thread blocks have the same keys.
template <int kDim, int kTiles>
__global__ void __launch_bounds__(32 * kWarps, kTiles == 1 ? 4 : 2)
    BlockMasses(IndexMassCudaParams p, int groups) {
  const IndexMassRequest request = p.requests[blockIdx.y];
  const int chunks = static_cast<int>(gridDim.x) / groups;
  const int chunk = static_cast<int>(blockIdx.x) / groups;
  const int first_column = static_cast<int>(blockIdx.x) % groups * kTiles * kTileColumns;
  const int columns = request.count * p.heads - first_column;
  if (columns <= 0) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int g = lane / 4, t = lane % 4;
  const auto listed = [&](int column) { return request.first + (first_column + column) / p.heads; };
  const auto head = [&](int column) { return (first_column + column) % p.heads; };

  uint4 q[kTiles][kDim / 32];
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    const int column = j * kTileColumns + g;
    const bool there = column < columns;
    const Bf16* from = nullptr;
    if (there) from = p.q + p.rows[listed(column)] * p.q_row_stride + head(column) * kDim + 8 * t;
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      q[j][i] = there ? *reinterpret_cast<const uint4*>(from + 32 * i) : uint4{0, 0, 0, 0};
    }
  }
  int position[kTiles][2];  // of the columns of this lane's sums
  int64_t out[kTiles][2];   // where their results begin
  int first_own = 0x7fffffff, last = -1;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = j * kTileColumns + 2 * t + e;
      position[j][e] = -1;
      out[j][e] = 0;
      if (column >= columns) continue;
      position[j][e] = p.positions[listed(column)];
      out[j][e] = (int64_t{listed(column)} * p.heads + head(column)) * p.block_stride;
      first_own = min(first_own, position[j][e] / kBlockTokens);
      last = max(last, position[j][e]);
    }
  }
  first_own = __reduce_min_sync(kAllLanes, first_own);
  const int blocks = __reduce_max_sync(kAllLanes, last) / kBlockTokens + 1;
  const float scale = 1.0f / sqrtf(static_cast<float>(kDim)), exponent = scale * kLog2E;

  const int32_t* table = p.page_table + request.page_begin;
  const auto keys_of = [&](int page) {
    return p.keys + (int64_t{page} * kBlockTokens + g) * kDim + 8 * t;
  };
  const int step = chunks * kWarps;
  int block = chunk * kWarps + warp;
  if (block >= blocks) return;
  const Bf16* from = keys_of(table[block]);
  Keys<kDim> next;
  Load(next, from);
  for (; block < blocks; block += step) {
    const bool more = block + step < blocks;
    const Bf16* following = more ? keys_of(table[block + step]) : from;
    Mass mass[kTiles][2];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) mass[j][0] = mass[j][1] = {-INFINITY, 0.0f};
#pragma unroll 4  // more, and registers spill
    for (int tile = 0; tile < kBlockTokens / kTileKeys; ++tile) {
      const Keys<kDim> now = next;
      if (tile + 1 < kBlockTokens / kTileKeys) {
        Load(next, from + (tile + 1) * kTileKeys * kDim);
      } else if (more) {
        Load(next, following);
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        float s[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < kDim / 32; ++i) {
          MultiplyAdd(s, now.low[i].x, now.high[i].x, now.low[i].y, now.high[i].y, q[j][i].x,
                      q[j][i].y);
          MultiplyAdd(s, now.low[i].z, now.high[i].z, now.low[i].w, now.high[i].w, q[j][i].z,
                      q[j][i].w);
        }
#pragma unroll
        for (int e = 0; e < 4; ++e) s[e] = s[e] == s[e] ? s[e] : -INFINITY;
        if (block >= first_own) {  // some tokens are not visible to all
          const int token = block * kBlockTokens + tile * kTileKeys + g;
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (token + e / 2 * 8 > position[j][e % 2]) s[e] = -INFINITY;
          }
        }
        Add(mass[j][0], s[0], s[2], exponent);
        Add(mass[j][1], s[1], s[3], exponent);
      }
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        Mass m = mass[j][e];
#pragma unroll
        for (int mask = 4; mask < 32; mask <<= 1) m = Merge(m, FromLane(m, mask), exponent);
        if (g != 0 || block * kBlockTokens > position[j][e]) continue;
        p.block_lse[out[j][e] + block] =
            m.top == -INFINITY ? -INFINITY : m.top * scale + logf(m.sum);
        if (p.block_max != nullptr) p.block_max[out[j][e] + block] = m.top;
      }
    }
    from = following;
  }
}

template <typename T, typename Op>
__device__ T OverBlock(T x, T* parts, Op op) {
#pragma unroll
  for (int m = 16; m > 0; m >>= 1) x = op(x, __shfl_xor_sync(kAllLanes, x, m));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  T all = parts[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) all = op(all, parts[w]);
  return all;
}

// ln sum exp of x(0) .. x(count - 1), the same in every thread; fp64 sums in a fixed order.
template <typename X>
__device__ float LogSumExp(int count, X x) {
  __shared__ float tops[kSumThreads / 32];
  __shared__ double sums[kSumThreads / 32];
  float top = -INFINITY;
  for (int i = threadIdx.x; i < count; i += kSumThreads) top = fmaxf(top, x(i));
  top = OverBlock(top, tops, [](float a, float b) { return fmaxf(a, b); });
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kSumThreads) {
    const float v = x(i);
    if (v != -INFINITY) sum += expf(v - top);
  }
  sum = OverBlock(sum, sums, [](double a, double b) { return a + b; });
  return sum == 0 ? -INFINITY : static_cast<float>(top + log(sum));
}

// A thread block a (listed row, head).
__global__ void __launch_bounds__(kSumThreads) SumMasses(IndexMassCudaParams p) {
  const int place = blockIdx.x, head = blockIdx.y;
  const int64_t query = int64_t{place} * p.heads + head;
  const float* lse = p.block_lse + query * p.block_stride;
  const int own = p.positions[place] / kBlockTokens;
  const float visible = LogSumExp(own + 1, [&](int b) { return lse[b]; });
  if (threadIdx.x == 0) p.lse_visible[query] = visible;
  if (p.selected == nullptr) return;
  const int32_t* selected =
      p.selected + (int64_t{p.rows[place]} * p.heads + head) * p.selected_stride;
  const float inside = LogSumExp(
      p.selected_stride, [&](int i) { return selected[i] >= 0 ? lse[selected[i]] : -INFINITY; });
  if (threadIdx.x == 0) p.lse_selected[query] = inside;
}

__device__ uint32_t Ordered(float score) {
  if (score != score) score = -INFINITY;
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Larger for a larger score, at equality for the lower block.
__device__ uint64_t Key(uint32_t ordered, int block) {
  return uint64_t{ordered} << 32 | ~static_cast<uint32_t>(block);
}

// The scores of one (row, head), a thread's first ones in registers.
class Scores {
 public:
  __device__ Scores(const float* scores, int count) : scores_(scores), count_(count) {
#pragma unroll
    for (int i = 0; i < kHeldScores; ++i) {
      const int block = i * kWidenThreads + static_cast<int>(threadIdx.x);
      held_[i] = block < count ? Ordered(scores[block]) : 0;
    }
  }

  // Calls f(key) for every key of this thread.
  template <typename F>
  __device__ void Each(F f) const {
#pragma unroll
    for (int i = 0; i < kHeldScores; ++i) {
      const int block = i * kWidenThreads + static_cast<int>(threadIdx.x);
      if (block < count_) f(Key(held_[i], block));
    }
    for (int block = kHeldScores * kWidenThreads + static_cast<int>(threadIdx.x); block < count_;
         block += kWidenThreads) {
      f(Key(Ordered(scores_[block]), block));
    }
  }

 private:
  const float* scores_;
  int count_;
  uint32_t held_[kHeldScores];
};

// The key of rank `wanted` (from 1) among more than that many: bit by bit the greatest value that
// at least `wanted` keys reach. Keys differ, so exactly `wanted` reach it.
__device__ uint64_t Threshold(const Scores& scores, int wanted) {
  __shared__ unsigned counts[2];
  uint64_t threshold = 0;
  if (threadIdx.x < 2) counts[threadIdx.x] = 0;
  __syncthreads();
  for (int bit = 63; bit >= 0; --bit) {
    const uint64_t candidate = threshold | uint64_t{1} << bit;
    unsigned reach = 0;
    scores.Each([&](uint64_t key) { reach += key >= candidate ? 1 : 0; });
    reach = __reduce_add_sync(kAllLanes, reach);
    if (threadIdx.x % 32 == 0 && reach > 0) atomicAdd(&counts[bit % 2], reach);
    __syncthreads();
    reach = counts[bit % 2];
    // The other counter's readers have all passed this barrier.
    if (threadIdx.x == 0) counts[1 - bit % 2] = 0;
    __syncthreads();
    if (reach < static_cast<unsigned>(wanted)) continue;
    threshold = candidate;
    if (reach == static_cast<unsigned>(wanted)) break;
  }
  return threshold;
}

// A thread block a (listed row, head).
__global__ void __launch_bounds__(kWidenThreads) Widen(WidenSelectionCudaParams p) {
  __shared__ uint64_t found[kMaxWidenedTopk];
  __shared__ int32_t order[kMaxWidenedTopk];  // earlier blocks, best first
  __shared__ double weights[kMaxWidenedTopk + 1];
  __shared__ unsigned count;
  __shared__ int chosen;  // earlier blocks that are taken
  const int place = blockIdx.x, head = blockIdx.y, me = static_cast<int>(threadIdx.x);
  const int64_t query = int64_t{place} * p.heads + head;
  const int own = p.positions[place] / kBlockTokens;
  const int best = min(own, p.topk - 1);
  const float* lse = p.block_lse + query * p.block_stride;
  const Scores scores(p.scores + query * p.score_stride, own);
  uint64_t threshold = 0;
  if (best > 0 && best < own) threshold = Threshold(scores, best);
  if (me == 0) count = 0;
  __syncthreads();
  if (best > 0) {
    scores.Each([&](uint64_t key) {
      if (key >= threshold) found[atomicAdd(&count, 1u)] = key;
    });
  }
  __syncthreads();
  const double visible = p.lse_visible[query];
  if (me < best) {  // in whatever order they were found, keys differ: a rank is a place
    int rank = 0;
    for (int i = 0; i < best; ++i) rank += found[i] > found[me] ? 1 : 0;
    const auto block = static_cast<int32_t>(~static_cast<uint32_t>(found[me]));
    order[rank] = block;
    weights[rank + 1] = exp(lse[block] - visible);
  }
  if (me == 0) weights[0] = exp(lse[own] - visible);
  __syncthreads();
  if (me == 0) {
    double inside = 0;
    int summed = 0, taken = p.first_topk;
    for (;; taken = min(2 * taken, p.topk)) {
      for (; summed < min(taken, own + 1); ++summed) inside += weights[summed];
      if (taken == p.topk || taken > own) break;
      if (p.widen_below < 1 && inside >= double{p.widen_below}) break;
    }
    chosen = min(taken, own + 1) - 1;
    if (p.lse_selected != nullptr) {
      p.lse_selected[query] = inside == 0 || visible == -INFINITY
                                  ? -INFINITY
                                  : static_cast<float>(visible + log(inside));
    }
  }
  __syncthreads();
  const int64_t row = p.rows != nullptr ? p.rows[place] : place;
  int32_t* selected = p.selected + (row * p.heads + head) * p.selected_stride;
  if (me < chosen) {
    int rank = 0;
    for (int i = 0; i < chosen; ++i) rank += order[i] < order[me] ? 1 : 0;
    selected[rank] = order[me];
  }
  for (int i = chosen + me; i < p.selected_stride; i += kWidenThreads) {
    selected[i] = i == chosen ? own : -1;
  }
}

template <int kDim>
cudaError_t LaunchMasses(const IndexMassCudaParams& p, cudaStream_t stream) {
  const int columns = p.max_count * p.heads;
  const int tiles = columns <= kTileColumns       ? 1
                    : columns <= 2 * kTileColumns ? 2
                                                  : kMostColumnTiles;
  const int groups = (columns + tiles * kTileColumns - 1) / (tiles * kTileColumns);
  int device = 0, processors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) return error;
  const int resident = processors * (tiles == 1 ? 4 : 2);
  const int blocks = p.max_position / kBlockTokens + 1;
  const int64_t share = int64_t{groups} * p.num_requests;
  const auto chunks = static_cast<int>(
      std::clamp<int64_t>((resident + share - 1) / share, 1, (blocks + kWarps - 1) / kWarps));
  const dim3 grid(static_cast<unsigned>(chunks * groups), static_cast<unsigned>(p.num_requests));
  const auto kernel = tiles == 1   ? BlockMasses<kDim, 1>
                      : tiles == 2 ? BlockMasses<kDim, 2>
                                   : BlockMasses<kDim, kMostColumnTiles>;
  return Launch(kernel, {.grid = grid, .threads = 32 * kWarps}, stream, p, groups);
}

}  // namespace

int IndexMassCuda(const IndexMassCudaParams& p, CUstream_st* stream) {
  if (p.heads < 1 || p.heads > kTileColumns * kMostColumnTiles || (p.dim != 64 && p.dim != 128)) {
    return cudaErrorInvalidValue;
  }
  if (p.listed == 0 || p.num_requests == 0 || p.max_count == 0) return cudaSuccess;
  const cudaError_t error =
      p.dim == 64 ? LaunchMasses<64>(p, stream) : LaunchMasses<128>(p, stream);
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(p.listed), static_cast<unsigned>(p.heads));
  return Launch(SumMasses, {.grid = grid, .threads = kSumThreads}, stream, p);
}

int WidenSelectionCuda(const WidenSelectionCudaParams& p, CUstream_st* stream) {
  if (p.topk < 1 || p.topk > kMaxWidenedTopk || p.first_topk < 1 || p.first_topk > p.topk ||
      p.selected_stride < p.topk) {
    return cudaErrorInvalidValue;
  }
  if (p.listed == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.listed), static_cast<unsigned>(p.heads));
  return Launch(Widen, {.grid = grid, .threads = kWidenThreads}, stream, p);
}

}  // namespace lectern::kernels
