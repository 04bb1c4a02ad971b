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
// And from which a team each fills the GPU: sixteen times as many clusters would only wait in line.
constexpr int kInTurnFrom = 96;

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

// Puts one group's keys or values of a page on their way into shared memory.
template <int kDim>
__device__ __forceinline__ void CopyTile(Bf16* to, const Bf16* from, const DecodeAttentionParams& p,
                                         int64_t page, int group, int visible) {
  CopyBlock<kDim>(to, from + (page * p.groups + group) * kBlockTokens * kDim, visible);
  CopyAsyncCommit();
}

__device__ __forceinline__ float MaxOfWarps(const float (&of)[kTeamWarps][kTeamRows], int row) {
  return fmaxf(fmaxf(of[0][row], of[1][row]), fmaxf(of[2][row], of[3][row]));
}
__device__ __forceinline__ float SumOfWarps(const float (&of)[kTeamWarps][kTeamRows], int row) {
  return (of[0][row] + of[1][row]) + (of[2][row] + of[3][row]);
}

// The scores of a warp's keys, in units of log 2, and its maxima for the team; `k` is there.
template <int kDim>
__device__ __forceinline__ void ScoreKeys(const uint32_t (&q)[kDim / 16][4], const Bf16* k,
                                          int visible, float scale_log2, float (&c)[4][4],
                                          float (&warp_max)[kTeamWarps][kTeamRows]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float m[2] = {-INFINITY, -INFINITY};
  MultiplyKeys<kDim>(q, k, c);
  ScaleVisible(c, visible, scale_log2, m);
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (t == 0) warp_max[threadIdx.x / 32 % kTeamWarps][g + 8 * r] = m[r];
}

// Behind a barrier: the block's maxima of the thread's rows, the weights of its keys in s.p, and
// the warp's sums for the team.
template <typename Shared>
__device__ __forceinline__ void WeighKeys(Shared& s, float (&c)[4][4], int visible, float (&m)[2]) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float l[2] = {0, 0};
#pragma unroll
  for (int r = 0; r < 2; ++r) m[r] = MaxOfWarps(s.warp_max, g + 8 * r);
  Weigh(c, visible, m, s.p, l);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 1);
    l[r] += __shfl_xor_sync(kAllLanes, l[r], 2);
    if (t == 0) s.warp_sum[threadIdx.x / 32 % kTeamWarps][g + 8 * r] = l[r];
  }
}

// What the blocks so far and the next one's partial weigh when they are put together, always in the
// order of the blocks: every way gives the same bits.
struct MergeWeights {
  float max, before, partial;
};
__device__ __forceinline__ MergeWeights WeightsOf(float before, float partial, bool first) {
  const float max = fmaxf(before, partial);
  return {max, first ? 0.0f : exp2f(before - max), exp2f(partial - max)};
}
__device__ __forceinline__ float Merged(float before, float partial, const MergeWeights& w) {
  return fmaf(partial, w.partial, __fmul_rn(before, w.before));
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
  float c[4][4] = {}, m[2];
  ScoreKeys<kDim>(q, s.k, visible, scale_log2, c, s.warp_max);
  NamedBarrier(barrier, kTeamThreads);
  WeighKeys(s, c, visible, m);
#pragma unroll
  for (int r = 0; r < 2; ++r)
    if (t == 0 && warp == 0) s.max[g + 8 * r] = m[r];
  CopyAsyncWait<0>();
  NamedBarrier(barrier, kTeamThreads);
  if (threadIdx.x % kTeamThreads < kTeamRows) {
    const int row = threadIdx.x % kTeamThreads;
    s.sum[row] = SumOfWarps(s.warp_sum, row);
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
    CopyTile<kDim>(s.team[team].k, p.k, p, pages[block], group, visible);
    CopyTile<kDim>(s.team[team].v, p.v, p, pages[block], group, visible);
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
#pragma unroll
    for (int i = 0; i < kMaxDecodeTopk; ++i) {
      const auto* other = cluster.map_shared_rank(&s.team[i % kTeams], i / kTeams);
      const bool there = i < p.topk && s.choice.blocks[i] >= 0;
      max_of[i] = there ? other->max[head] : -INFINITY;
      sum_of[i] = there ? other->sum[head] : 0.0f;
      out_of[i] = there ? other->out[head][column] : 0.0f;
    }
    float max = -INFINITY, sum = 0, out = 0;
#pragma unroll
    for (int i = 0; i < kMaxDecodeTopk; ++i) {
      if (i >= p.topk || s.choice.blocks[i] < 0) continue;
      const MergeWeights w = WeightsOf(max, max_of[i], i == 0);
      sum = Merged(sum, sum_of[i], w);
      out = Merged(out, out_of[i], w);
      max = w.max;
    }
    WriteOutput<kDim>(p, row_group, head, column, out, max, sum);
  }
  cluster.sync();  // nobody leaves while others read its memory
#endif
}

template <int kDim>
struct alignas(128) InTurnShared {
  Bf16 k[kBlockTokens * kDim];
  Bf16 v[kBlockTokens * kDim];
  __nv_bfloat16 p[kTeamRows][kWeightRow];
  float warp_max[kTeamWarps][kTeamRows], warp_sum[kTeamWarps][kTeamRows];
  Choice<kTeamThreads> choice;
};

// A team takes the blocks of a selection one behind the other, the output so far in registers: the
// next block's keys are copied while this one's values are multiplied, and its values while the
// next keys are.
template <int kDim>
__global__ void __launch_bounds__(kTeamThreads, 3) AttendInTurn(DecodeAttentionParams p) {
  auto& s = *reinterpret_cast<InTurnShared<kDim>*>(DynamicShared());
  const int64_t row_group = blockIdx.x;
  const int row = static_cast<int>(row_group / p.groups);
  const int group = static_cast<int>(row_group % p.groups);
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x / 32;
  const float scale_log2 = p.scale * kLog2E;
  WaitForEarlierKernels();
  LetNextKernelStart();
  const int position = p.positions[row], own = position / kBlockTokens;
  const int32_t* pages = p.pages + RequestOf(p, row) * p.pages_stride;
  uint32_t q[kDim / 16][4];
  LoadHeads<kDim>(p.q + row_group * p.heads * kDim, p.heads, q);
  if (p.scores != nullptr) {
    ChooseBlocks<kTeamThreads>(p.scores + row_group * p.scores_stride, own, p.topk, s.choice);
  }
  auto block_of = [&](int slot) {
    if (slot >= p.topk) return -1;
    return p.scores != nullptr ? s.choice.blocks[slot] : p.chosen[row_group * p.topk + slot];
  };
  auto visible_of = [&](int block) { return min(kBlockTokens, position + 1 - block * kBlockTokens); };
  // Commits a group in any case, so that a wait for all but the last is one for the last but one.
  auto copy = [&](Bf16* to, const Bf16* from, int block) {
    if (block >= 0) {
      CopyTile<kDim>(to, from, p, pages[block], group, visible_of(block));
    } else {
      CopyAsyncCommit();
    }
  };

  float run_max[2] = {-INFINITY, -INFINITY}, run_sum[2] = {}, run_out[kDim / 32][4] = {};
  int block = block_of(0);
  copy(s.k, p.k, block);
  copy(s.v, p.v, block);
  for (int slot = 0; slot < p.topk; ++slot) {
    if (p.selected != nullptr && threadIdx.x == 0)
      p.selected[row_group * p.topk + slot] = block;
    if (block < 0) {  // and so are all behind it
      if (threadIdx.x < kTeamRows) WriteSlot(p, row_group, slot, block, threadIdx.x, 0, 0);
      continue;
    }
    const int visible = visible_of(block), next = block_of(slot + 1);
    CopyAsyncWait<1>();
    __syncthreads();  // the keys are there
    float c[4][4] = {}, m[2];
    ScoreKeys<kDim>(q, s.k, visible, scale_log2, c, s.warp_max);
    __syncthreads();  // nobody reads the keys any more
    copy(s.k, p.k, next);
    WeighKeys(s, c, visible, m);
    CopyAsyncWait<1>();
    __syncthreads();  // the values and the weights are there
    float o[kDim / 32][4] = {};
    MultiplyValues<kDim>(s.p, s.v, o);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = SumOfWarps(s.warp_sum, g + 8 * r);
      if (warp == 0 && t == 0) WriteSlot(p, row_group, slot, block, g + 8 * r, m[r], sum);
      const MergeWeights w = WeightsOf(run_max[r], m[r], slot == 0);
      run_max[r] = w.max;
      run_sum[r] = Merged(run_sum[r], sum, w);
#pragma unroll
      for (int n = 0; n < kDim / 32; ++n) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) run_out[n][e] = Merged(run_out[n][e], o[n][e], w);
      }
    }
    __syncthreads();  // nobody reads the values, the weights and their sums any more
    copy(s.v, p.v, next);
    block = next;
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int head = g + 8 * r;
    if (head >= p.heads) continue;
#pragma unroll
    for (int n = 0; n < kDim / 32; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        WriteOutput<kDim>(p, row_group, head, ColumnOf<kDim>(n) + e, run_out[n][2 * r + e],
                          run_max[r], run_sum[r]);
      }
    }
  }
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
    const bool few = p.rows * p.groups < kInTurnFrom;
    way = hopper && few && p.topk <= kMaxDecodeTopk ? DecodeAttentionWay::kClusterOf16
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
