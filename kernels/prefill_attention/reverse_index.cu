#include <algorithm>

#include "kernels/prefill_attention/attend.h"

namespace lectern::kernels::prefill {
namespace {

constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;
constexpr int kMeasuredRows = 4;
constexpr int kItemTiles = 8;  // tiles of 128 (row, head) rows that an item's keys are kept for

// Different blocks of four neighbours over one's own count: above this, gathering is faster.
constexpr float kUnionLimit = 2.4f;

// A warp looks at four rows of one group.
__global__ void __launch_bounds__(kThreads)
    MeasureOverlap(Arguments a, int32_t rows, GatherWorkspace w) {
  __shared__ int sums[2];
  if (threadIdx.x < 2) sums[threadIdx.x] = 0;
  __syncthreads();
  const int lane = threadIdx.x & 31;
  const int64_t tile = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  const int64_t row = tile / a.groups * kMeasuredRows;
  const int group = static_cast<int>(tile % a.groups);
  int id[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int at = i * 32 + lane;
    const int64_t r = row + at / kMaxPrefillSelected;
    const int slot = at % kMaxPrefillSelected;
    id[i] = r < rows && slot < a.topk ? a.selected[(r * a.groups + group) * a.topk + slot] : -1;
  }
  bool seen[2] = {id[0] < 0, id[1] < 0};
#pragma unroll
  for (int i = 0; i < 2; ++i)
    for (int other = 0; other < 32; ++other) {
      const int block = __shfl_sync(kAll, id[i], other);
#pragma unroll
      for (int mine = i; mine < 2; ++mine)
        seen[mine] |= block == id[mine] && (mine > i || other < lane);
    }
  const int different =
      __popc(__ballot_sync(kAll, !seen[0])) + __popc(__ballot_sync(kAll, !seen[1]));
  const int all = __popc(__ballot_sync(kAll, id[0] >= 0)) + __popc(__ballot_sync(kAll, id[1] >= 0));
  if (lane == 0) {
    atomicAdd(sums, different);
    atomicAdd(sums + 1, all);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  atomicAdd(w.sums, sums[0]);
  atomicAdd(w.sums + 1, sums[1]);
  __threadfence();
  if (atomicAdd(w.ticket, 1) != static_cast<int>(gridDim.x) - 1) return;
  __threadfence();
  const float together = static_cast<float>(atomicAdd(w.sums, 0));
  const float each = static_cast<float>(atomicAdd(w.sums + 1, 0)) / kMeasuredRows;
  *w.path = together > kUnionLimit * each ? kGatherPath : kUnionPath;
}

__device__ __forceinline__ int SequenceOfRow(const PrefillSequence* sequences, int row) {
  int i = 0;
  while (row < sequences[i].row || row >= sequences[i].row + sequences[i].rows) ++i;
  return i;
}

// A pair's segment, or -1 where nothing was chosen.
__device__ __forceinline__ int64_t Segment(const Arguments& a, int64_t at) {
  const int block = a.selected[at];
  if (block < 0) return -1;
  const int row = static_cast<int>(at / a.topk / a.groups);
  const PrefillSequence& s = a.sequences[SequenceOfRow(a.sequences, row)];
  return (int64_t{s.page_begin} + block) * a.groups + at / a.topk % a.groups;
}

__global__ void __launch_bounds__(kThreads)
    CountPairs(Arguments a, int64_t pairs, GatherWorkspace w, const int32_t* path) {
  if (path != nullptr && *path != kGatherPath) return;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= pairs) return;
  const int64_t segment = Segment(a, at);
  if (segment >= 0) w.ranks[at] = atomicAdd(w.counts + segment, 1);
}

// One thread block: where each segment's pairs begin, and its items.
__global__ void __launch_bounds__(kScanThreads)
    PlaceSegments(Arguments a, int32_t segments, int32_t num_sequences, int item_pairs,
                  GatherWorkspace w, const int32_t* path) {
  if (path != nullptr && *path != kGatherPath) return;
  __shared__ int2 warps[32];
  const int each = (segments + kScanThreads - 1) / kScanThreads;
  const int begin = min(segments, static_cast<int>(threadIdx.x) * each);
  const int end = min(segments, begin + each);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int2 mine = make_int2(0, 0);  // pairs, items
  for (int i = begin; i < end; ++i) {
    mine.x += w.counts[i];
    mine.y += (w.counts[i] + item_pairs - 1) / item_pairs;
  }
  int2 before = mine;
  for (int step = 1; step < 32; step *= 2) {
    const int x = __shfl_up_sync(kAll, before.x, step), y = __shfl_up_sync(kAll, before.y, step);
    if (lane >= step) {
      before.x += x;
      before.y += y;
    }
  }
  if (lane == 31) warps[warp] = before;
  __syncthreads();
  before.x -= mine.x;
  before.y -= mine.y;
  for (int i = 0; i < warp; ++i) {
    before.x += warps[i].x;
    before.y += warps[i].y;
  }
  for (int i = begin; i < end; ++i) {
    const int count = w.counts[i];
    w.offsets[i] = before.x;
    if (count == 0) continue;
    // Sequences' page tables may lie in any order.
    int sequence = 0;
    for (int s = 0; s < num_sequences; ++s) {
      const PrefillSequence& q = a.sequences[s];
      const int entry = i / a.groups - q.page_begin;
      if (q.rows > 0 && entry >= 0 && entry * kBlock < q.first + q.rows) sequence = s;
    }
    for (int first = 0; first < count; first += item_pairs)
      w.items[before.y++] = {i, before.x + first, min(item_pairs, count - first), sequence};
    before.x += count;
  }
  if (threadIdx.x == kScanThreads - 1) *w.num_items = before.y;
}

__global__ void __launch_bounds__(kThreads)
    ListPairs(Arguments a, int64_t pairs, GatherWorkspace w, const int32_t* path) {
  if (path != nullptr && *path != kGatherPath) return;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= pairs) return;
  const int64_t segment = Segment(a, at);
  if (segment < 0) return;
  const int64_t row = at / a.topk / a.groups;
  w.list[w.offsets[segment] + w.ranks[at]] = static_cast<int32_t>(row * a.topk + at % a.topk);
}

int64_t Pairs(const PrefillAttentionParams& p) { return int64_t{p.rows} * p.groups * p.topk; }
unsigned Blocks(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

int GatherItemPairs(int ratio) {
  int power = 1;
  while (power < ratio) power *= 2;
  return kItemTiles * (kBlock / power);
}

GatherWorkspace CarveGatherWorkspace(const PrefillAttentionParams& p) {
  constexpr int64_t kAlign = 256;
  uint8_t* const base = static_cast<uint8_t*>(p.workspace);
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    uint8_t* place = base + at;
    at += (bytes + kAlign - 1) / kAlign * kAlign;
    return place;
  };
  const int64_t segments = p.table_entries * p.groups, pairs = Pairs(p);
  GatherWorkspace w{};
  int32_t* head = reinterpret_cast<int32_t*>(take(8 * sizeof(int32_t)));
  w.path = head;
  w.ticket = head + 1;
  w.sums = head + 2;
  w.num_items = head + 4;
  w.counts = reinterpret_cast<int32_t*>(take(segments * 4));
  w.zero_bytes = at;
  w.offsets = reinterpret_cast<int32_t*>(take(segments * 4));
  w.ranks = reinterpret_cast<int32_t*>(take(pairs * 4));
  w.list = reinterpret_cast<int32_t*>(take(pairs * 4));
  w.items = reinterpret_cast<GatherItem*>(
      take((pairs / GatherItemPairs(p.ratio) + segments + 1) * int64_t{sizeof(GatherItem)}));
  w.lse = reinterpret_cast<float*>(take(pairs * p.ratio * 4));
  w.out = reinterpret_cast<Bf16*>(take(pairs * p.ratio * p.dim * 2));
  w.bytes = at;
  return w;
}

cudaError_t ChoosePath(const PrefillAttentionParams& p, const GatherWorkspace& w,
                       cudaStream_t stream) {
  const int64_t tiles = (int64_t{p.rows} + kMeasuredRows - 1) / kMeasuredRows * p.groups;
  MeasureOverlap<<<Blocks(tiles * 32), kThreads, 0, stream>>>(MakeArguments(p), p.rows, w);
  return cudaGetLastError();
}

cudaError_t BuildReverseIndex(const PrefillAttentionParams& p, const GatherWorkspace& w,
                              const int32_t* path, cudaStream_t stream) {
  const Arguments a = MakeArguments(p);
  const int64_t pairs = Pairs(p);
  CountPairs<<<Blocks(pairs), kThreads, 0, stream>>>(a, pairs, w, path);
  PlaceSegments<<<1, kScanThreads, 0, stream>>>(a, static_cast<int32_t>(p.table_entries * p.groups),
                                                p.num_sequences, GatherItemPairs(p.ratio), w, path);
  ListPairs<<<Blocks(pairs), kThreads, 0, stream>>>(a, pairs, w, path);
  return cudaGetLastError();
}

}  // namespace lectern::kernels::prefill
