#include "kernels/prefill_index/prefill_index.h"

#include <algorithm>
#include <cassert>

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/tensor_map.h"

namespace lectern::kernels {
namespace {

using namespace hopper;  // NOLINT: its words are this file's vocabulary

constexpr int kBlock = 128;         // MSA's B_k
constexpr int kListSlots = 16;      // a row's running best
constexpr int kWarpgroupRows = 64;  // M of a WGMMA
constexpr unsigned kAll = 0xffffffffu;

// A candidate as one integer whose order is the selection's: larger score first, then lower block.
// 0 is an empty place, kTaken one that no candidate may have.
using Candidate = unsigned long long;  // NOLINT: what __shfl_sync and min take
constexpr Candidate kEmpty = 0;
constexpr Candidate kTaken = ~Candidate{0};

__device__ __forceinline__ Candidate MakeCandidate(float score, uint32_t block) {
  // Adding zero makes -0 and +0 one number.
  const uint32_t bits = __float_as_uint(score == score ? score + 0.0f : -INFINITY);
  const uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return Candidate{ordered} << 32 | uint32_t(~block);
}
__device__ __forceinline__ uint32_t BlockOf(Candidate c) { return ~static_cast<uint32_t>(c); }

// What a score has to exceed for its candidate to be above `least`: no comparison with NaN holds,
// so !(score <= bar) lets everything through while places are empty.
__device__ __forceinline__ float Bar(Candidate least) {
  if (least == kEmpty) return NAN;
  if (least == kTaken) return INFINITY;
  const uint32_t ordered = static_cast<uint32_t>(least >> 32);
  return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

struct Arguments {
  const Bf16* q;
  int64_t q_row_stride;
  const int32_t* page_table;
  const PrefillSequence* sequences;
  int32_t rows, heads, topk, splits;
  int32_t* selected;
  Candidate* lists;  // [splits][rows][heads][kListSlots] in any order
};

// kHeads: the next power of two. Rows of the heads that are too many are zero and not written.
template <int kDim, int kHeads>
struct Shape {
  static constexpr int kTokens = kHeads == 1 ? 128 : 256 / kHeads;  // of a tile, aligned
  static constexpr int kRows = kTokens * kHeads;
  static constexpr int kConsumers = kRows / kWarpgroupRows;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
  static constexpr int kTileBytes = kBlock * kDim * 2;
  static constexpr int kStages = 4 * 128 / kDim;
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kSharedBytes =
      kSwizzleAlignment + kQueryBytes + kStages * kTileBytes + 2 * kStages * 8;
  // Five warpgroups start with 96 registers a thread, three with 168: what is taken must not be
  // more than that in all (4 x 112 + 24, 2 x 216 + 24), or the takers wait for ever.
  static constexpr int kConsumerRegisters = kConsumers == 4 ? 112 : 216;
  static constexpr int kProducerRegisters = 24;
};

// A row's best, spread over the quad of lanes that holds the row's scores.
struct Best {
  Candidate place[4];
  Candidate least;
  float bar;

  __device__ __forceinline__ void Clear(int lane, int wanted) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      place[i] = (lane & 3) * 4 + i < kListSlots - wanted ? kTaken : kEmpty;
    least = wanted > 0 ? kEmpty : kTaken;
    bar = Bar(least);
  }

  // All lanes of the warp together, a candidate per quad.
  __device__ __forceinline__ void Offer(Candidate candidate, int lane) {
    Candidate low = place[0];
    int at = 0;
#pragma unroll
    for (int i = 1; i < 4; ++i) {
      if (place[i] < low) {
        low = place[i];
        at = i;
      }
    }
    // Only empty places are alike: the lowest lane that has one gives it.
    const unsigned holders = __ballot_sync(kAll, low == least) >> (lane & 28) & 15;
    if (candidate > least && (lane & 3) == __ffs(holders) - 1) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (i == at) place[i] = candidate;
    }
    low = min(min(place[0], place[1]), min(place[2], place[3]));
    low = min(low, __shfl_xor_sync(kAll, low, 1));
    least = min(low, __shfl_xor_sync(kAll, low, 2));
    bar = Bar(least);
  }
};

template <int kDim, int kHeads>
__global__ void __launch_bounds__(Shape<kDim, kHeads>::kThreads, 1)
    ScoreAndSelect(const __grid_constant__ CUtensorMap keys, Arguments a) {
  using S = Shape<kDim, kHeads>;
  extern __shared__ uint8_t raw[];
  uint8_t* queries = raw + (-SharedAddress(raw) & (kSwizzleAlignment - 1));
  uint8_t* tiles = queries + S::kQueryBytes;
  uint64_t* full = reinterpret_cast<uint64_t*>(tiles + S::kStages * S::kTileBytes);
  uint64_t* empty = full + S::kStages;

  // Tiles lie at absolute positions; the last, which have most to do, go first.
  const PrefillSequence sequence = a.sequences[blockIdx.z];
  if (sequence.rows <= 0) return;
  const int tile = (sequence.first + sequence.rows - 1) / S::kTokens - static_cast<int>(blockIdx.x);
  if (tile < sequence.first / S::kTokens) return;
  const int first_token = tile * S::kTokens - sequence.first;  // negative: before the chunk
  const int own = tile * S::kTokens / kBlock;
  const int split = blockIdx.y;
  const int begin = static_cast<int>(int64_t{own} * split / a.splits);
  const int end = static_cast<int>(int64_t{own} * (split + 1) / a.splits);

  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int warpgroup = threadIdx.x / kWarpgroupThreads;
  if (threadIdx.x == 0) {
    for (int s = 0; s < S::kStages; ++s) {
      InitBarrier(full + s, 1);
      InitBarrier(empty + s, S::kConsumers * 4);
    }
    PublishBarriers();
  }
  for (int i = threadIdx.x; i < S::kRows * (kDim / 8); i += S::kThreads) {
    const int row = i / (kDim / 8), piece = i % (kDim / 8);
    const int token = first_token + row / kHeads, head = row % kHeads;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (token >= 0 && token < sequence.rows && head < a.heads)
      x = *reinterpret_cast<const uint4*>(a.q + (sequence.row + token) * a.q_row_stride +
                                          head * kDim + piece * 8);
    uint8_t* to = queries + row / kWarpgroupRows * kWarpgroupRows * kDim * 2;
    *reinterpret_cast<uint4*>(to + TileOffset(kWarpgroupRows, row % kWarpgroupRows, piece)) = x;
  }
  PublishStores();
  __syncthreads();

  if (warpgroup == S::kConsumers) {
    GiveRegisters<S::kProducerRegisters>();
    if (threadIdx.x == S::kConsumers * kWarpgroupThreads) {
      const int32_t* pages = a.page_table + sequence.page_begin;
      for (int block = begin; block < end; ++block) {
        const int n = block - begin, s = n % S::kStages;
        if (n >= S::kStages) Wait(empty + s, (n / S::kStages - 1) & 1);
        ArriveExpecting(full + s, S::kTileBytes);
        CopyTile<kBlock, kDim>(tiles + s * S::kTileBytes, &keys, pages[block] * kBlock, full + s);
      }
    }
  } else {
    TakeRegisters<S::kConsumerRegisters>();
    const uint32_t rows_at = SharedAddress(queries) + warpgroup * kWarpgroupRows * kDim * 2;
    const uint32_t keys_at = SharedAddress(tiles);
    Best best[2];  // rows lane / 4 and 8 behind it
    best[0].Clear(lane, a.topk - 1);
    best[1].Clear(lane, a.topk - 1);
    for (int block = begin; block < end; ++block) {
      const int n = block - begin, s = n % S::kStages;
      Wait(full + s, (n / S::kStages) & 1);
      float d[64];
      MultiplyTiles<kWarpgroupRows, kDim>(d, rows_at, keys_at + s * S::kTileBytes);
      if (lane == 0) Arrive(empty + s);
      float m[2] = {fmaxf(d[0], d[1]), fmaxf(d[2], d[3])};
#pragma unroll
      for (int i = 4; i < 64; i += 4) {
        m[0] = fmaxf(m[0], fmaxf(d[i], d[i + 1]));
        m[1] = fmaxf(m[1], fmaxf(d[i + 2], d[i + 3]));
      }
      if (__any_sync(kAll, !(m[0] <= best[0].bar) || !(m[1] <= best[1].bar))) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          m[r] = fmaxf(m[r], __shfl_xor_sync(kAll, m[r], 1));
          m[r] = fmaxf(m[r], __shfl_xor_sync(kAll, m[r], 2));
          if (__any_sync(kAll, !(m[r] <= best[r].bar)))
            best[r].Offer(MakeCandidate(m[r], block), lane);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = warpgroup * kWarpgroupRows + (warp & 3) * 16 + (lane >> 2) + 8 * r;
      const int token = first_token + row / kHeads, head = row % kHeads;
      const bool wanted = token >= 0 && token < sequence.rows && head < a.heads;
      const int64_t at = int64_t{sequence.row + token} * a.heads + head;
      if (a.splits > 1) {
        if (wanted) {
          Candidate* out =
              a.lists + (int64_t{split} * a.rows * a.heads + at) * kListSlots + (lane & 3) * 4;
#pragma unroll
          for (int i = 0; i < 4; ++i)
            out[i] = best[r].place[i] == kTaken ? kEmpty : best[r].place[i];
        }
        continue;
      }
      uint32_t mine[4];
      int below[4] = {0, 0, 0, 0}, count = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const Candidate c = best[r].place[i];
        mine[i] = c == kTaken || c == kEmpty ? kAll : BlockOf(c);
      }
#pragma unroll
      for (int other = 0; other < kListSlots; ++other) {
        const uint32_t block = __shfl_sync(kAll, mine[other & 3], (lane & 28) | other >> 2);
        count += block != kAll;
#pragma unroll
        for (int i = 0; i < 4; ++i) below[i] += block < mine[i];
      }
      if (wanted) {
        int32_t* out = a.selected + at * a.topk;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (mine[i] != kAll) out[below[i]] = static_cast<int32_t>(mine[i]);
          const int slot = (lane & 3) * 4 + i;
          if (slot == count) out[slot] = own;
          if (slot > count && slot < a.topk) out[slot] = -1;
        }
      }
    }
  }
}

// Descending over the warp (bitonic).
__device__ __forceinline__ Candidate SortDescending(Candidate c, int lane) {
#pragma unroll
  for (int size = 2; size <= 32; size *= 2) {
#pragma unroll
    for (int step = size / 2; step > 0; step /= 2) {
      const Candidate other = __shfl_xor_sync(kAll, c, step);
      const bool descending = (lane & size) == 0;
      const bool lower_lane = (lane & step) == 0;
      c = lower_lane == descending ? max(c, other) : min(c, other);
    }
  }
  return c;
}

constexpr int kMergeWarps = 4;

// The topk - 1 best of a row's lists, then its own block. A warp has a row.
__global__ void __launch_bounds__(kMergeWarps * 32) MergeLists(Arguments a) {
  const int lane = threadIdx.x & 31;
  const int64_t lists = int64_t{a.rows} * a.heads;
  const int64_t at = int64_t{blockIdx.x} * kMergeWarps + (threadIdx.x >> 5);
  if (at >= lists) return;
  Candidate best = kEmpty;  // lanes 0..15: the best so far, descending
  Candidate least = kEmpty;
  for (int split = 0; split < a.splits; ++split) {
    const Candidate* list = a.lists + (split * lists + at) * kListSlots;
    const Candidate next = lane < kListSlots ? kEmpty : list[lane - kListSlots];
    if (!__any_sync(kAll, next > least)) continue;
    best = SortDescending(lane < kListSlots ? best : next, lane);
    least = __shfl_sync(kAll, best, kListSlots - 1);
  }
  const int row = static_cast<int>(at / a.heads);
  int position = -1;
  for (int i = 0; position < 0; ++i) {
    const PrefillSequence sequence = a.sequences[i];
    if (row >= sequence.row && row < sequence.row + sequence.rows)
      position = sequence.first + row - sequence.row;
  }
  const int own = position / kBlock;
  const int wanted = min(a.topk - 1, own);
  const uint32_t block = lane < wanted ? BlockOf(best) : kAll;
  int below = 0;
  for (int i = 0; i < wanted; ++i) below += __shfl_sync(kAll, block, i) < block;
  int32_t* out = a.selected + at * a.topk;
  if (lane < wanted) out[below] = static_cast<int32_t>(block);
  if (lane == wanted) out[lane] = own;
  if (lane > wanted && lane < a.topk) out[lane] = -1;
}

int PowerOfTwo(int heads) { return heads <= 1 ? 1 : heads <= 2 ? 2 : heads <= 4 ? 4 : 8; }
int TileTokens(int heads) { return heads == 1 ? 128 : 256 / PowerOfTwo(heads); }

int Tiles(const PrefillIndexParams& p) {
  // A chunk that starts inside a tile reaches into one more.
  return (p.max_rows + TileTokens(p.heads) - 2) / TileTokens(p.heads) + 1;
}

template <int kDim, int kHeads>
cudaError_t Launch(const PrefillIndexParams& p, cudaStream_t stream) {
  using S = Shape<kDim, kHeads>;
  const auto kernel = ScoreAndSelect<kDim, kHeads>;
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (error != cudaSuccess) return error;
  const Arguments a{
      p.q,     p.q_row_stride, p.page_table, p.sequences, p.rows,
      p.heads, p.topk,         p.splits,     p.selected,  static_cast<Candidate*>(p.workspace)};
  const CUtensorMap keys = MatrixMap(p.keys, p.pages * kBlock, kDim, kBlock);
  const dim3 grid(Tiles(p), p.splits, p.num_sequences);
  kernel<<<grid, S::kThreads, S::kSharedBytes, stream>>>(keys, a);
  if (p.splits > 1) {
    const int64_t lists = int64_t{p.rows} * p.heads;
    MergeLists<<<static_cast<unsigned>((lists + kMergeWarps - 1) / kMergeWarps), kMergeWarps * 32,
                 0, stream>>>(a);
  }
  return cudaGetLastError();
}

template <int kDim>
cudaError_t LaunchHeads(const PrefillIndexParams& p, cudaStream_t stream) {
  switch (PowerOfTwo(p.heads)) {
    case 1:
      return Launch<kDim, 1>(p, stream);
    case 2:
      return Launch<kDim, 2>(p, stream);
    case 4:
      return Launch<kDim, 4>(p, stream);
    default:
      return Launch<kDim, 8>(p, stream);
  }
}

}  // namespace

int PrefillIndexSplits(const PrefillIndexParams& p, int processors) {
  const int64_t tiles = int64_t{Tiles(p)} * p.num_sequences;
  const int blocks = p.max_tokens / kBlock;
  // A range costs its share of the blocks, and what starting and merging it takes.
  constexpr double kRangeOverheadBlocks = 8;
  // Ranges of one tile stream different keys at a time: unless they gain this much, they lose.
  constexpr double kWorthwhile = 0.9;
  int best = 1;
  double least = 0;
  for (int splits = 1; splits <= std::max(1, std::min(kMaxIndexSplits, blocks / kListSlots));
       ++splits) {
    const int64_t waves = (tiles * splits + processors - 1) / processors;
    const double cost =
        static_cast<double>(waves) * (static_cast<double>(blocks) / splits + kRangeOverheadBlocks);
    if (splits == 1 || cost < kWorthwhile * least) {
      least = cost;
      best = splits;
    }
  }
  return best;
}

int64_t PrefillIndexWorkspaceBytes(const PrefillIndexParams& p) {
  return p.splits > 1
             ? int64_t{p.splits} * p.rows * p.heads * kListSlots * int64_t{sizeof(Candidate)}
             : 0;
}

int PrefillIndex(const PrefillIndexParams& params, CUstream_st* stream) {
  assert(params.heads >= 1 && params.heads <= kMaxIndexHeads);
  assert(params.topk >= 1 && params.topk <= kMaxPrefillTopk);
  assert(params.splits >= 1 && params.splits <= kMaxIndexSplits);
  assert(params.dim == 64 || params.dim == 128);
  if (params.rows == 0) return cudaSuccess;
  return params.dim == 128 ? LaunchHeads<128>(params, stream) : LaunchHeads<64>(params, stream);
}

}  // namespace lectern::kernels
