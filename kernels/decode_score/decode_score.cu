#include <cuda_runtime.h>

#include <algorithm>
#include <cassert>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"
#include "kernels/decode_score/decode_score.h"
#include "kernels/decode_score/score_wide.h"
#include "kernels/decode_score/spans.h"
#include "kernels/decode_score/tile.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kRound = 32;  // blocks between two exchanges of the warps' maxima

// The part of a span's (row, head) columns that a launch takes.
struct Arguments : DecodeScoreParams {
  int first_column;
};

template <int kDim, int kTiles>
__device__ __forceinline__ void LoadSpan(const Arguments& p, const DecodeSpan& span,
                                         Queries<kDim, kTiles>& q) {
  const int columns = span.rows * p.heads - p.first_column;
  LoadQueries(p.q + (int64_t{span.first_row} * p.heads + p.first_column) * kDim, columns, q);
}

// What a lane knows of one block of its warp's round.
struct Work {
  int page;
  int span;
};

// The page of flat block `at`. Of a single span it is read before it is known whether the span has
// that block: two loads at once instead of one after the other.
__device__ __forceinline__ Work FindWork(const DecodeScoreParams& p, const Spans& spans, int at) {
  if (p.num_spans == 1) {
    const DecodeSpan span = SpanAt(p, 0);
    const int64_t block = int64_t{span.first_block} + at;
    return {block < p.pages_stride ? p.pages[span.request * p.pages_stride + block] : 0, 0};
  }
  if (at >= spans.first[p.num_spans]) return {0, 0};
  const int i = SpanOf(spans, p.num_spans, at);
  const DecodeSpan span = SpanAt(p, i);
  return {p.pages[span.request * p.pages_stride + span.first_block + at - spans.first[i]], i};
}

// After a round: the maximum over the warps, one thread a (block, column).
template <int kTiles>
__device__ __forceinline__ void WriteRound(const Arguments& p, const Spans& spans, int first,
                                           int count, const float (*maxima)[kWarps][8 * kTiles]) {
  for (int i = threadIdx.x; i < count * 8 * kTiles; i += kThreads) {
    const int place = i % (8 * kTiles), column = p.first_column + place, turn = i / (8 * kTiles);
    const int at = first + turn * gridDim.x;
    const int s = p.num_spans == 1 ? 0 : SpanOf(spans, p.num_spans, at);
    const int begin = p.num_spans == 1 ? 0 : spans.first[s];
    const DecodeSpan span = SpanAt(p, s);
    if (column >= span.rows * p.heads) continue;
    float m = maxima[turn][0][place];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) m = fmaxf(m, maxima[turn][w][place]);
    p.scores[(int64_t{span.first_row} * p.heads + column) * p.scores_stride + span.first_block +
             at - begin] = m;
  }
}

// A warp of the block takes 16 tokens of every block of keys; the block takes every gridDim.x-th
// block of the flat list. kAhead: the next tile is loaded before the last one is multiplied.
template <int kDim, int kTiles, bool kAhead, int kBlocksPerSm>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm) ScoreStreamed(Arguments p) {
  __shared__ Spans spans;
  alignas(16) __shared__ float maxima[kRound][kWarps][8 * kTiles];
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int total = LayOut(p, spans);
  Queries<kDim, kTiles> q;
  int loaded = -1;
  const int64_t in_page = (int64_t{warp} * 16 + lane / 4) * kDim + lane % 4 * 8;
  for (int first = blockIdx.x; first < total; first += kRound * gridDim.x) {
    const int left = (total - first + gridDim.x - 1) / gridDim.x;
    const int count = min(kRound, left);
    const Work mine = FindWork(p, spans, first + lane * gridDim.x);
    auto keys = [&](int turn) {
      return p.keys + int64_t{__shfl_sync(kAllLanes, mine.page, turn)} * kBlockTokens * kDim +
             in_page;
    };
    KeyTile<kDim> next;
    if constexpr (kAhead) LoadKeys<kDim>(next, keys(0));
    for (int turn = 0; turn < count; ++turn) {
      KeyTile<kDim> now;
      if constexpr (kAhead) {
        now = next;
        if (turn + 1 < count) LoadKeys<kDim>(next, keys(turn + 1));
      } else {
        LoadKeys<kDim>(now, keys(turn));
      }
      const int span = __shfl_sync(kAllLanes, mine.span, turn);
      if (span != loaded) {
        LoadSpan<kDim, kTiles>(p, SpanAt(p, span), q);
        loaded = span;
      }
      TileMaxima<kDim, kTiles>(now, q, &maxima[turn][warp]);
    }
    __syncthreads();
    WriteRound<kTiles>(p, spans, first, count, maxima);
    __syncthreads();
  }
}

// The same with pages brought to shared memory by the copy engine: one more warp asks for them,
// ahead of the others. A page comes in kParts, each with its own warps, so that little memory has
// many bytes under way.
template <int kDim, int kTiles, int kStages, int kParts>
struct alignas(128) PagedShared {
  Bf16 keys[kStages][kBlockTokens / kParts * kDim];
  float maxima[kRound][kWarps][8 * kTiles];
  uint64_t full[kStages], empty[kStages];
  Spans spans;
};

template <int kDim, int kTiles, int kStages, int kParts>
__global__ void __launch_bounds__(kThreads + 32, 1) ScorePaged(Arguments p) {
#if __CUDA_ARCH__ >= 900
  static_assert(kStages % kParts == 0);
  constexpr int kPartWarps = kWarps / kParts, kPartKeys = kBlockTokens / kParts * kDim;
  auto& s = *reinterpret_cast<PagedShared<kDim, kTiles, kStages, kParts>*>(DynamicShared());
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::InitBarrier(&s.full[i], 1);
      hopper::InitBarrier(&s.empty[i], kPartWarps);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  WaitForEarlierKernels();
  LetNextKernelStart();
  Work first_work = {0, 0};
  if (warp == kWarps && p.num_spans == 1)
    first_work = FindWork(p, s.spans, blockIdx.x + lane * gridDim.x);
  const int total = LayOut(p, s.spans);
  const int turns = (total - static_cast<int>(blockIdx.x) + static_cast<int>(gridDim.x) - 1) /
                    static_cast<int>(gridDim.x);
  if (warp == kWarps) {
    for (int base = 0; base < turns; base += 32) {
      const Work mine = base == 0 && p.num_spans == 1
                            ? first_work
                            : FindWork(p, s.spans, blockIdx.x + (base + lane) * gridDim.x);
      for (int i = 0; i < min(32, turns - base); ++i) {
        const Bf16* page =
            p.keys + int64_t{__shfl_sync(kAllLanes, mine.page, i)} * kBlockTokens * kDim;
        for (int part = 0; part < kParts; ++part) {
          const int use = (base + i) * kParts + part, stage = use % kStages;
          // By one lane: another that came late could find the phase after the one it waits for.
          if (lane == 0) {
            if (use >= kStages) hopper::Wait(&s.empty[stage], (use / kStages - 1) & 1);
            hopper::ArriveExpecting(&s.full[stage], kPartKeys * 2);
            hopper::CopyBytes(s.keys[stage], page + part * kPartKeys, kPartKeys * 2,
                              &s.full[stage]);
          }
          __syncwarp();
        }
      }
    }
    return;
  }
  Queries<kDim, kTiles> q;
  int loaded = -1;
  const int part = warp / kPartWarps;
  for (int base = 0; base < turns; base += kRound) {
    const int count = min(kRound, turns - base);
    const int first = blockIdx.x + base * gridDim.x;
    for (int i = 0; i < count; ++i) {
      const int use = (base + i) * kParts + part, stage = use % kStages;
      const int at = first + i * gridDim.x;
      const int span = p.num_spans == 1 ? 0 : SpanOf(s.spans, p.num_spans, at);
      if (span != loaded) {
        LoadSpan<kDim, kTiles>(p, SpanAt(p, span), q);
        loaded = span;
      }
      hopper::Wait(&s.full[stage], (use / kStages) & 1);
      const Bf16* row = s.keys[stage] + (warp % kPartWarps * 16 + lane / 4) * kDim + lane % 4 * 8;
      KeyTile<kDim> k;
#pragma unroll
      for (int j = 0; j < kDim / 32; ++j) {
        k.low[j] = *reinterpret_cast<const uint4*>(row + 32 * j);
        k.high[j] = *reinterpret_cast<const uint4*>(row + 8 * kDim + 32 * j);
      }
      __syncwarp();
      if (lane == 0) hopper::Arrive(&s.empty[stage]);
      TileMaxima<kDim, kTiles>(k, q, &s.maxima[i][warp]);
    }
    NamedBarrier(1, kThreads);
    WriteRound<kTiles>(p, s.spans, first, count, s.maxima);
    NamedBarrier(1, kThreads);
  }
#endif
}

template <int kDim, int kTiles, int kStages, int kParts>
cudaError_t LaunchPaged(const Arguments& p, const Device& device, cudaStream_t stream) {
  return Launch(ScorePaged<kDim, kTiles, kStages, kParts>,
                {.grid = dim3(device.multiprocessors),
                 .threads = kThreads + 32,
                 .shared = sizeof(PagedShared<kDim, kTiles, kStages, kParts>),
                 .overlap = true},
                stream, p);
}

template <int kDim, int kTiles, bool kAhead, int kBlocksPerSm>
cudaError_t LaunchStreamed(const Arguments& p, const Device& device, cudaStream_t stream) {
  return Launch(ScoreStreamed<kDim, kTiles, kAhead, kBlocksPerSm>,
                {.grid = dim3(kBlocksPerSm * device.multiprocessors),
                 .threads = kThreads,
                 .overlap = device.hopper},
                stream, p);
}

template <int kDim, int kTiles>
cudaError_t LaunchColumns(const Arguments& p, DecodeScoreWay way, const Device& device,
                          cudaStream_t stream) {
  if constexpr (kTiles == 1) {
    switch (way) {
      case DecodeScoreWay::kStreamedLight:
        return LaunchStreamed<kDim, kTiles, false, 3>(p, device, stream);
      case DecodeScoreWay::kPaged:
        return LaunchPaged<kDim, kTiles, 4, 1>(p, device, stream);
      case DecodeScoreWay::kPagedDeep:
        return LaunchPaged<kDim, kTiles, 6, 1>(p, device, stream);
      case DecodeScoreWay::kHalfPaged:
        return LaunchPaged<kDim, kTiles, 4, 2>(p, device, stream);
      case DecodeScoreWay::kHalfPagedDeep:
        return LaunchPaged<kDim, kTiles, 8, 2>(p, device, stream);
      default:
        return LaunchStreamed<kDim, kTiles, true, 2>(p, device, stream);
    }
  } else if (way == DecodeScoreWay::kStreamed || way == DecodeScoreWay::kStreamedLight) {
    return LaunchStreamed < kDim, kTiles, kTiles == 2, kTiles == 2 ? 2 : 1 > (p, device, stream);
  } else {
    return LaunchPaged<kDim, kTiles, 4, 1>(p, device, stream);
  }
}

template <int kDim>
cudaError_t LaunchDim(const DecodeScoreParams& params, DecodeScoreWay way, cudaStream_t stream) {
  constexpr int kMostColumns = kMostNarrowColumns;  // of one launch of the narrow kernels
  const Device device = CurrentDevice();
  const int columns = params.span_rows * params.heads;
  if (way == DecodeScoreWay::kBest) {
    way = !device.hopper           ? DecodeScoreWay::kStreamed
          : columns > kMostColumns ? DecodeScoreWay::kWide
                                   : DecodeScoreWay::kPaged;
  }
  if (way == DecodeScoreWay::kWide) return ScoreWide(params, device.multiprocessors, stream);
  Arguments p{params, 0};
  for (; p.first_column < columns; p.first_column += kMostColumns) {
    const int left = columns - p.first_column;
    const cudaError_t error = left <= 8    ? LaunchColumns<kDim, 1>(p, way, device, stream)
                              : left <= 16 ? LaunchColumns<kDim, 2>(p, way, device, stream)
                                           : LaunchColumns<kDim, 4>(p, way, device, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

int DecodeScore(const DecodeScoreParams& p, CUstream_st* stream, DecodeScoreWay way) {
  assert(p.dim == 64 || p.dim == 128);
  assert(p.heads >= 1 && p.heads <= kMaxDecodeHeads);
  assert(p.span_rows >= 1 && p.span_rows <= kMaxSpanRows);
  assert(p.num_spans >= 1 && p.num_spans <= kMaxDecodeSpans);
  return p.dim == 128 ? LaunchDim<128>(p, way, stream) : LaunchDim<64>(p, way, stream);
}

}  // namespace lectern::kernels
