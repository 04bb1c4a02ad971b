#include <cuda_runtime.h>

#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"
#include "kernels/decode_attention/block_products.h"
#include "kernels/decode_dense/decode_dense.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kTeams = 3;  // three blocks' keys and values fill the shared memory of sm_90
constexpr int kMergeWays = 4;

template <int kDim>
struct alignas(128) Team {
  Bf16 k[kBlockTokens * kDim];
  Bf16 v[kBlockTokens * kDim];
  __nv_bfloat16 p[kTeamRows][kWeightRow];
  float warp_max[kTeamWarps][kTeamRows];
};

// Of one team: the running maximum (units of log 2) and sum of each row, then the output.
template <int kDim>
constexpr int kPartFloats = kTeamRows*(kDim + 2);

template <int kDim, int kTeamsOfBlock>
__global__ void __launch_bounds__(kTeamsOfBlock* kTeamThreads, 1) AttendAll(DecodeDenseParams p) {
  const int team = threadIdx.x / kTeamThreads;
  Team<kDim>& s = reinterpret_cast<Team<kDim>*>(DynamicShared())[team];
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int warp = threadIdx.x / 32 % kTeamWarps, barrier = 1 + team;
  const int group = blockIdx.y, row = blockIdx.z;
  const int64_t row_group = int64_t{row} * p.groups + group;
  const int parts = p.splits * kTeamsOfBlock;
  const int part = blockIdx.x * kTeamsOfBlock + team;
  const float scale_log2 = p.scale * kLog2E;
  WaitForEarlierKernels();
  LetNextKernelStart();

  const int tokens = p.positions[row] + 1;
  const int blocks = (tokens + kBlockTokens - 1) / kBlockTokens;
  const int32_t* pages = p.pages + row * p.pages_stride;
  uint32_t q[kDim / 16][4];
  LoadHeads<kDim>(p.q + row_group * p.heads * kDim, p.heads, q);

  auto copy = [&](Bf16* to, const Bf16* cache, int block, int page) {
    if (block < blocks) {
      CopyBlock<kDim>(to, cache + (int64_t{page} * p.groups + group) * kBlockTokens * kDim,
                      tokens - block * kBlockTokens);
    }
    CopyAsyncCommit();
  };
  auto page_of = [&](int block) { return block < blocks ? pages[block] : 0; };

  float m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0};
  float o[kDim / 32][4] = {};
  int page = page_of(part);
  copy(s.k, p.k, part, page);
  copy(s.v, p.v, part, page);
  page = page_of(part + parts);
  for (int block = part; block < blocks; block += parts) {
    const int visible = tokens - block * kBlockTokens;
    const int page_after = page_of(block + 2 * parts);
    CopyAsyncWait<1>();
    NamedBarrier(barrier, kTeamThreads);
    float c[4][4] = {}, top[2] = {-INFINITY, -INFINITY};
    MultiplyKeys<kDim>(q, s.k, c);
    ScaleVisible(c, visible, scale_log2, top);
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (t == 0) s.warp_max[warp][g + 8 * r] = top[r];
    NamedBarrier(barrier, kTeamThreads);  // the keys are read too
    copy(s.k, p.k, block + parts, page);
    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float now = fmaxf(fmaxf(fmaxf(s.warp_max[0][g + 8 * r], s.warp_max[1][g + 8 * r]),
                                    fmaxf(s.warp_max[2][g + 8 * r], s.warp_max[3][g + 8 * r])),
                              m[r]);
      shrink[r] = block == part ? 0.0f : exp2f(m[r] - now);
      m[r] = now;
      l[r] *= shrink[r];
    }
    Weigh(c, visible, m, s.p, l);
#pragma unroll
    for (int n = 0; n < kDim / 32; ++n) {
      o[n][0] *= shrink[0];
      o[n][1] *= shrink[0];
      o[n][2] *= shrink[1];
      o[n][3] *= shrink[1];
    }
    CopyAsyncWait<1>();
    NamedBarrier(barrier, kTeamThreads);
    MultiplyValues<kDim>(s.p, s.v, o);
    NamedBarrier(barrier, kTeamThreads);  // values and P are read
    copy(s.v, p.v, block + parts, page);
    page = page_after;
  }
  CopyAsyncWait<0>();
  NamedBarrier(barrier, kTeamThreads);

  float* to = p.scratch + (row_group * parts + part) * kPartFloats<kDim>;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 1);
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 2);
    if (t == 0) s.warp_max[warp][g + 8 * r] = l[r];
    if (t == 0 && warp == 0) to[g + 8 * r] = m[r];
  }
  NamedBarrier(barrier, kTeamThreads);
  if (threadIdx.x % kTeamThreads < kTeamRows) {
    const int r = threadIdx.x % kTeamThreads;
    to[kTeamRows + r] =
        (s.warp_max[0][r] + s.warp_max[1][r]) + (s.warp_max[2][r] + s.warp_max[3][r]);
  }
  to += 2 * kTeamRows;
#pragma unroll
  for (int n = 0; n < kDim / 32; ++n) {
    const int column = ColumnOf<kDim>(n);
    *reinterpret_cast<float2*>(to + g * kDim + column) = make_float2(o[n][0], o[n][1]);
    *reinterpret_cast<float2*>(to + (g + 8) * kDim + column) = make_float2(o[n][2], o[n][3]);
  }
}

// One block of threads a (row, group, head): kMergeWays runs of parts, then these.
template <int kDim>
__global__ void __launch_bounds__(kDim* kMergeWays) MergeParts(DecodeDenseParams p, int teams) {
  __shared__ float way_max[kMergeWays], way_sum[kMergeWays], way_out[kMergeWays][kDim];
  const int column = threadIdx.x % kDim, way = threadIdx.x / kDim;
  const int64_t row_group = blockIdx.x / p.heads;
  const int head = blockIdx.x % p.heads;
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int blocks = p.positions[row_group / p.groups] / kBlockTokens + 1;
  const int parts = p.splits * teams, used = min(parts, blocks);  // the rest got no block
  const float* from = p.scratch + row_group * parts * kPartFloats<kDim> + head;
  const int first = used * way / kMergeWays, end = used * (way + 1) / kMergeWays;
  float max = -INFINITY, sum = 0, out = 0;
  for (int i = first; i < end; ++i) max = fmaxf(max, __ldcg(from + int64_t{i} * kPartFloats<kDim>));
#pragma unroll 8
  for (int i = first; i < end; ++i) {
    const float* part = from + int64_t{i} * kPartFloats<kDim>;
    const float weight = exp2f(__ldcg(part) - max);
    sum = fmaf(__ldcg(part + kTeamRows), weight, sum);
    out = fmaf(__ldcg(part - head + 2 * kTeamRows + head * kDim + column), weight, out);
  }
  if (column == 0) {
    way_max[way] = max;
    way_sum[way] = sum;
  }
  way_out[way][column] = out;
  __syncthreads();
  if (way != 0) return;
  max = fmaxf(fmaxf(way_max[0], way_max[1]), fmaxf(way_max[2], way_max[3]));
  sum = 0;
  out = 0;
#pragma unroll
  for (int i = 0; i < kMergeWays; ++i) {
    if (used * i / kMergeWays == used * (i + 1) / kMergeWays) continue;
    const float weight = exp2f(way_max[i] - max);
    sum = fmaf(way_sum[i], weight, sum);
    out = fmaf(way_out[i][column], weight, out);
  }
  const int64_t to = row_group * p.heads + head;
  p.out[to * kDim + column] = Bf16{__bfloat16_as_ushort(__float2bfloat16_rn(out / sum))};
  if (p.lse != nullptr && column == 0) p.lse[to] = (max + log2f(sum)) * kLn2;
}

template <int kDim, int kTeamsOfBlock>
cudaError_t LaunchTeams(const DecodeDenseParams& p, bool hopper, cudaStream_t stream) {
  const cudaError_t error = Launch(AttendAll<kDim, kTeamsOfBlock>,
                                   {.grid = dim3(p.splits, p.groups, p.rows),
                                    .threads = kTeamsOfBlock * kTeamThreads,
                                    .shared = kTeamsOfBlock * sizeof(Team<kDim>),
                                    .overlap = hopper},
                                   stream, p);
  if (error != cudaSuccess) return error;
  return Launch(
      MergeParts<kDim>,
      {.grid = dim3(p.rows * p.groups * p.heads), .threads = kDim * kMergeWays, .overlap = hopper},
      stream, p, kTeamsOfBlock);
}

// Three teams need the shared memory of sm_90.
template <int kDim>
cudaError_t LaunchDim(const DecodeDenseParams& p, cudaStream_t stream) {
  return CurrentDevice().hopper ? LaunchTeams<kDim, kTeams>(p, true, stream)
                                : LaunchTeams<kDim, 1>(p, false, stream);
}

}  // namespace

int64_t DecodeDenseScratchFloats(const DecodeDenseParams& p) {
  return int64_t{p.rows} * p.groups * p.splits * kTeams *
         (p.dim == 128 ? kPartFloats<128> : kPartFloats<64>);
}

int DecodeDense(const DecodeDenseParams& p, CUstream_st* stream) {
  assert(p.dim == 64 || p.dim == 128);
  assert(p.heads >= 1 && p.heads <= kTeamRows && p.splits >= 1);
  if (p.rows == 0) return 0;
  return p.dim == 128 ? LaunchDim<128>(p, stream) : LaunchDim<64>(p, stream);
}

}  // namespace lectern::kernels
