#include "kernels/index_codes/index_codes.h"

#include <cuda_runtime.h>

#include <cassert>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"
#include "kernels/index_codes/rotate.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 8;
constexpr int kTokensOfWarp = kBlockTokens / kWarps;
constexpr float kUp = 1.000001f;         // what sums of fp32 may have lost
constexpr float kRotationError = 1e-6f;  // of |k|: rotate.h

// One block of threads a page, sixteen tokens a warp, held in registers.
template <int kDim>
__global__ void __launch_bounds__(32 * kWarps) Encode(IndexCodesParams p) {
  constexpr int kHeld = kDim / 32;
  __shared__ float seen[3][kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t page = p.chosen != nullptr ? p.chosen[blockIdx.x] : blockIdx.x;
  const int64_t first = (page * kBlockTokens + warp * kTokensOfWarp) * kDim;
  float x[kTokensOfWarp][kHeld], largest = 0, norm = 0;
  bool finite = true;
#pragma unroll
  for (int i = 0; i < kTokensOfWarp; ++i) {
    LoadVector<kDim>(p.keys + first + i * kDim, x[i]);
    float sum = 0;
#pragma unroll
    for (int d = 0; d < kHeld; ++d) sum = fmaf(x[i][d], x[i][d], sum);
    sum = WarpSum(sum);
    finite = finite && sum < INFINITY;  // false of a NaN
    norm = fmaxf(norm, sum);
    Rotate<kDim>(x[i]);
#pragma unroll
    for (int d = 0; d < kHeld; ++d) largest = fmaxf(largest, fabsf(x[i][d]));
  }
  largest = WarpMax(largest);
  if (lane == 0) {
    seen[0][warp] = largest;
    seen[1][warp] = finite ? norm : INFINITY;
  }
  __syncthreads();
  norm = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    largest = fmaxf(largest, seen[0][w]);
    norm = fmaxf(norm, seen[1][w]);
  }
  finite = norm < INFINITY;
  const float scale = largest > 0 ? largest / 127 : 1.0f;
  float error = 0;
#pragma unroll
  for (int i = 0; i < kTokensOfWarp; ++i) {
    float sum = 0;
    uint32_t packed = 0;
#pragma unroll
    for (int d = 0; d < kHeld; ++d) {
      const float code = finite ? fminf(fmaxf(rintf(x[i][d] / scale), -127.0f), 127.0f) : 0.0f;
      const float e = x[i][d] - code * scale;
      sum = fmaf(e, e, sum);
      packed |= (static_cast<uint32_t>(static_cast<int>(code)) & 255u) << (8 * d);
    }
    error = fmaxf(error, WarpSum(sum));
    int8_t* to = p.codes + first + i * kDim + lane * kHeld;
    if constexpr (kHeld == 4)
      *reinterpret_cast<uint32_t*>(to) = packed;
    else
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(packed);
  }
  if (lane == 0) seen[2][warp] = error;
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) error = fmaxf(error, seen[2][w]);
  const float max_k = sqrtf(norm) * kUp;
  p.bounds[page] = finite
                       ? IndexCodesBound{scale, max_k, sqrtf(error) * kUp + kRotationError * max_k}
                       : IndexCodesBound{1.0f, 0.0f, INFINITY};
}

}  // namespace

int MakeIndexCodes(const IndexCodesParams& p, CUstream_st* stream) {
  assert(p.dim == 64 || p.dim == 128);
  if (p.num_chosen == 0) return 0;
  const LaunchShape shape = {.grid = dim3(p.num_chosen), .threads = 32 * kWarps};
  return p.dim == 128 ? Launch(Encode<128>, shape, stream, p)
                      : Launch(Encode<64>, shape, stream, p);
}

}  // namespace lectern::kernels
