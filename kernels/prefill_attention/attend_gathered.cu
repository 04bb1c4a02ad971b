#include "kernels/cuda/tensor_map.h"
#include "kernels/prefill_attention/attend.h"

namespace lectern::kernels::prefill {
namespace {

using namespace hopper;  // NOLINT: its words are this file's vocabulary

constexpr int kWarpgroups = 2;
constexpr int kWarpgroupRows = 64;
constexpr int kTileRows = kWarpgroups * kWarpgroupRows;
constexpr int kThreads = (kWarpgroups + 1) * kWarpgroupThreads;
// 2 x 240 + 24 is what three warpgroups of 168 start with.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
constexpr int kStages = 2;  // of keys and values, and of queries
constexpr int kCombineWarps = 8;

// kRatio: the next power of two.
template <int kDim, int kRatio>
struct Shape {
  static constexpr int kTokens = kTileRows / kRatio;
  static constexpr int kWarpgroupTokens = kWarpgroupRows / kRatio;
  static constexpr int kTileBytes = kBlock * kDim * 2;
  static constexpr int kQueryBytes = kTileRows * kDim * 2;
  static constexpr int kSharedBytes = kSwizzleAlignment + kStages * (2 * kTileBytes + kQueryBytes) +
                                      (4 * kStages + 1) * 8 + kStages * (16 + kTokens * 4);
};

// What consumers know of the item whose keys lie in a stage.
struct Item {
  int32_t count;     // pairs; negative: no more items
  int32_t begin;     // position of the block's first token
  int32_t position;  // of row 0, were it in the sequence: a row's position is this + row
  int32_t group;
};

// Swizzling goes by the address, so a token's heads may begin anywhere in a panel.
template <int kDim, int kRatio>
__global__ void __launch_bounds__(kThreads, 1)
    GatherKernel(const __grid_constant__ CUtensorMap q_map,
                 const __grid_constant__ CUtensorMap k_map,
                 const __grid_constant__ CUtensorMap v_map, Arguments a, GatherWorkspace w,
                 const int32_t* path) {
  using S = Shape<kDim, kRatio>;
  if (path != nullptr && *path != kGatherPath) return;
  extern __shared__ uint8_t raw[];
  uint8_t* k_tiles = raw + (-SharedAddress(raw) & (kSwizzleAlignment - 1));
  uint8_t* v_tiles = k_tiles + kStages * S::kTileBytes;
  uint8_t* queries = v_tiles + kStages * S::kTileBytes;
  uint64_t* kv_full = reinterpret_cast<uint64_t*>(queries + kStages * S::kQueryBytes);
  uint64_t* kv_empty = kv_full + kStages;
  uint64_t* q_full = kv_empty + kStages;
  uint64_t* q_empty = q_full + kStages;
  uint64_t* tail = q_empty + kStages;
  Item* items = reinterpret_cast<Item*>(tail + 2);  // 16-byte aligned
  int32_t* pairs = reinterpret_cast<int32_t*>(items + kStages);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int warpgroup = threadIdx.x / kWarpgroupThreads;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      InitBarrier(kv_full + s, 1);
      InitBarrier(q_full + s, 1);
      InitBarrier(kv_empty + s, kWarpgroups * 4);
      InitBarrier(q_empty + s, kWarpgroups * 4);
    }
    InitBarrier(tail, 1);
    PublishBarriers();
  }
  // Rows of a tile that no pair fills are computed and not written: they must only be numbers.
  for (int i = threadIdx.x; i < kStages * S::kQueryBytes / 16; i += kThreads)
    reinterpret_cast<uint4*>(queries)[i] = make_uint4(0, 0, 0, 0);
  PublishStores();
  __syncthreads();

  if (warpgroup == kWarpgroups) {
    GiveRegisters<kProducerRegisters>();
    if (warp == kWarpgroups * 4) {
      const int num_items = *w.num_items;
      const int row_vectors = static_cast<int>(a.q_row_stride / kDim);
      int tile = 0, tails = 0, n = 0;
      for (int at = blockIdx.x;; at += gridDim.x, ++n) {
        const int s = n % kStages;
        if (n >= kStages) Wait(kv_empty + s, (n / kStages - 1) & 1);
        if (at >= num_items) {
          if (lane == 0) {
            items[s].count = -1;
            Arrive(kv_full + s);
          }
          break;
        }
        const GatherItem item = w.items[at];
        const PrefillSequence sequence = a.sequences[item.sequence];
        const int entry = item.segment / a.groups, group = item.segment % a.groups;
        const int begin = (entry - sequence.page_begin) * kBlock;
        const int valid = sequence.first + sequence.rows - begin;
        const int kv_row = (a.page_table[entry] * a.groups + group) * kBlock;
        uint8_t* v_tile = v_tiles + s * S::kTileBytes;
        if (lane == 0) {
          items[s] = {item.count, begin, sequence.first - sequence.row, group};
          uint64_t* barrier = valid < kBlock ? tail : kv_full + s;
          ArriveExpecting(barrier, 2 * S::kTileBytes);
          CopyTile<kBlock, kDim>(k_tiles + s * S::kTileBytes, &k_map, kv_row, barrier);
          CopyTile<kBlock, kDim>(v_tile, &v_map, kv_row, barrier);
        }
        if (valid < kBlock) {
          // Whatever lies behind the context's end must not meet a weight of zero.
          __syncwarp();
          Wait(tail, tails++ & 1);
          for (int j = valid * (kDim / 8) + lane; j < kBlock * (kDim / 8); j += 32)
            *reinterpret_cast<uint4*>(v_tile + TileOffset(kBlock, j / (kDim / 8), j % (kDim / 8))) =
                make_uint4(0, 0, 0, 0);
          PublishStores();
          __syncwarp();
          if (lane == 0) Arrive(kv_full + s);
        }
        for (int first = 0; first < item.count; first += S::kTokens, ++tile) {
          const int qs = tile % kStages;
          if (tile >= kStages) Wait(q_empty + qs, (tile / kStages - 1) & 1);
          const int count = min(S::kTokens, item.count - first);
          for (int i = lane; i < S::kTokens; i += 32)
            pairs[qs * S::kTokens + i] = i < count ? w.list[item.first + first + i] : -1;
          __syncwarp();
          if (lane == 0) ArriveExpecting(q_full + qs, count * a.ratio * kDim * 2);
          __syncwarp();
          for (int i = lane; i < count; i += 32) {
            const int row = pairs[qs * S::kTokens + i] / a.topk;
            const int vector = row * row_vectors + group * a.ratio;
            uint8_t* to = queries + qs * S::kQueryBytes + i * kRatio * 128;
#pragma unroll
            for (int panel = 0; panel < kDim / kPanelColumns; ++panel)
              CopyBox(to + panel * kTileRows * 128, &q_map, panel * kPanelColumns, vector,
                      q_full + qs);
          }
        }
      }
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    const uint32_t q_at = SharedAddress(queries) + warpgroup * kWarpgroupRows * 128;
    const uint32_t k_at = SharedAddress(k_tiles), v_at = SharedAddress(v_tiles);
    const int token[2] = {((warp & 3) * 16 + (lane >> 2)) / kRatio,
                          ((warp & 3) * 16 + (lane >> 2) + 8) / kRatio};
    int tile = 0;
    for (int n = 0;; ++n) {
      const int s = n % kStages;
      Wait(kv_full + s, (n / kStages) & 1);
      const Item item = items[s];
      if (__shfl_sync(kAll, item.count, 0) < 0) break;
      for (int first = 0; first < item.count; first += S::kTokens, ++tile) {
        const int qs = tile % kStages;
        Wait(q_full + qs, (tile / kStages) & 1);
        int pair[2], last[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          pair[r] = pairs[qs * S::kTokens + warpgroup * S::kWarpgroupTokens + token[r]];
          last[r] = pair[r] < 0 ? kBlock : item.position + pair[r] / a.topk - item.begin;
        }
        float d[64];
        MultiplyTiles<kTileRows, kDim>(d, q_at + qs * S::kQueryBytes, k_at + s * S::kTileBytes);
        __syncwarp();
        if (lane == 0) Arrive(q_empty + qs);
        if (__any_sync(kAll, min(last[0], last[1]) < kBlock - 1)) {
#pragma unroll
          for (int e = 0; e < 64; ++e)
            if ((e >> 2) * 8 + (lane & 3) * 2 + (e & 1) > last[e >> 1 & 1]) d[e] = -INFINITY;
        }
        float high[2], sum[2] = {0, 0};
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float m = fmaxf(d[2 * r], d[2 * r + 1]);
#pragma unroll
          for (int e = 4; e < 64; e += 4) m = fmaxf(m, fmaxf(d[e + 2 * r], d[e + 2 * r + 1]));
          m = fmaxf(m, __shfl_xor_sync(kAll, m, 1));
          m = fmaxf(m, __shfl_xor_sync(kAll, m, 2));
          high[r] = m == -INFINITY ? 0.0f : m * a.scale_log2;
        }
        uint32_t p[kBlock / 16][4];
#pragma unroll
        for (int e = 0; e < 64; e += 2) {
          const int r = e >> 1 & 1;
          const float x = Exp2(fmaf(d[e], a.scale_log2, -high[r]));
          const float y = Exp2(fmaf(d[e + 1], a.scale_log2, -high[r]));
          sum[r] += x + y;
          const __nv_bfloat162 two = __floats2bfloat162_rn(x, y);
          p[e >> 3][r + (e >> 2 & 1) * 2] = *reinterpret_cast<const uint32_t*>(&two);
        }
        float o[kDim / 2];
#pragma unroll
        for (int e = 0; e < kDim / 2; ++e) o[e] = 0;
        PinRegisters(o);
        BeginProducts();
#pragma unroll
        for (int k = 0; k < kBlock / 16; ++k)
          MultiplyRegistersShared(
              o, p[k], ColumnDescriptor(v_at + s * S::kTileBytes + k * 16 * 128, kBlock * 128));
        CommitProducts();
        WaitProducts<0>();
        PinRegisters(o);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          sum[r] += __shfl_xor_sync(kAll, sum[r], 1);
          sum[r] += __shfl_xor_sync(kAll, sum[r], 2);
          const int head = ((warp & 3) * 16 + (lane >> 2) + 8 * r) % kRatio;
          if (pair[r] < 0 || head >= a.ratio) continue;
          const float over = sum[r] == 0.0f ? 0.0f : 1.0f / sum[r];
          const int64_t row = pair[r] / a.topk;
          const int64_t at =
              ((row * a.groups + item.group) * a.topk + pair[r] % a.topk) * a.ratio + head;
          Bf16* out = w.out + at * kDim + (lane & 3) * 2;
#pragma unroll
          for (int j = 0; j < kDim / 8; ++j)
            *reinterpret_cast<__nv_bfloat162*>(out + j * 8) =
                __floats2bfloat162_rn(o[j * 4 + 2 * r] * over, o[j * 4 + 2 * r + 1] * over);
          if ((lane & 3) == 0) w.lse[at] = high[r] + log2f(sum[r]);
        }
      }
      if (lane == 0) Arrive(kv_empty + s);
    }
  }
}

// A warp merges the partials of one (row, head), slot by slot.
template <int kDim>
__global__ void __launch_bounds__(kCombineWarps * 32)
    Combine(Arguments a, int64_t total, GatherWorkspace w, const int32_t* path) {
  if (path != nullptr && *path != kGatherPath) return;
  const int64_t at = int64_t{blockIdx.x} * kCombineWarps + (threadIdx.x >> 5);
  if (at >= total) return;
  constexpr int kEach = kDim / 32;  // columns of a lane
  const int lane = threadIdx.x & 31;
  const int head = static_cast<int>(at % a.ratio);
  const int64_t list = at / a.ratio;  // row * groups + group
  const bool there = lane < a.topk && a.selected[list * a.topk + lane] >= 0;
  const float lse = there ? w.lse[(list * a.topk + lane) * a.ratio + head] : -INFINITY;
  float high = lse;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) high = fmaxf(high, __shfl_xor_sync(kAll, high, step));
  const float weight = there && lse != -INFINITY ? Exp2(lse - high) : 0.0f;
  float sum = weight;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  float o[kEach] = {};
#pragma unroll
  for (int slot = 0; slot < kMaxPrefillSelected; ++slot) {
    const float x = __shfl_sync(kAll, weight, slot);
    if (!__shfl_sync(kAll, static_cast<int>(there), slot)) continue;
    const Bf16* from = w.out + ((list * a.topk + slot) * a.ratio + head) * kDim + lane * kEach;
#pragma unroll
    for (int i = 0; i < kEach; i += 2) {
      const float2 two = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(from + i));
      o[i] += x * two.x;
      o[i + 1] += x * two.y;
    }
  }
  const float over = sum == 0.0f ? 0.0f : 1.0f / sum;
  const int64_t row = list / a.groups;
  const int64_t column = list % a.groups * a.ratio + head;
  Bf16* out = a.out + row * a.out_row_stride + column * kDim + lane * kEach;
#pragma unroll
  for (int i = 0; i < kEach; i += 2)
    *reinterpret_cast<__nv_bfloat162*>(out + i) =
        __floats2bfloat162_rn(o[i] * over, o[i + 1] * over);
  if (a.lse != nullptr && lane == 0)
    a.lse[row * a.groups * a.ratio + column] = (high + log2f(sum)) * kLn2;
}

int Processors() {
  static const int count = [] {
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    return processors;
  }();
  return count;
}

template <int kDim, int kRatio>
cudaError_t Launch(const PrefillAttentionParams& p, const GatherWorkspace& w, const int32_t* path,
                   cudaStream_t stream) {
  using S = Shape<kDim, kRatio>;
  const auto kernel = GatherKernel<kDim, kRatio>;
  cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, S::kSharedBytes);
  if (error != cudaSuccess) return error;
  const Arguments a = MakeArguments(p);
  const CUtensorMap q = MatrixMap(p.q, p.rows * (p.q_row_stride / kDim), kDim, p.ratio);
  const int64_t kv_rows = p.pages * p.groups * kBlock;
  const CUtensorMap k = MatrixMap(p.k, kv_rows, kDim, kBlock);
  const CUtensorMap v = MatrixMap(p.v, kv_rows, kDim, kBlock);
  kernel<<<Processors(), kThreads, S::kSharedBytes, stream>>>(q, k, v, a, w, path);
  const int64_t heads = int64_t{p.rows} * p.groups * p.ratio;
  Combine<kDim><<<static_cast<unsigned>((heads + kCombineWarps - 1) / kCombineWarps),
                  kCombineWarps * 32, 0, stream>>>(a, heads, w, path);
  return cudaGetLastError();
}

template <int kDim>
cudaError_t LaunchRatio(const PrefillAttentionParams& p, const GatherWorkspace& w,
                        const int32_t* path, cudaStream_t stream) {
  if (p.ratio == 1) return Launch<kDim, 1>(p, w, path, stream);
  if (p.ratio == 2) return Launch<kDim, 2>(p, w, path, stream);
  if (p.ratio <= 4) return Launch<kDim, 4>(p, w, path, stream);
  if (p.ratio <= 8) return Launch<kDim, 8>(p, w, path, stream);
  return Launch<kDim, 16>(p, w, path, stream);
}

}  // namespace

cudaError_t AttendGathered(const PrefillAttentionParams& p, const GatherWorkspace& w,
                           const int32_t* path, cudaStream_t stream) {
  return p.dim == 128 ? LaunchRatio<128>(p, w, path, stream) : LaunchRatio<64>(p, w, path, stream);
}

}  // namespace lectern::kernels::prefill
