#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"
#include "kernels/decode_attention/block_products.h"
#include "kernels/decode_attention/choose.h"
#include "kernels/decode_attention/decode_attention.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kChooseApart = 32;  // (row, group)s from which the choice is a kernel of its own

// One team's part of shared memory. Once Q K is done the partial output takes the place of the
// keys.
template <int kDim>
struct alignas(128) Team {
  union {
    Bf16 k[kBlockTokens * kDim];
    float out[kTeamRows][kDim];
  };
  Bf16 v[kBlockTokens * kDim];
  __nv_bfloat16 p[kTeamRows][kWeightRow];
  float warp_max[kTeamWarps][kTeamRows], warp_sum[kTeamWarps][kTeamRows];
  float max[kTeamRows], sum[kTeamRows];  // of the block; max in units of log 2
};

// Puts a selected block's keys and values on their way into the team's memory.
template <int kDim>
__device__ __forceinline__ void CopyPage(const DecodeAttentionParams& p, int64_t page, int group,
                                         int visible, Team<kDim>& s) {
  const int64_t at = (page * p.groups + group) * kBlockTokens * kDim;
  CopyBlock<kDim>(s.k, p.k + at, visible);
  CopyAsyncCommit();
  CopyBlock<kDim>(s.v, p.v + at, visible);
  CopyAsyncCommit();
}

// The partial of one block whose keys and values are on their way into the team's memory. Ends
// without a barrier: out, max and sum are other threads' only after one.
template <int kDim>
__device__ __forceinline__ void AttendBlock(Team<kDim>& s, const uint32_t (&q)[kDim / 16][4],
                                            int barrier, int visible, float scale_log2) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int warp = threadIdx.x / 32 % kTeamWarps;
  CopyAsyncWait<1>();
  NamedBarrier(barrier, kTeamThreads);
  float c[4][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {0, 0};
  MultiplyKeys<kDim>(q, s.k, c);
  ScaleVisible(c, visible, scale_log2, m);
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (t == 0) s.warp_max[warp][g + 8 * r] = m[r];
  NamedBarrier(barrier, kTeamThreads);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    m[r] = fmaxf(fmaxf(s.warp_max[0][g + 8 * r], s.warp_max[1][g + 8 * r]),
                 fmaxf(s.warp_max[2][g + 8 * r], s.warp_max[3][g + 8 * r]));
  }
  Weigh(c, visible, m, s.p, l);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 1);
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 2);
    if (t == 0) s.warp_sum[warp][g + 8 * r] = l[r];
    if (t == 0 && warp == 0) s.max[g + 8 * r] = m[r];
  }
  CopyAsyncWait<0>();
  NamedBarrier(barrier, kTeamThreads);
  if (threadIdx.x % kTeamThreads < kTeamRows) {
    const int row = threadIdx.x % kTeamThreads;
    s.sum[row] =
        (s.warp_sum[0][row] + s.warp_sum[1][row]) + (s.warp_sum[2][row] + s.warp_sum[3][row]);
  }
  float o[kDim / 32][4] = {};
  MultiplyValues<kDim>(s.p, s.v, o);
#pragma unroll
  for (int n = 0; n < kDim / 32; ++n) {
    const int column = ColumnOf<kDim>(n);
    *reinterpret_cast<float2*>(&s.out[g][column]) = make_float2(o[n][0], o[n][1]);
    *reinterpret_cast<float2*>(&s.out[g + 8][column]) = make_float2(o[n][2], o[n][3]);
  }
}

__device__ __forceinline__ int RequestOf(const DecodeAttentionParams& p, int row) {
  return p.row_requests != nullptr ? p.row_requests[row] : row / p.request_rows;
}

// The choice of one (row, group) into `choice`, by all threads.
template <int kThreads>
__device__ __forceinline__ void Choose(const DecodeAttentionParams& p, int64_t row_group, int own,
                                       Choice<kThreads>& choice) {
  if (p.chosen != nullptr) {
    if (threadIdx.x < p.topk)
      choice.blocks[threadIdx.x] = p.chosen[row_group * p.topk + threadIdx.x];
    __syncthreads();
    return;
  }
  ChooseBlocks<kThreads>(p.scores + row_group * p.scores_stride, own, p.topk, choice);
}

__device__ __forceinline__ void WriteSlot(const DecodeAttentionParams& p, int64_t row_group,
                                          int slot, int block, int head, float max, float sum) {
  if (p.block_lse == nullptr || head >= p.heads) return;
  p.block_lse[(row_group * p.topk + slot) * p.heads + head] =
      block >= 0 ? (max + log2f(sum)) * kLn2 : -INFINITY;
}

// A sum of nothing is a row without blocks.
template <int kDim>
__device__ __forceinline__ void WriteOutput(const DecodeAttentionParams& p, int64_t row_group,
                                            int head, int column, float out, float max, float sum) {
  const int64_t to = row_group * p.heads + head;
  p.out[to * kDim + column] =
      Bf16{__bfloat16_as_ushort(__float2bfloat16_rn(sum == 0 ? 0.0f : out / sum))};
  if (p.lse != nullptr && column == 0) p.lse[to] = (max + log2f(sum)) * kLn2;
}

// Of the blocks of threads that share a (row, group), each has kTeams teams, and each team a slot
// of the selection.
template <int kTeams>
constexpr int kCluster = kMaxDecodeTopk / kTeams;

template <int kDim, int kTeams>
struct alignas(128) ClusterShared {
  Team<kDim> team[kTeams];
  Choice<kTeams * kTeamThreads> choice;
};

// kAfterScore: the kernel before is the one that makes the scores, and what it does not write may
// be read while it runs.
template <int kDim, int kTeams, bool kAfterScore>
__global__ void __launch_bounds__(kTeams* kTeamThreads, kTeams == 1 ? 3 : 1)
    AttendByCluster(DecodeAttentionParams p) {
#if __CUDA_ARCH__ >= 900
  namespace cg = cooperative_groups;
  constexpr int kThreads = kTeams * kTeamThreads;
  auto& s = *reinterpret_cast<ClusterShared<kDim, kTeams>*>(DynamicShared());
  cg::cluster_group cluster = cg::this_cluster();
  const int rank = static_cast<int>(cluster.block_rank());
  const int64_t row_group = blockIdx.x / kCluster<kTeams>;
  const int row = static_cast<int>(row_group / p.groups);
  const int group = static_cast<int>(row_group % p.groups);
  const int team = threadIdx.x / kTeamThreads;
  const float scale_log2 = p.scale * kLog2E;
  if constexpr (!kAfterScore) WaitForEarlierKernels();
  const int position = p.positions[row], own = position / kBlockTokens;
  const int32_t* pages = p.pages + RequestOf(p, row) * p.pages_stride;
  uint32_t q[kDim / 16][4];
  LoadHeads<kDim>(p.q + row_group * p.heads * kDim, p.heads, q);
  if constexpr (kAfterScore) WaitForEarlierKernels();
  LetNextKernelStart();
  Choose<kThreads>(p, row_group, own, s.choice);

  const int slot = rank * kTeams + team;
  const int block = slot < p.topk ? s.choice.blocks[slot] : -1;
  if (block >= 0) {
    const int visible = min(kBlockTokens, position + 1 - block * kBlockTokens);
    CopyPage<kDim>(p, pages[block], group, visible, s.team[team]);
    AttendBlock<kDim>(s.team[team], q, 1 + team, visible, scale_log2);
  }
  if (p.selected != nullptr && threadIdx.x % kTeamThreads == 0 && slot < p.topk)
    p.selected[row_group * p.topk + slot] = block;
  cluster.sync();

  if (threadIdx.x % kTeamThreads < kTeamRows && slot < p.topk) {
    const int head = threadIdx.x % kTeamThreads;
    WriteSlot(p, row_group, slot, block, head, s.team[team].max[head], s.team[team].sum[head]);
  }
  // This block's part of the output: the head of its rank, and that kCluster further on.
  const int head = rank + kCluster<kTeams> * (static_cast<int>(threadIdx.x) / kDim);
  const int column = threadIdx.x % kDim;
  if (head < p.heads) {
    float max_of[kMaxDecodeTopk], sum_of[kMaxDecodeTopk], out_of[kMaxDecodeTopk];
    float max = -INFINITY;
#pragma unroll
    for (int i = 0; i < kMaxDecodeTopk; ++i) {
      const auto* other = cluster.map_shared_rank(&s.team[i % kTeams], i / kTeams);
      const bool there = i < p.topk && s.choice.blocks[i] >= 0;
      max_of[i] = there ? other->max[head] : -INFINITY;
      sum_of[i] = there ? other->sum[head] : 0.0f;
      out_of[i] = there ? other->out[head][column] : 0.0f;
      max = fmaxf(max, max_of[i]);
    }
    float sum = 0, out = 0;
#pragma unroll
    for (int i = 0; i < kMaxDecodeTopk; ++i) {
      if (i >= p.topk || s.choice.blocks[i] < 0) continue;
      const float weight = exp2f(max_of[i] - max);
      sum = fmaf(sum_of[i], weight, sum);
      out = fmaf(out_of[i], weight, out);
    }
    WriteOutput<kDim>(p, row_group, head, column, out, max, sum);
  }
  cluster.sync();  // nobody leaves while others read its memory
#endif
}

// The output so far of the blocks of threads that take a selection in turn.
template <int kDim>
struct alignas(128) InTurnShared {
  Team<kDim> team;
  float out[kTeamRows][kDim];
  float max[kTeamRows], sum[kTeamRows];
  Choice<kTeamThreads> choice;
};

// What the sum so far and the team's partial weigh when they are put together.
struct MergeWeights {
  float max, before, partial;
};
template <int kDim>
__device__ __forceinline__ MergeWeights WeightsOf(const InTurnShared<kDim>& s, int head) {
  const float max = fmaxf(s.max[head], s.team.max[head]);
  const bool first = s.max[head] == -INFINITY && s.sum[head] == 0;
  return {max, first ? 0.0f : exp2f(s.max[head] - max), exp2f(s.team.max[head] - max)};
}

// Between barriers: puts the team's partial to the output so far.
template <int kDim>
__device__ __forceinline__ void Merge(InTurnShared<kDim>& s) {
  for (int i = threadIdx.x; i < kTeamRows * kDim; i += kTeamThreads) {
    const int head = i / kDim, column = i % kDim;
    const MergeWeights w = WeightsOf(s, head);
    s.out[head][column] = s.out[head][column] * w.before + s.team.out[head][column] * w.partial;
  }
  __syncthreads();
  if (threadIdx.x >= kTeamRows) return;
  const int head = threadIdx.x;
  const MergeWeights w = WeightsOf(s, head);
  s.sum[head] = s.sum[head] * w.before + s.team.sum[head] * w.partial;
  s.max[head] = w.max;
}

template <int kDim>
__global__ void __launch_bounds__(kTeamThreads) AttendInTurn(DecodeAttentionParams p) {
  auto& s = *reinterpret_cast<InTurnShared<kDim>*>(DynamicShared());
  const int64_t row_group = blockIdx.x;
  const int row = static_cast<int>(row_group / p.groups);
  const int group = static_cast<int>(row_group % p.groups);
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int position = p.positions[row], own = position / kBlockTokens;
  const int32_t* pages = p.pages + RequestOf(p, row) * p.pages_stride;
  uint32_t q[kDim / 16][4];
  LoadHeads<kDim>(p.q + row_group * p.heads * kDim, p.heads, q);
  if (p.scores != nullptr) {
    ChooseBlocks<kTeamThreads>(p.scores + row_group * p.scores_stride, own, p.topk, s.choice);
  }
  for (int i = threadIdx.x; i < kTeamRows * kDim; i += kTeamThreads) s.out[i / kDim][i % kDim] = 0;
  if (threadIdx.x < kTeamRows) {
    s.max[threadIdx.x] = -INFINITY;
    s.sum[threadIdx.x] = 0;
  }
  for (int slot = 0; slot < p.topk; ++slot) {
    const int64_t at = row_group * p.topk + slot;
    const int block = p.scores != nullptr ? s.choice.blocks[slot] : p.chosen[at];
    if (p.selected != nullptr && threadIdx.x == 0) p.selected[at] = block;
    if (block >= 0) {
      const int visible = min(kBlockTokens, position + 1 - block * kBlockTokens);
      CopyPage<kDim>(p, pages[block], group, visible, s.team);
      AttendBlock<kDim>(s.team, q, 1, visible, p.scale * kLog2E);
    }
    __syncthreads();
    if (threadIdx.x < kTeamRows)
      WriteSlot(p, row_group, slot, block, threadIdx.x, s.team.max[threadIdx.x],
                s.team.sum[threadIdx.x]);
    if (block >= 0) Merge(s);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.heads * kDim; i += kTeamThreads)
    WriteOutput<kDim>(p, row_group, i / kDim, i % kDim, s.out[i / kDim][i % kDim], s.max[i / kDim],
                      s.sum[i / kDim]);
}

constexpr int kChooserThreads = 256;

// The choice alone, one block of threads a (row, group): for so many that a cluster's repeating it
// sixteen times would cost more than a kernel.
__global__ void __launch_bounds__(kChooserThreads) ChooseForAll(DecodeAttentionParams p) {
  __shared__ Choice<kChooserThreads> choice;
  const int64_t row_group = blockIdx.x;
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int own = p.positions[row_group / p.groups] / kBlockTokens;
  ChooseBlocks<kChooserThreads>(p.scores + row_group * p.scores_stride, own, p.topk, choice);
  if (threadIdx.x < p.topk)
    p.selected[row_group * p.topk + threadIdx.x] = choice.blocks[threadIdx.x];
}

template <int kDim, int kTeams, bool kAfterScore>
cudaError_t LaunchCluster(const DecodeAttentionParams& p, cudaStream_t stream) {
  return Launch(AttendByCluster<kDim, kTeams, kAfterScore>,
                {.grid = dim3(p.rows * p.groups * kCluster<kTeams>),
                 .threads = kTeams * kTeamThreads,
                 .shared = sizeof(ClusterShared<kDim, kTeams>),
                 .cluster = kCluster<kTeams>,
                 .overlap = true},
                stream, p);
}

template <int kDim>
cudaError_t LaunchDim(DecodeAttentionParams p, DecodeAttentionWay way, bool after_score,
                      cudaStream_t stream) {
  const bool hopper = CurrentDevice().hopper;
  const dim3 row_groups(p.rows * p.groups);
  if (p.scores != nullptr && p.selected != nullptr && p.rows * p.groups > kChooseApart) {
    const cudaError_t error =
        Launch(ChooseForAll, {.grid = row_groups, .threads = kChooserThreads, .overlap = hopper},
               stream, p);
    if (error != cudaSuccess) return error;
    p.chosen = p.selected;
    p.scores = nullptr;
    p.selected = nullptr;
  }
  if (way == DecodeAttentionWay::kBest) {
    way = hopper && p.topk <= kMaxDecodeTopk ? DecodeAttentionWay::kClusterOf16
                                             : DecodeAttentionWay::kInTurn;
  }
  switch (way) {
    case DecodeAttentionWay::kClusterOf16:
      return after_score ? LaunchCluster<kDim, 1, true>(p, stream)
                         : LaunchCluster<kDim, 1, false>(p, stream);
    case DecodeAttentionWay::kClusterOf8:
      return after_score ? LaunchCluster<kDim, 2, true>(p, stream)
                         : LaunchCluster<kDim, 2, false>(p, stream);
    default:
      return Launch(AttendInTurn<kDim>,
                    {.grid = row_groups,
                     .threads = kTeamThreads,
                     .shared = sizeof(InTurnShared<kDim>),
                     .overlap = hopper},
                    stream, p);
  }
}

}  // namespace

int DecodeAttention(const DecodeAttentionParams& p, CUstream_st* stream, bool after_score,
                    DecodeAttentionWay way) {
  assert(p.dim == 64 || p.dim == 128);
  assert(p.heads >= 1 && p.heads <= kMaxDecodeGqaRatio);
  assert(p.topk >= 1 && p.topk <= (p.chosen != nullptr ? kMaxDecodeChosen : kMaxDecodeTopk));
  assert(p.topk <= kMaxDecodeTopk || way == DecodeAttentionWay::kBest ||
         way == DecodeAttentionWay::kInTurn);
  assert((p.scores != nullptr) != (p.chosen != nullptr));
  if (p.rows == 0) return 0;
  return p.dim == 128 ? LaunchDim<128>(p, way, after_score, stream)
                      : LaunchDim<64>(p, way, after_score, stream);
}

}  // namespace lectern::kernels
