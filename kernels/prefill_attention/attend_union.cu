#include "kernels/cuda/hopper.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/prefill_attention/attend.h"

namespace lectern::kernels::prefill {
namespace {

using namespace hopper;  // NOLINT: its words are this file's vocabulary

constexpr int kWarpgroups = 2;      // of consumers
constexpr int kWarpgroupRows = 64;  // M of a WGMMA
constexpr int kTileRows = kWarpgroups * kWarpgroupRows;
constexpr int kThreads = (kWarpgroups + 1) * kWarpgroupThreads;
// 2 x 240 + 24 is what three warpgroups of 168 start with.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
constexpr int kBitmapWords = kMaxPrefillBlocks / 32;

// kRatio: the next power of two. Rows of the heads that are too many are zero and not written.
template <int kDim, int kRatio>
struct Shape {
  static constexpr int kTokens = kTileRows / kRatio;
  static constexpr int kWarpgroupTokens = kWarpgroupRows / kRatio;
  static constexpr int kMaskWords = kTokens > 32 ? kTokens / 32 : 1;
  static constexpr int kMaxUnion = kTokens * kMaxPrefillSelected;
  static constexpr int kTileBytes = kBlock * kDim * 2;
  static constexpr int kQueryBytes = kTileRows * kDim * 2;
  static constexpr int kStages = kDim == 64 ? 4 : kRatio == 16 ? 3 : 2;
  static constexpr int kBarriers = 4 * kStages + 1;
  static constexpr int kSharedBytes = kSwizzleAlignment + kQueryBytes + 2 * kStages * kTileBytes +
                                      kBarriers * 8 + kMaxUnion * 4 * (1 + kMaskWords);
};

// The different blocks of a tile's tokens, ascending, with the tokens that chose each.
template <int kDim, int kRatio>
struct Union {
  using S = Shape<kDim, kRatio>;
  int32_t* blocks;  // [kMaxUnion]
  uint32_t* masks;  // [kMaxUnion][kMaskWords], bit t of word t / 32: token t

  // By all threads; the scratch is kBitmapWords words and half-words. Returns the count.
  __device__ int Build(const Arguments& a, int64_t first_row, int tokens, int group,
                       uint8_t* scratch) {
    uint32_t* bitmap = reinterpret_cast<uint32_t*>(scratch);
    uint16_t* before =
        reinterpret_cast<uint16_t*>(bitmap + kBitmapWords);  // set bits in earlier words
    __shared__ int count;
    for (int i = threadIdx.x; i < kBitmapWords; i += kThreads) bitmap[i] = 0;
    for (int i = threadIdx.x; i < S::kMaxUnion * S::kMaskWords; i += kThreads) masks[i] = 0;
    __syncthreads();
    const int pairs = tokens * a.topk;
    for (int i = threadIdx.x; i < pairs; i += kThreads) {
      const int block = Block(a, first_row, group, i);
      if (block >= 0) atomicOr(bitmap + block / 32, 1u << block % 32);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      constexpr int kEach = kBitmapWords / 32;
      int sum = 0;
      for (int i = 0; i < kEach; ++i) sum += __popc(bitmap[threadIdx.x * kEach + i]);
      int scan = sum;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(kAll, scan, step);
        if (static_cast<int>(threadIdx.x) >= step) scan += other;
      }
      if (threadIdx.x == 31) count = scan;
      scan -= sum;
      for (int i = 0; i < kEach; ++i) {
        before[threadIdx.x * kEach + i] = static_cast<uint16_t>(scan);
        scan += __popc(bitmap[threadIdx.x * kEach + i]);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < pairs; i += kThreads) {
      const int block = Block(a, first_row, group, i);
      if (block < 0) continue;
      const int at = before[block / 32] + __popc(bitmap[block / 32] & ((1u << block % 32) - 1));
      const int token = i / a.topk;
      blocks[at] = block;
      atomicOr(masks + at * S::kMaskWords + token / 32, 1u << token % 32);
    }
    return count;  // after the barrier that the caller needs anyway
  }

  __device__ static int Block(const Arguments& a, int64_t first_row, int group, int pair) {
    const int64_t row = first_row + pair / a.topk;
    return a.selected[(row * a.groups + group) * a.topk + pair % a.topk];
  }

  // Which of the warpgroup's tokens chose entry i.
  __device__ __forceinline__ uint64_t Mask(int i, int warpgroup) const {
    const uint32_t* words = masks + i * S::kMaskWords;
    const int bit = warpgroup * S::kWarpgroupTokens;
    if constexpr (S::kWarpgroupTokens == 64)
      return words[bit / 32] | uint64_t{words[bit / 32 + 1]} << 32;
    if constexpr (S::kWarpgroupTokens == 32) return words[bit / 32];
    return words[bit / 32] >> bit % 32 & ((1u << S::kWarpgroupTokens % 32) - 1);
  }
};

template <int kDim, int kRatio>
__global__ void __launch_bounds__(kThreads, 1)
    UnionKernel(const __grid_constant__ CUtensorMap k_map,
                const __grid_constant__ CUtensorMap v_map, Arguments a, const int32_t* path) {
  if (path != nullptr && *path != kUnionPath) return;
  using S = Shape<kDim, kRatio>;
  extern __shared__ uint8_t raw[];
  uint8_t* queries = raw + (-SharedAddress(raw) & (kSwizzleAlignment - 1));
  uint8_t* k_tiles = queries + S::kQueryBytes;
  uint8_t* v_tiles = k_tiles + S::kStages * S::kTileBytes;
  uint64_t* k_full = reinterpret_cast<uint64_t*>(v_tiles + S::kStages * S::kTileBytes);
  uint64_t* k_empty = k_full + S::kStages;
  uint64_t* v_full = k_empty + S::kStages;
  uint64_t* v_empty = v_full + S::kStages;
  uint64_t* tail = v_empty + S::kStages;
  Union<kDim, kRatio> chosen;
  chosen.blocks = reinterpret_cast<int32_t*>(tail + 1);
  chosen.masks = reinterpret_cast<uint32_t*>(chosen.blocks + S::kMaxUnion);

  const PrefillSequence sequence = a.sequences[blockIdx.z];
  const int group = blockIdx.y;
  const int first_token = blockIdx.x * S::kTokens;
  if (first_token >= sequence.rows) return;
  const int tokens = min(S::kTokens, sequence.rows - first_token);
  const int64_t first_row = sequence.row + first_token;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int warpgroup = threadIdx.x / kWarpgroupThreads;

  if (threadIdx.x == 0) {
    for (int s = 0; s < S::kStages; ++s) {
      InitBarrier(k_full + s, 1);
      InitBarrier(v_full + s, 1);
      InitBarrier(k_empty + s, kWarpgroups * 4);
      InitBarrier(v_empty + s, kWarpgroups * 4);
    }
    InitBarrier(tail, 1);
    PublishBarriers();
  }
  for (int i = threadIdx.x; i < kTileRows * (kDim / 8); i += kThreads) {
    const int row = i / (kDim / 8), piece = i % (kDim / 8);
    const int token = row / kRatio, head = row % kRatio;
    uint4 x = make_uint4(0, 0, 0, 0);
    if (token < tokens && head < a.ratio)
      x = *reinterpret_cast<const uint4*>(a.q + (first_row + token) * a.q_row_stride +
                                          (group * a.ratio + head) * kDim + piece * 8);
    uint8_t* to = queries + row / kWarpgroupRows * kWarpgroupRows * kDim * 2;
    *reinterpret_cast<uint4*>(to + TileOffset(kWarpgroupRows, row % kWarpgroupRows, piece)) = x;
  }
  const int count = chosen.Build(a, first_row, tokens, group, k_tiles);
  PublishStores();
  __syncthreads();

  if (warpgroup == kWarpgroups) {
    GiveRegisters<kProducerRegisters>();
    if (warp == kWarpgroups * 4) {
      const int context = sequence.first + sequence.rows;
      const int32_t* pages = a.page_table + sequence.page_begin;
      for (int i = 0; i < count; ++i) {
        const int s = i % S::kStages, parity = (i / S::kStages - 1) & 1;
        const int block = chosen.blocks[i];
        const int row = (pages[block] * a.groups + group) * kBlock;
        const int valid = context - block * kBlock;
        uint8_t* v_tile = v_tiles + s * S::kTileBytes;
        if (i >= S::kStages) Wait(k_empty + s, parity);
        if (lane == 0) {
          ArriveExpecting(k_full + s, S::kTileBytes);
          CopyTile<kBlock, kDim>(k_tiles + s * S::kTileBytes, &k_map, row, k_full + s);
        }
        if (i >= S::kStages) Wait(v_empty + s, parity);
        if (valid >= kBlock) {
          if (lane == 0) {
            ArriveExpecting(v_full + s, S::kTileBytes);
            CopyTile<kBlock, kDim>(v_tile, &v_map, row, v_full + s);
          }
          continue;
        }
        // The context's last block: whatever lies behind its end must not meet a weight of zero.
        if (lane == 0) {
          ArriveExpecting(tail, S::kTileBytes);
          CopyTile<kBlock, kDim>(v_tile, &v_map, row, tail);
        }
        __syncwarp();
        Wait(tail, 0);
        for (int j = valid * (kDim / 8) + lane; j < kBlock * (kDim / 8); j += 32)
          *reinterpret_cast<uint4*>(v_tile + TileOffset(kBlock, j / (kDim / 8), j % (kDim / 8))) =
              make_uint4(0, 0, 0, 0);
        PublishStores();
        __syncwarp();
        if (lane == 0) Arrive(v_full + s);
      }
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    const uint32_t q_at = SharedAddress(queries) + warpgroup * kWarpgroupRows * kDim * 2;
    const uint32_t k_at = SharedAddress(k_tiles), v_at = SharedAddress(v_tiles);
    // This lane's rows are (warp & 3) * 16 + lane / 4 and 8 behind it, of the warpgroup's.
    int token[2], position[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      token[r] = ((warp & 3) * 16 + (lane >> 2) + 8 * r) / kRatio;
      position[r] = sequence.first + first_token + warpgroup * S::kWarpgroupTokens + token[r];
    }
    float o[kDim / 2] = {};
    float high[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // high: scaled to base 2
    for (int i = 0; i < count; ++i) {
      const int s = i % S::kStages, parity = (i / S::kStages) & 1;
      const uint64_t mask = chosen.Mask(i, warpgroup);
      const int block_begin = chosen.blocks[i] * kBlock;
      Wait(k_full + s, parity);
      if (__shfl_sync(kAll, mask != 0, 0)) {
        float d[64];
        MultiplyTiles<kWarpgroupRows, kDim>(d, q_at, k_at + s * S::kTileBytes);
        if (lane == 0) Arrive(k_empty + s);
        // The last key of the block that each row may see: -1 where it did not choose the block.
        int last[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) last[r] = mask >> token[r] & 1 ? position[r] - block_begin : -1;
        if (__any_sync(kAll, min(last[0], last[1]) < kBlock - 1)) {
#pragma unroll
          for (int e = 0; e < 64; ++e)
            if ((e >> 2) * 8 + (lane & 3) * 2 + (e & 1) > last[e >> 1 & 1]) d[e] = -INFINITY;
        }
        float shrink[2], base[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float m = fmaxf(d[2 * r], d[2 * r + 1]);
#pragma unroll
          for (int e = 4; e < 64; e += 4) m = fmaxf(m, fmaxf(d[e + 2 * r], d[e + 2 * r + 1]));
          m = fmaxf(m, __shfl_xor_sync(kAll, m, 1));
          m = fmaxf(m, __shfl_xor_sync(kAll, m, 2));
          const float next = fmaxf(high[r], m * a.scale_log2);
          base[r] = next == -INFINITY ? 0.0f : next;
          shrink[r] = Exp2(high[r] - base[r]);
          high[r] = next;
          sum[r] *= shrink[r];
        }
        uint32_t p[kBlock / 16][4];
#pragma unroll
        for (int e = 0; e < 64; e += 2) {
          const int r = e >> 1 & 1;
          const float x = Exp2(fmaf(d[e], a.scale_log2, -base[r]));
          const float y = Exp2(fmaf(d[e + 1], a.scale_log2, -base[r]));
          sum[r] += x + y;
          const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
          p[e >> 3][r + (e >> 2 & 1) * 2] = *reinterpret_cast<const uint32_t*>(&pair);
        }
#pragma unroll
        for (int e = 0; e < kDim / 2; ++e) o[e] *= shrink[e >> 1 & 1];
        Wait(v_full + s, parity);
        PinRegisters(o);
        BeginProducts();
#pragma unroll
        for (int k = 0; k < kBlock / 16; ++k)
          MultiplyRegistersShared(
              o, p[k], ColumnDescriptor(v_at + s * S::kTileBytes + k * 16 * 128, kBlock * 128));
        CommitProducts();
        WaitProducts<0>();
        PinRegisters(o);
        if (lane == 0) Arrive(v_empty + s);
      } else {
        if (lane == 0) Arrive(k_empty + s);
        Wait(v_full + s, parity);
        if (lane == 0) Arrive(v_empty + s);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      sum[r] += __shfl_xor_sync(kAll, sum[r], 1);
      sum[r] += __shfl_xor_sync(kAll, sum[r], 2);
      const int head = ((warp & 3) * 16 + (lane >> 2) + 8 * r) % kRatio;
      const int tile_token = warpgroup * S::kWarpgroupTokens + token[r];
      if (tile_token >= tokens || head >= a.ratio) continue;
      const float over = sum[r] == 0.0f ? 0.0f : 1.0f / sum[r];
      const int64_t row = first_row + tile_token;
      const int column = group * a.ratio + head;
      Bf16* out = a.out + row * a.out_row_stride + column * kDim + (lane & 3) * 2;
#pragma unroll
      for (int j = 0; j < kDim / 8; ++j)
        *reinterpret_cast<__nv_bfloat162*>(out + j * 8) =
            __floats2bfloat162_rn(o[j * 4 + 2 * r] * over, o[j * 4 + 2 * r + 1] * over);
      if (a.lse != nullptr && (lane & 3) == 0)
        a.lse[row * a.groups * a.ratio + column] = (high[r] + log2f(sum[r])) * kLn2;
    }
  }
}

template <int kDim, int kRatio>
cudaError_t Launch(const PrefillAttentionParams& p, const int32_t* path, cudaStream_t stream) {
  using S = Shape<kDim, kRatio>;
  const auto kernel = UnionKernel<kDim, kRatio>;
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (error != cudaSuccess) return error;
  const Arguments a = MakeArguments(p);
  const int64_t rows = p.pages * p.groups * kBlock;
  const CUtensorMap k = MatrixMap(p.k, rows, kDim, kBlock);
  const CUtensorMap v = MatrixMap(p.v, rows, kDim, kBlock);
  const dim3 grid((p.max_rows + S::kTokens - 1) / S::kTokens, p.groups, p.num_sequences);
  kernel<<<grid, kThreads, S::kSharedBytes, stream>>>(k, v, a, path);
  return cudaGetLastError();
}

template <int kDim>
cudaError_t LaunchRatio(const PrefillAttentionParams& p, const int32_t* path, cudaStream_t stream) {
  if (p.ratio == 1) return Launch<kDim, 1>(p, path, stream);
  if (p.ratio == 2) return Launch<kDim, 2>(p, path, stream);
  if (p.ratio <= 4) return Launch<kDim, 4>(p, path, stream);
  if (p.ratio <= 8) return Launch<kDim, 8>(p, path, stream);
  return Launch<kDim, 16>(p, path, stream);
}

}  // namespace

cudaError_t AttendUnion(const PrefillAttentionParams& p, const int32_t* path, cudaStream_t stream) {
  return p.dim == 128 ? LaunchRatio<128>(p, path, stream) : LaunchRatio<64>(p, path, stream);
}

}  // namespace lectern::kernels::prefill
