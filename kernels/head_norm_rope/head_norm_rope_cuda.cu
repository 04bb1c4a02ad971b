#include "kernels/head_norm_rope/head_norm_rope_cuda.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/block_tile/block_tile.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp.h"

namespace lectern::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 8;
constexpr int kPieceColumns = 128;  // of a warp: four neighbouring numbers a lane
constexpr int kPieces = 2;          // of a warp, under way together

__host__ __device__ int PiecesOf(int heads, int dim) {
  return (heads * dim + kPieceColumns - 1) / kPieceColumns;
}

// One of the five runs of columns of a projection.
struct Run {
  int64_t column;  // its first
  int heads, dim;
  const float* gain;
  bool rotates;
  Bf16* out;    // [rows][heads * dim] or null
  Bf16* cache;  // [pages][heads][128][dim] or null
  const int32_t* pages;
};

// The run of piece `piece` of a row, and the piece's number in it.
__device__ bool FindRun(const HeadNormRopeCudaParams& p, int piece, Run* run, int* in_run) {
  const int64_t q_width = int64_t{p.heads} * p.dim, kv_width = int64_t{p.kv_heads} * p.dim;
  const int64_t index_q_width = int64_t{p.index_heads} * p.index_dim;
  const int q_pieces = PiecesOf(p.heads, p.dim), kv_pieces = PiecesOf(p.kv_heads, p.dim);
  if (piece < q_pieces) {
    *run = {0, p.heads, p.dim, p.q_gain, true, p.q, nullptr, nullptr};
    *in_run = piece;
    return true;
  }
  piece -= q_pieces;
  if (piece < kv_pieces) {
    *run = {q_width, p.kv_heads, p.dim, p.k_gain, true, p.k, p.k_cache, p.kv_pages};
    *in_run = piece;
    return true;
  }
  piece -= kv_pieces;
  if (piece < kv_pieces) {
    *run = {q_width + kv_width, p.kv_heads, p.dim, nullptr, false, p.v, p.v_cache, p.kv_pages};
    *in_run = piece;
    return true;
  }
  piece -= kv_pieces;
  if (p.index_heads == 0) return false;
  const int64_t index_column = q_width + 2 * kv_width;
  const int index_pieces = PiecesOf(p.index_heads, p.index_dim);
  if (piece < index_pieces) {
    *run = {index_column, p.index_heads, p.index_dim, p.index_q_gain,
            true,         p.index_q,     nullptr,     nullptr};
    *in_run = piece;
    return true;
  }
  if (piece > index_pieces) return false;
  *run = {index_column + index_q_width,
          1,
          p.index_dim,
          p.index_k_gain,
          true,
          p.index_k,
          p.index_cache,
          p.index_pages};
  *in_run = 0;
  return true;
}

// The norm of the head whose numbers the dim / 4 neighbouring lanes hold.
__device__ void Norm(const HeadNormRopeCudaParams& p, const Run& run, int at, float (&n)[4]) {
  float squares = 0;
#pragma unroll
  for (int e = 0; e < 4; ++e) squares = fmaf(n[e], n[e], squares);
  for (int m = 1; m < run.dim / 4; m <<= 1) squares += __shfl_xor_sync(kAllLanes, squares, m);
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(run.dim) + p.eps);
  const float base = p.gain == NormGain::kGemma ? 1.0f : 0.0f;
  const float4 g = *reinterpret_cast<const float4*>(run.gain + at);
  n[0] = __fmul_rn(__fmul_rn(n[0], inverse), __fadd_rn(base, g.x));
  n[1] = __fmul_rn(__fmul_rn(n[1], inverse), __fadd_rn(base, g.y));
  n[2] = __fmul_rn(__fmul_rn(n[2], inverse), __fadd_rn(base, g.z));
  n[3] = __fmul_rn(__fmul_rn(n[3], inverse), __fadd_rn(base, g.w));
}

// Rotates numbers at..at+3 of a head; `piece` is the warp's whole piece in shared memory, `own` the
// place of this lane's first number there. Whole vectors where `half` is a multiple of 4: then all
// four are of one half.
__device__ void Rotate(const HeadNormRopeCudaParams& p, int64_t row, int at, const float* piece,
                       int own, float (&n)[4]) {
  const int half = p.rotary_dim / 2;
  if (at >= p.rotary_dim) return;
  const float* cos = p.cos + row * half;
  const float* sin = p.sin + row * half;
  float other[4], c[4], s[4];
  if (half % 4 == 0) {
    const bool second = at >= half;
    const int angle = second ? at - half : at;
    const float4 o = *reinterpret_cast<const float4*>(piece + own + (second ? -half : half));
    const float4 cv = *reinterpret_cast<const float4*>(cos + angle);
    const float4 sv = *reinterpret_cast<const float4*>(sin + angle);
    other[0] = o.x, other[1] = o.y, other[2] = o.z, other[3] = o.w;
    c[0] = cv.x, c[1] = cv.y, c[2] = cv.z, c[3] = cv.w;
    s[0] = sv.x, s[1] = sv.y, s[2] = sv.z, s[3] = sv.w;
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool rotates = at + e < p.rotary_dim, second = at + e >= half;
      const int angle = second ? at + e - half : at + e;
      other[e] = rotates ? piece[own + e + (second ? -half : half)] : 0.0f;
      c[e] = rotates ? cos[angle] : 1.0f;
      s[e] = rotates ? sin[angle] : 0.0f;
    }
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    if (at + e >= p.rotary_dim) break;
    const float sine = at + e < half ? -s[e] : s[e];
    n[e] = fmaf(other[e], sine, __fmul_rn(n[e], c[e]));
  }
}

__device__ void Store(const HeadNormRopeCudaParams& p, const Run& run, int64_t row, int column,
                      int head, int at, const float (&n)[4]) {
  const uint2 packed = {PackBf16(n[0], n[1]), PackBf16(n[2], n[3])};
  if (run.out != nullptr) {
    *reinterpret_cast<uint2*>(run.out + row * run.heads * run.dim + column) = packed;
  }
  if (run.pages == nullptr) return;
  const int64_t page = run.pages[row];
  if (page < 0) return;
  const int64_t token = (page * run.heads + head) * kBlockTokens + p.slots[row];
  *reinterpret_cast<uint2*>(run.cache + token * run.dim + at) = packed;
}

__global__ void __launch_bounds__(32 * kWarps) NormRotateInsert(HeadNormRopeCudaParams p) {
  __shared__ __align__(16) float pieces[kWarps][kPieceColumns];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row = blockIdx.x;
  Run runs[kPieces];
  int columns[kPieces];
  float4 loaded[kPieces];
  bool there[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    int in_run = 0;
    const int piece = (static_cast<int>(blockIdx.y) * kPieces + i) * kWarps + warp;
    there[i] = FindRun(p, piece, &runs[i], &in_run);
    if (!there[i]) continue;
    columns[i] = in_run * kPieceColumns + 4 * lane;
    loaded[i] = float4{0, 0, 0, 0};
    if (columns[i] < runs[i].heads * runs[i].dim) {
      loaded[i] =
          *reinterpret_cast<const float4*>(p.x + row * p.x_stride + runs[i].column + columns[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    if (!there[i]) continue;
    const Run& run = runs[i];
    const int head = columns[i] >> (31 - __clz(run.dim)), at = columns[i] & (run.dim - 1);
    float n[4] = {loaded[i].x, loaded[i].y, loaded[i].z, loaded[i].w};
    if (run.gain != nullptr) Norm(p, run, at, n);
    if (run.rotates && p.rotary_dim > 0) {
      float* piece = pieces[warp];
      *reinterpret_cast<float4*>(piece + 4 * lane) = float4{n[0], n[1], n[2], n[3]};
      __syncwarp();
      Rotate(p, row, at, piece, 4 * lane, n);
      __syncwarp();
    }
    if (columns[i] < run.heads * run.dim) Store(p, run, row, columns[i], head, at, n);
  }
}

bool IsDim(int dim) { return dim == 16 || dim == 32 || dim == 64 || dim == 128; }

}  // namespace

int HeadNormRopeCuda(const HeadNormRopeCudaParams& p, CUstream_st* stream) {
  const bool index = p.index_heads > 0;
  if (!IsDim(p.dim) || (index && !IsDim(p.index_dim)) || p.x_stride % 4 != 0 || p.rotary_dim < 0 ||
      p.rotary_dim % 2 != 0 || p.rotary_dim > p.dim || (index && p.rotary_dim > p.index_dim)) {
    return cudaErrorInvalidValue;
  }
  if (p.rows == 0) return cudaSuccess;
  int pieces = PiecesOf(p.heads, p.dim) + 2 * PiecesOf(p.kv_heads, p.dim);
  if (index) pieces += PiecesOf(p.index_heads, p.index_dim) + 1;
  const int per_block = kWarps * kPieces;
  const dim3 grid(static_cast<unsigned>(p.rows),
                  static_cast<unsigned>((pieces + per_block - 1) / per_block));
  return Launch(NormRotateInsert, {.grid = grid, .threads = 32 * kWarps}, stream, p);
}

}  // namespace lectern::kernels
