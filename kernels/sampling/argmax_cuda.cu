#include "kernels/sampling/argmax_cuda.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kVectors = 8;                      // of a thread
constexpr int kPiece = kThreads * kVectors * 4;  // logits of a thread block, whatever the rows

// The best of a piece and its sum of exp(logit - best).
struct Partial {
  unsigned long long best;  // see Key
  double sum;
};

int PiecesOf(int32_t vocabulary) { return (vocabulary + kPiece - 1) / kPiece; }

// Larger for a larger logit, at equality for the lower id: the greatest key is the argmax.
__device__ unsigned long long Key(float logit, int32_t id) {
  const uint32_t bits = __float_as_uint(logit);
  const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<unsigned long long>(ordered) << 32 | ~static_cast<uint32_t>(id);
}
__device__ int32_t IdOf(unsigned long long key) {
  return static_cast<int32_t>(~static_cast<uint32_t>(key));
}
__device__ float LogitOf(unsigned long long key) {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

// NaN as minus infinity, and one zero.
__device__ float Clean(float x) { return x == x ? x + 0.0f : -INFINITY; }

__device__ unsigned long long Best(unsigned long long a, unsigned long long b) {
  return a > b ? a : b;
}

__device__ void Finish(const ArgmaxCudaParams& p, int64_t row, unsigned long long best,
                       double sum) {
  p.ids[row] = IdOf(best);
  if (p.log_probability == nullptr) return;
  p.log_probability[row] = LogitOf(best) == -INFINITY ? NAN : static_cast<float>(-log(sum));
}

template <bool kWhole>
__global__ void __launch_bounds__(kThreads) BestOfPieces(ArgmaxCudaParams p) {
  __shared__ unsigned long long warp_best[kThreads / 32];
  __shared__ float warp_sum[kThreads / 32];
  const int64_t row = blockIdx.x;
  const int piece = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* logits = p.logits + row * p.stride;
  const auto place = [&](int i) {
    return piece * kPiece + 4 * (i * kThreads + static_cast<int>(threadIdx.x));
  };
  float x[kVectors][4];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int at = place(i);
    if (kWhole && at + 4 <= p.vocabulary) {
      const float4 v = *reinterpret_cast<const float4*>(logits + at);
      x[i][0] = v.x, x[i][1] = v.y, x[i][2] = v.z, x[i][3] = v.w;
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) x[i][e] = at + e < p.vocabulary ? logits[at + e] : -INFINITY;
    }
  }
  // Ids ascend within a thread, so that at equality the first stays.
  float top = -INFINITY;
  int32_t id = place(0);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[i][e] = Clean(x[i][e]);
      if (x[i][e] > top) {
        top = x[i][e];
        id = place(i) + e;
      }
    }
  }
  unsigned long long best = Key(top, id);
#pragma unroll
  for (int m = 16; m > 0; m >>= 1) best = Best(best, __shfl_xor_sync(kAllLanes, best, m));
  if (lane == 0) warp_best[warp] = best;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) best = Best(best, warp_best[w]);
  float sum = 0;
  if (p.log_probability != nullptr) {
    const float piece_top = LogitOf(best);
    if (piece_top > -INFINITY) {
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) sum += expf(x[i][e] - piece_top);
      }
    }
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) sum += __shfl_xor_sync(kAllLanes, sum, m);
    if (lane == 0) warp_sum[warp] = sum;
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  double total = 0;
  if (p.log_probability != nullptr) {
    for (int w = 0; w < kThreads / 32; ++w) total += warp_sum[w];
  }
  if (gridDim.y == 1) {
    Finish(p, row, best, total);
  } else {
    static_cast<Partial*>(p.workspace)[row * gridDim.y + piece] = {best, total};
  }
}

// A warp a row.
__global__ void __launch_bounds__(32) BestOfRow(ArgmaxCudaParams p, int pieces) {
  const int64_t row = blockIdx.x;
  const Partial* partials = static_cast<const Partial*>(p.workspace) + row * pieces;
  unsigned long long best = 0;
  for (int i = threadIdx.x; i < pieces; i += 32) best = Best(best, partials[i].best);
#pragma unroll
  for (int m = 16; m > 0; m >>= 1) best = Best(best, __shfl_xor_sync(kAllLanes, best, m));
  const double top = LogitOf(best);
  double sum = 0;
  for (int i = threadIdx.x; i < pieces; i += 32) {
    const double piece_top = LogitOf(partials[i].best);
    // Equal first: of two infinities there is no difference.
    sum += piece_top == top ? partials[i].sum : partials[i].sum * exp(piece_top - top);
  }
#pragma unroll
  for (int m = 16; m > 0; m >>= 1) sum += __shfl_xor_sync(kAllLanes, sum, m);
  if (threadIdx.x == 0) Finish(p, row, best, sum);
}

}  // namespace

int64_t ArgmaxCudaWorkspaceBytes(int32_t rows, int32_t vocabulary) {
  const int pieces = PiecesOf(vocabulary);
  return pieces > 1 ? int64_t{rows} * pieces * static_cast<int64_t>(sizeof(Partial)) : 0;
}

int ArgmaxCuda(const ArgmaxCudaParams& p, CUstream_st* stream) {
  if (p.rows == 0) return cudaSuccess;
  const int pieces = PiecesOf(p.vocabulary);
  const dim3 grid(static_cast<unsigned>(p.rows), static_cast<unsigned>(pieces));
  const bool whole = reinterpret_cast<uintptr_t>(p.logits) % 16 == 0 && p.stride % 4 == 0;
  const auto kernel = whole ? BestOfPieces<true> : BestOfPieces<false>;
  const cudaError_t error = Launch(kernel, {.grid = grid, .threads = kThreads}, stream, p);
  if (error != cudaSuccess || pieces == 1) return error;
  return Launch(BestOfRow, {.grid = static_cast<unsigned>(p.rows), .threads = 32}, stream, p,
                pieces);
}

}  // namespace lectern::kernels
