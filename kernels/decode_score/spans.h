#pragma once

// Spans and the flat list of their blocks that a grid deals out. For .cu files.

#include <climits>

#include "kernels/cuda/warp.h"
#include "kernels/decode_score/decode_score.h"

namespace lectern::kernels::cuda {

// Where a span's blocks lie in the flat list of all spans' blocks.
struct Spans {
  int first[kMaxDecodeSpans + 1];
};

__device__ __forceinline__ DecodeSpan SpanAt(const DecodeScoreParams& p, int i) {
  if (p.spans != nullptr) return p.spans[i];
  return DecodeSpan{i * p.span_rows, p.span_rows, i, 0, INT_MAX};
}

__device__ __forceinline__ int SpanBlocks(const DecodeScoreParams& p, const DecodeSpan& span) {
  int own = 0;
  for (int r = 0; r < span.rows; ++r)
    own = max(own, p.positions[span.first_row + r] / kBlockTokens);
  return max(0, min(own, span.end_block) - span.first_block);
}

// The blocks of all spans, and where each span's begin: exclusive prefix sums, by the whole block
// of threads. One span needs no table and no barrier.
__device__ __forceinline__ int LayOut(const DecodeScoreParams& p, Spans& spans) {
  if (p.num_spans == 1) {
    const DecodeSpan span = SpanAt(p, 0);
    const int lane = threadIdx.x % 32;
    int own = 0;
    for (int r = lane; r < span.rows; r += 32)
      own = max(own, p.positions[span.first_row + r] / kBlockTokens);
    own = __reduce_max_sync(kAllLanes, own);
    return max(0, min(own, span.end_block) - span.first_block);
  }
  for (int i = threadIdx.x; i < p.num_spans; i += blockDim.x)
    spans.first[i + 1] = SpanBlocks(p, SpanAt(p, i));
  __syncthreads();
  if (threadIdx.x < 32) {
    int before = 0;
    for (int i = 0; i < p.num_spans; i += 32) {
      const int at = i + static_cast<int>(threadIdx.x);
      int sum = at < p.num_spans ? spans.first[at + 1] : 0;
#pragma unroll
      for (int d = 1; d < 32; d *= 2) {
        const int left = __shfl_up_sync(kAllLanes, sum, d);
        if (static_cast<int>(threadIdx.x) >= d) sum += left;
      }
      if (at < p.num_spans) spans.first[at + 1] = before + sum;
      before += __shfl_sync(kAllLanes, sum, 31);
    }
    if (threadIdx.x == 0) spans.first[0] = 0;
  }
  __syncthreads();
  return spans.first[p.num_spans];
}

// The span that holds flat block `at`: the last that begins at or before it.
__device__ __forceinline__ int SpanOf(const Spans& spans, int count, int at) {
  int low = 0, high = count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (spans.first[middle] <= at)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

}  // namespace lectern::kernels::cuda
