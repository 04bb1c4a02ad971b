#include "kernels/cache_pages/cache_pages_cuda.h"

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace lectern::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kSlicePairs = 32;           // pairs of dims of a key tile that are moved together
constexpr int kPitch = kBlockTokens + 1;  // odd: neither rows nor columns collide in banks
constexpr int kValueVectors = 1024;       // pieces of four dims of a value tile, likewise

// A key tile [dim/2][128] of words against a page [128][dim/2]: one slice of it through shared
// memory, where a warp has whole rows of the tile on one side, and on the other 8 vectors of 4
// tokens.
__device__ void MoveKeys(uint32_t* tile, uint32_t* page, int pairs, int slice, bool to_page) {
  __shared__ uint32_t words[kSlicePairs * kPitch];
  const int first = slice * kSlicePairs, count = min(kSlicePairs, pairs - first);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t* rows = tile + first * kBlockTokens;
  const auto on_page = [&](int token, int pair) {
    return reinterpret_cast<uint4*>(page + token * pairs + first + pair);
  };
  const int pair = lane % 8 * 4;
  if (to_page) {
#pragma unroll
    for (int i = 0; i < kSlicePairs * kBlockTokens / kThreads; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      const int row = at / kBlockTokens, token = at % kBlockTokens;
      if (row < count) words[row * kPitch + token] = rows[at];
    }
    __syncthreads();
    if (pair >= count) return;
#pragma unroll
    for (int i = 0; i < kBlockTokens / (4 * kWarps); ++i) {
      const int token = (i * kWarps + warp) * 4 + lane / 8;
      const uint32_t* from = words + pair * kPitch + token;
      *on_page(token, pair) = uint4{from[0], from[kPitch], from[2 * kPitch], from[3 * kPitch]};
    }
    return;
  }
  if (pair < count) {
#pragma unroll
    for (int i = 0; i < kBlockTokens / (4 * kWarps); ++i) {
      const int token = (i * kWarps + warp) * 4 + lane / 8;
      const uint4 v = *on_page(token, pair);
      uint32_t* to = words + pair * kPitch + token;
      to[0] = v.x, to[kPitch] = v.y, to[2 * kPitch] = v.z, to[3 * kPitch] = v.w;
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kSlicePairs * kBlockTokens / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = at / kBlockTokens, token = at % kBlockTokens;
    if (row < count) rows[at] = words[row * kPitch + token];
  }
}

// A value tile [64][dim][2] against a page [128][dim]: four dims of two tokens at a time.
__device__ void MoveValues(uint32_t* tile, uint2* page, int dim, int slice, bool to_page) {
  const int in_row = dim / 4;  // vectors of four dims
  constexpr uint32_t kLow = 0x5410, kHigh = 0x7632;
#pragma unroll
  for (int i = 0; i < kValueVectors / kThreads; ++i) {
    const int at = slice * kValueVectors + i * kThreads + static_cast<int>(threadIdx.x);
    const int two = at / in_row, vector = at % in_row;  // tokens 2 two and 2 two + 1
    if (two >= kBlockTokens / 2) break;
    uint4* both = reinterpret_cast<uint4*>(tile) + at;
    uint2* even = page + 2 * two * in_row + vector;
    uint2* odd = even + in_row;
    if (to_page) {
      const uint4 v = *both;
      *even = uint2{__byte_perm(v.x, v.y, kLow), __byte_perm(v.z, v.w, kLow)};
      *odd = uint2{__byte_perm(v.x, v.y, kHigh), __byte_perm(v.z, v.w, kHigh)};
    } else {
      const uint2 e = *even, o = *odd;
      *both = uint4{__byte_perm(e.x, o.x, kLow), __byte_perm(e.x, o.x, kHigh),
                    __byte_perm(e.y, o.y, kLow), __byte_perm(e.y, o.y, kHigh)};
    }
  }
}

__host__ __device__ int KeySlices(int dim) { return (dim / 2 + kSlicePairs - 1) / kSlicePairs; }
__host__ __device__ int ValueSlices(int dim) {
  return (kBlockTokens / 2 * (dim / 4) + kValueVectors - 1) / kValueVectors;
}

// blockIdx: (block, slice of keys or of values, KV head).
__global__ void __launch_bounds__(kThreads) CopyKv(KvPagesCudaParams p) {
  const int block = blockIdx.x, head = blockIdx.z, slice = blockIdx.y;
  const int64_t page = p.pages[block];
  if (page < 0) return;
  const int64_t place = p.places != nullptr ? p.places[block] : block;
  const bool to_page = p.direction == CopyPages::kTilesToPages;
  const int64_t tile_elements = int64_t{kBlockTokens} * p.dim;
  Bf16* tiles = p.tiles + place * p.block_stride + 2 * head * tile_elements;
  const int64_t at = (page * p.kv_heads + head) * tile_elements;
  const int key_slices = KeySlices(p.dim);
  if (slice < key_slices) {
    MoveKeys(reinterpret_cast<uint32_t*>(tiles), reinterpret_cast<uint32_t*>(p.k + at), p.dim / 2,
             slice, to_page);
  } else {
    MoveValues(reinterpret_cast<uint32_t*>(tiles + tile_elements),
               reinterpret_cast<uint2*>(p.v + at), p.dim, slice - key_slices, to_page);
  }
}

// blockIdx: (block, slice, layer).
__global__ void __launch_bounds__(kThreads) CopyIndex(IndexPagesCudaParams p) {
  const int block = blockIdx.x, layer = blockIdx.z;
  const int64_t page = p.pages[block];
  if (page < 0) return;
  const int64_t place = p.places != nullptr ? p.places[block] : block;
  const int64_t tile_elements = int64_t{kBlockTokens} * p.dim;
  Bf16* tile = p.tiles + place * p.block_stride + layer * tile_elements;
  Bf16* keys = p.keys + layer * p.layer_stride + page * tile_elements;
  MoveKeys(reinterpret_cast<uint32_t*>(tile), reinterpret_cast<uint32_t*>(keys), p.dim / 2,
           blockIdx.y, p.direction == CopyPages::kTilesToPages);
}

bool IsDim(int dim) { return dim > 0 && dim % 16 == 0 && dim <= kMaxHeadDim; }

}  // namespace

int CopyKvPagesCuda(const KvPagesCudaParams& p, CUstream_st* stream) {
  if (!IsDim(p.dim) || p.block_stride % 8 != 0) return cudaErrorInvalidValue;
  if (p.blocks == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.blocks),
                  static_cast<unsigned>(KeySlices(p.dim) + ValueSlices(p.dim)),
                  static_cast<unsigned>(p.kv_heads));
  return cuda::Launch(CopyKv, {.grid = grid, .threads = kThreads}, stream, p);
}

int CopyIndexPagesCuda(const IndexPagesCudaParams& p, CUstream_st* stream) {
  if (!IsDim(p.dim) || p.block_stride % 8 != 0 || p.layer_stride % 8 != 0) {
    return cudaErrorInvalidValue;
  }
  if (p.blocks == 0 || p.layers == 0) return cudaSuccess;
  const dim3 grid(static_cast<unsigned>(p.blocks), static_cast<unsigned>(KeySlices(p.dim)),
                  static_cast<unsigned>(p.layers));
  return cuda::Launch(CopyIndex, {.grid = grid, .threads = kThreads}, stream, p);
}

}  // namespace lectern::kernels
