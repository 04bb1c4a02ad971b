#include "kernels/decode_score/score_wide.h"

#include "kernels/cuda/hopper.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/warp.h"
#include "kernels/decode_score/spans.h"

namespace lectern::kernels::cuda {
namespace {

constexpr int kGroupRows = 64;  // (row, head) columns of a span that one warpgroup multiplies

template <int kDim, int kGroups>
struct Shape {
  static constexpr int kThreads = (kGroups + 1) * hopper::kWarpgroupThreads;
  static constexpr int kTileBytes = kBlockTokens * kDim * 2;
  static constexpr int kStages = kDim == 128 ? 4 : 8;
  static constexpr int kQueryBytes = kGroups * kGroupRows * kDim * 2;
  static constexpr int kSharedBytes =
      hopper::kSwizzleAlignment + kQueryBytes + kStages * kTileBytes + 2 * kStages * 8;
};

// Queries are the M side, 64 a warpgroup, and a block's 128 keys the N side: a quad of lanes has
// all products of a query, and its maximum takes two shuffles. A block of threads takes a run of
// neighbouring blocks, so that scores leave 16 bytes at a time.
template <int kDim, int kGroups>
__global__ void __launch_bounds__(Shape<kDim, kGroups>::kThreads, 1)
    ScoreManyRows(const __grid_constant__ CUtensorMap keys, DecodeScoreParams p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using S = Shape<kDim, kGroups>;
  constexpr int kTurns = 4;  // blocks whose maxima leave together, one a lane of a quad
  uint8_t* raw = DynamicShared();
  uint8_t* queries = raw + (-SharedAddress(raw) & (hopper::kSwizzleAlignment - 1));
  uint8_t* tiles = queries + S::kQueryBytes;
  uint64_t* full = reinterpret_cast<uint64_t*>(tiles + S::kStages * S::kTileBytes);
  uint64_t* empty = full + S::kStages;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int warpgroup = threadIdx.x / hopper::kWarpgroupThreads;
  if (threadIdx.x == 0) {
    for (int i = 0; i < S::kStages; ++i) {
      hopper::InitBarrier(full + i, 1);
      hopper::InitBarrier(empty + i, kGroups * 4);
    }
    hopper::PublishBarriers();
  }
  WaitForEarlierKernels();
  LetNextKernelStart();
  const DecodeSpan span = SpanAt(p, blockIdx.y);
  const int first_column = blockIdx.z * kGroups * kGroupRows;
  const int columns = span.rows * p.heads;
  if (first_column >= columns) return;
  const int blocks = SpanBlocks(p, span);
  const int quads = (blocks + kTurns - 1) / kTurns;
  const int begin = static_cast<int>(int64_t{quads} * blockIdx.x / gridDim.x) * kTurns;
  const int end =
      min(blocks, static_cast<int>(int64_t{quads} * (blockIdx.x + 1) / gridDim.x) * kTurns);
  for (int i = threadIdx.x; i < kGroups * kGroupRows * (kDim / 8); i += S::kThreads) {
    const int row = i / (kDim / 8), piece = i % (kDim / 8);
    uint4 x = make_uint4(0, 0, 0, 0);
    if (first_column + row < columns) {
      const int64_t column = int64_t{span.first_row} * p.heads + first_column + row;
      x = *reinterpret_cast<const uint4*>(p.q + column * kDim + piece * 8);
    }
    uint8_t* to = queries + row / kGroupRows * kGroupRows * kDim * 2;
    *reinterpret_cast<uint4*>(to + hopper::TileOffset(kGroupRows, row % kGroupRows, piece)) = x;
  }
  hopper::PublishStores();
  __syncthreads();

  if (warpgroup == kGroups) {
    if (warp % 4 != 0) return;
    const int32_t* pages = p.pages + span.request * p.pages_stride + span.first_block;
    for (int base = begin; base < end; base += 32) {
      const int mine = base + lane < end ? pages[base + lane] : 0;
      for (int i = 0; i < min(32, end - base); ++i) {
        const int page = __shfl_sync(kAllLanes, mine, i);
        const int n = base + i - begin, stage = n % S::kStages;
        if (lane == 0) {
          if (n >= S::kStages) hopper::Wait(empty + stage, (n / S::kStages - 1) & 1);
          hopper::ArriveExpecting(full + stage, S::kTileBytes);
          hopper::CopyTile<kBlockTokens, kDim>(tiles + stage * S::kTileBytes, &keys,
                                               page * kBlockTokens, full + stage);
        }
        __syncwarp();
      }
    }
    return;
  }
  const uint32_t rows_at = SharedAddress(queries) + warpgroup * kGroupRows * kDim * 2;
  const uint32_t keys_at = SharedAddress(tiles);
  const int row = first_column + warpgroup * kGroupRows + warp % 4 * 16 + lane / 4;
  float* const scores =
      p.scores + (int64_t{span.first_row} * p.heads + row) * p.scores_stride + span.first_block;
  float kept[2] = {0, 0};
  for (int block = begin; block < end; ++block) {
    const int n = block - begin, stage = n % S::kStages;
    hopper::Wait(full + stage, (n / S::kStages) & 1);
    float d[64];
    hopper::MultiplyTiles<kGroupRows, kDim>(d, rows_at, keys_at + stage * S::kTileBytes);
    if (lane == 0) hopper::Arrive(empty + stage);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float m = -INFINITY;
#pragma unroll
      for (int i = 2 * r; i < 64; i += 4) m = fmaxf(m, fmaxf(d[i], d[i + 1]));
      m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 1));
      m = fmaxf(m, __shfl_xor_sync(kAllLanes, m, 2));
      if (n % kTurns == lane % 4) kept[r] = m;
    }
    if (n % kTurns == kTurns - 1 || block + 1 == end) {
      const int at = block - n % kTurns + lane % 4;
      if (at <= block) {
        if (row < columns) scores[at] = kept[0];
        if (row + 8 < columns) scores[8 * p.scores_stride + at] = kept[1];
      }
    }
  }
#endif
}

template <int kDim, int kGroups>
cudaError_t LaunchWide(const DecodeScoreParams& p, int multiprocessors, cudaStream_t stream) {
  using S = Shape<kDim, kGroups>;
  const int columns = p.span_rows * p.heads;
  const int parts = (columns + kGroups * kGroupRows - 1) / (kGroups * kGroupRows);
  return Launch(ScoreManyRows<kDim, kGroups>,
                {.grid = dim3(multiprocessors, p.num_spans, parts),
                 .threads = S::kThreads,
                 .shared = S::kSharedBytes,
                 .overlap = true},
                stream, MatrixMap(p.keys, p.num_pages * kBlockTokens, kDim, kBlockTokens), p);
}

template <int kDim>
cudaError_t LaunchGroups(const DecodeScoreParams& p, int multiprocessors, cudaStream_t stream) {
  const int columns = p.span_rows * p.heads;
  if (columns <= kGroupRows) return LaunchWide<kDim, 1>(p, multiprocessors, stream);
  if (columns <= 2 * kGroupRows) return LaunchWide<kDim, 2>(p, multiprocessors, stream);
  return LaunchWide<kDim, 4>(p, multiprocessors, stream);
}

}  // namespace

cudaError_t ScoreWide(const DecodeScoreParams& p, int multiprocessors, cudaStream_t stream) {
  return p.dim == 128 ? LaunchGroups<128>(p, multiprocessors, stream)
                      : LaunchGroups<64>(p, multiprocessors, stream);
}

}  // namespace lectern::kernels::cuda
