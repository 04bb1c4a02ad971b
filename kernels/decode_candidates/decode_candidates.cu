#include "kernels/decode_candidates/decode_candidates.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"
#include "kernels/decode_attention/choose.h"
#include "kernels/decode_score/spans.h"
#include "kernels/decode_score/tile.h"
#include "kernels/index_codes/rotate.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRound = 32;
constexpr int kColumnsOfTile = 4;  // two limbs of each
constexpr int kLimb = 254;         // of the high limb's unit, one of the low limb
constexpr int kStripes = 32;  // blocks of threads that share a (row, group) in the second kernel

// What a query's limbs leave out.
struct QueryBound {
  float scale;  // of one unit of the low limb
  float error;  // |e|
  float taken;  // |p|
  float norm;   // |q|
};

// One query by a warp: its limbs as two rows of codes, and its bound.
template <int kDim>
__device__ __forceinline__ void SplitQuery(const Bf16* q, int8_t* high, int8_t* low,
                                           QueryBound* bound) {
  constexpr int kHeld = kDim / 32;
  constexpr float kUp = 1.000001f, kRotationError = 1e-6f;
  const int lane = threadIdx.x % 32;
  float x[kHeld], norm = 0, largest = 0;
  LoadVector<kDim>(q, x);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) norm = fmaf(x[i], x[i], norm);
  norm = WarpSum(norm);
  const bool finite = norm < INFINITY;
  Rotate<kDim>(x);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) largest = fmaxf(largest, fabsf(x[i]));
  largest = WarpMax(largest);
  const float scale = largest > 0 ? largest / 127 : 1.0f;
  float error = 0, taken = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const float units = finite ? x[i] / scale : 0.0f;
    const float h = fminf(fmaxf(rintf(units), -127.0f), 127.0f);
    const float l = fminf(fmaxf(rintf((units - h) * kLimb), -127.0f), 127.0f);
    const float p = (h * kLimb + l) * (scale / kLimb);
    error = fmaf(x[i] - p, x[i] - p, error);
    taken = fmaf(p, p, taken);
    high[lane * kHeld + i] = static_cast<int8_t>(h);
    low[lane * kHeld + i] = static_cast<int8_t>(l);
  }
  error = WarpSum(error);
  taken = WarpSum(taken);
  if (lane == 0) {
    const float length = sqrtf(norm) * kUp;
    *bound = finite ? QueryBound{scale / kLimb, sqrtf(error) * kUp + kRotationError * length,
                                 sqrtf(taken) * kUp, length}
                    : QueryBound{0, INFINITY, 0, 0};
  }
}

template <int kDim, int kTiles, int kStages>
struct alignas(128) CodesShared {
  int8_t codes[kStages][kBlockTokens * kDim];
  int8_t limbs[8 * kTiles][kDim];
  int maxima[kRound][kWarps][kColumnsOfTile * kTiles];
  QueryBound bound[kColumnsOfTile * kTiles];
  uint64_t full[kStages], empty[kStages];
};

// As ScorePaged of decode_score.cu, with codes for keys and whole numbers for scores; a span has a
// row of the grid.
template <int kDim, int kTiles, int kStages>
__global__ void __launch_bounds__(kThreads + 32, 1) BoundScores(DecodeCandidatesParams p) {
#if __CUDA_ARCH__ >= 900
  constexpr int kPageBytes = kBlockTokens * kDim;
  auto& s = *reinterpret_cast<CodesShared<kDim, kTiles, kStages>*>(DynamicShared());
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(&s.full[i], 1);
      hopper::InitBarrier(&s.empty[i], kWarps);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  WaitForEarlierKernels();
  LetNextKernelStart();
  const DecodeSpan span = SpanAt(p.score, blockIdx.y);
  const int32_t* pages = p.score.pages + span.request * p.score.pages_stride + span.first_block;
  const int step = gridDim.x, first = blockIdx.x;
  const int room = static_cast<int>(p.score.pages_stride) - span.first_block;
  const int first_page =
      warp == kWarps && first + lane * step < room ? pages[first + lane * step] : 0;
  const int total = SpanBlocks(p.score, span);
  const int turns = max(0, (total - first + step - 1) / step);
  if (warp == kWarps) {
    for (int base = 0; base < turns; base += 32) {
      int mine = first_page;
      if (base > 0) mine = base + lane < turns ? pages[first + (base + lane) * step] : 0;
      for (int i = 0; i < min(32, turns - base); ++i) {
        const int64_t page = __shfl_sync(kAllLanes, mine, i);
        const int stage = (base + i) % kStages;
        if (lane == 0) {
          if (base + i >= kStages) hopper::Wait(&s.empty[stage], ((base + i) / kStages - 1) & 1);
          hopper::ArriveExpecting(&s.full[stage], kPageBytes);
          hopper::CopyBytes(s.codes[stage], p.codes + page * kPageBytes, kPageBytes,
                            &s.full[stage]);
        }
        __syncwarp();
      }
    }
    return;
  }
  const int columns = span.rows * p.score.heads;
  if (p.open != nullptr && blockIdx.x == 0 && threadIdx.x < columns)
    p.open[span.first_row * p.score.heads + threadIdx.x] = 0;
  for (int c = warp; c < kColumnsOfTile * kTiles; c += kWarps) {
    int8_t* high = s.limbs[8 * (c / kColumnsOfTile) + 2 * (c % kColumnsOfTile)];
    if (c < columns) {
      SplitQuery<kDim>(p.score.q + (int64_t{span.first_row} * p.score.heads + c) * kDim, high,
                       high + kDim, &s.bound[c]);
    } else {
      for (int i = lane; i < 2 * kDim; i += 32) high[i] = 0;
    }
  }
  NamedBarrier(1, kThreads);
  uint4 q[kTiles][kDim / 64];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int j = 0; j < kDim / 64; ++j)
      q[n][j] = *reinterpret_cast<const uint4*>(&s.limbs[8 * n + g][64 * j + 16 * t]);
  }
  for (int base = 0; base < turns; base += kRound) {
    const int count = min(kRound, turns - base);
    for (int i = 0; i < count; ++i) {
      const int stage = (base + i) % kStages;
      hopper::Wait(&s.full[stage], ((base + i) / kStages) & 1);
      const int8_t* row = s.codes[stage] + (warp * 16 + g) * kDim + 16 * t;
      uint4 low[kDim / 64], high[kDim / 64];
#pragma unroll
      for (int j = 0; j < kDim / 64; ++j) {
        low[j] = *reinterpret_cast<const uint4*>(row + 64 * j);
        high[j] = *reinterpret_cast<const uint4*>(row + 8 * kDim + 64 * j);
      }
      __syncwarp();
      if (lane == 0) hopper::Arrive(&s.empty[stage]);
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        int c[4] = {0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < kDim / 64; ++j) {
          MultiplyAddCodes(c, low[j].x, high[j].x, low[j].y, high[j].y, q[n][j].x, q[n][j].y);
          MultiplyAddCodes(c, low[j].z, high[j].z, low[j].w, high[j].w, q[n][j].z, q[n][j].w);
        }
        int best = max(c[0] * kLimb + c[1], c[2] * kLimb + c[3]);
#pragma unroll
        for (int d = 4; d < 32; d *= 2) best = max(best, __shfl_xor_sync(kAllLanes, best, d));
        if (lane < kColumnsOfTile) s.maxima[i][warp][kColumnsOfTile * n + lane] = best;
      }
    }
    NamedBarrier(1, kThreads);
    for (int i = threadIdx.x; i < count * kColumnsOfTile * kTiles; i += kThreads) {
      const int column = i % (kColumnsOfTile * kTiles), turn = i / (kColumnsOfTile * kTiles);
      if (column >= columns) continue;
      int best = s.maxima[turn][0][column];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) best = max(best, s.maxima[turn][w][column]);
      const int block = first + (base + turn) * step;
      const IndexCodesBound k = p.bounds[pages[block]];
      const QueryBound b = s.bound[column];
      const float middle = static_cast<float>(best) * b.scale * k.scale;
      const float error =
          b.error * k.max_k + b.taken * k.max_error + kScoreSlack * b.norm * k.max_k;
      p.intervals[(int64_t{span.first_row} * p.score.heads + column) * p.score.scores_stride +
                  span.first_block + block] = error < INFINITY
                                                  ? ScoreInterval{middle - error, middle + error}
                                                  : ScoreInterval{-INFINITY, INFINITY};
    }
    NamedBarrier(1, kThreads);
  }
#endif
}

// The blocks of a stripe that the bounds leave open, from the bf16 keys; minus infinity for others.
template <int kDim>
__global__ void __launch_bounds__(kThreads) ScoreOpen(DecodeCandidatesParams p) {
  __shared__ unsigned lane_max[kWarps][32];
  __shared__ int list[kThreads];
  alignas(16) __shared__ float maxima[kRound][kWarps][8];
  __shared__ int found;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row_group = blockIdx.y;
  const int row = static_cast<int>(row_group) / p.score.heads;
  const int head = static_cast<int>(row_group) % p.score.heads;
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int own = p.score.positions[row] / kBlockTokens, want = p.topk - 1;
  if (own <= want) return;  // all are chosen, without scores
  const int request = p.row_requests != nullptr ? p.row_requests[row] : row / p.score.span_rows;
  const int32_t* pages = p.score.pages + request * p.score.pages_stride;
  const ScoreInterval* intervals = p.intervals + row_group * p.score.scores_stride;
  float* scores = p.score.scores + row_group * p.score.scores_stride;
  unsigned best = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < own; i += kThreads)
    best = max(best, Ordered(__ldcg(&intervals[i].low)));
  const unsigned bound = BoundOfBest<kThreads>(best, want, lane_max);
  Queries<kDim, 1> q;
  LoadQueries(p.score.q + int64_t{row} * p.score.heads * kDim, p.score.heads, q);
  for (int first = blockIdx.x; first < own; first += kStripes * kThreads) {
    __syncthreads();
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    const int mine = first + static_cast<int>(threadIdx.x) * kStripes;
    if (mine < own) {
      if (Ordered(__ldcg(&intervals[mine].high)) >= bound)
        list[atomicAdd(&found, 1)] = mine;
      else
        scores[mine] = -INFINITY;
    }
    __syncthreads();
    if (p.open != nullptr && threadIdx.x == 0 && found > 0) atomicAdd(&p.open[row_group], found);
    for (int base = 0; base < found; base += kRound) {
      const int count = min(kRound, found - base);
      for (int i = 0; i < count; ++i) {
        const int64_t page = pages[list[base + i]];
        KeyTile<kDim> k;
        LoadKeys<kDim>(
            k, p.score.keys + (page * kBlockTokens + warp * 16 + lane / 4) * kDim + lane % 4 * 8);
        TileMaxima<kDim, 1>(k, q, &maxima[i][warp]);
      }
      __syncthreads();
      if (threadIdx.x < count) {
        float m = maxima[threadIdx.x][0][head];
#pragma unroll
        for (int w = 1; w < kWarps; ++w) m = fmaxf(m, maxima[threadIdx.x][w][head]);
        scores[list[base + threadIdx.x]] = m;
      }
      __syncthreads();
    }
  }
}

template <int kDim, int kTiles>
cudaError_t LaunchTiles(const DecodeCandidatesParams& p, cudaStream_t stream) {
  constexpr int kStages = 8;
  const int multiprocessors = CurrentDevice().multiprocessors, spans = p.score.num_spans;
  const cudaError_t error = Launch(BoundScores<kDim, kTiles, kStages>,
                                   {.grid = dim3(std::max(1, multiprocessors / spans), spans),
                                    .threads = kThreads + 32,
                                    .shared = sizeof(CodesShared<kDim, kTiles, kStages>),
                                    .overlap = true},
                                   stream, p);
  if (error != cudaSuccess) return error;
  return Launch(
      ScoreOpen<kDim>,
      {.grid = dim3(kStripes, p.rows * p.score.heads), .threads = kThreads, .overlap = true},
      stream, p);
}

template <int kDim>
cudaError_t LaunchDim(const DecodeCandidatesParams& p, cudaStream_t stream) {
  const int columns = p.score.span_rows * p.score.heads;
  if (columns <= 4) return LaunchTiles<kDim, 1>(p, stream);
  if (columns <= 8) return LaunchTiles<kDim, 2>(p, stream);
  return LaunchTiles<kDim, 4>(p, stream);
}

}  // namespace

int DecodeCandidates(const DecodeCandidatesParams& p, CUstream_st* stream) {
  assert(p.score.dim == 64 || p.score.dim == 128);
  assert(p.score.span_rows * p.score.heads <= 16);
  assert(p.topk >= 1 && p.topk <= 16);
  return p.score.dim == 128 ? LaunchDim<128>(p, stream) : LaunchDim<64>(p, stream);
}

}  // namespace lectern::kernels
