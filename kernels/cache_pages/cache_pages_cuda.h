#pragma once

// Whole blocks between tiles as the CPU's kernels have them (block_tile.h) and pages as the GPU's
// kernels have them (sm_80 and later), both in device memory: so the host hands over its tiles as
// they lie. Only 16-bit words move: the round trip is exact. Many blocks per launch. Slots of
// tokens that do not exist move too, whatever they hold.
//
// A block of keys and values:  tiles [kv_heads]{key tile, value tile}
//                              pages k, v [pages][kv_heads][128][dim]
// A block's index keys:        tiles [layers]{key tile}, of all sparse layers or of some
//                              pages [layers][pages][128][dim]
//
// Bytes: 4 per number (512 dim per tile).

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/block_tile/block_tile.h"

struct CUstream_st;

namespace lectern::kernels {

enum class CopyPages { kTilesToPages, kPagesToTiles };

// Pointers are device memory, 16-byte aligned.
struct KvPagesCudaParams {
  Bf16* tiles;            // tiles of a block at tiles + place * block_stride
  int64_t block_stride;   // elements, >= 2 kv_heads TileElements(dim), a multiple of 8
  Bf16* k;                // [pages][kv_heads][128][dim]
  Bf16* v;                // [pages][kv_heads][128][dim]
  const int32_t* places;  // [blocks]; null: block i at place i
  const int32_t* pages;   // [blocks]; negative: left out. No page twice
  int32_t blocks;
  int32_t kv_heads;
  int32_t dim;  // a multiple of 16, at most kMaxHeadDim
  CopyPages direction;
};

// Pointers are device memory, 16-byte aligned.
struct IndexPagesCudaParams {
  Bf16* tiles;            // the first layer's tile of a block at tiles + place * block_stride
  int64_t block_stride;   // elements, >= layers TileElements(dim), a multiple of 8
  Bf16* keys;             // the first layer's [pages][128][dim]
  int64_t layer_stride;   // elements from one layer's pages to the next's, a multiple of 8
  const int32_t* places;  // [blocks]; null: block i at place i
  const int32_t* pages;   // [blocks], the same in every layer; negative: left out. No page twice
  int32_t blocks;
  int32_t layers;
  int32_t dim;  // a multiple of 16, at most kMaxHeadDim
  CopyPages direction;
};

// Launch on `stream` and return a cudaError_t: 0, what the launch failed with, or
// cudaErrorInvalidValue for a dim not named above. No allocation, no synchronisation; may be
// captured in a graph.
int CopyKvPagesCuda(const KvPagesCudaParams& params, CUstream_st* stream);
int CopyIndexPagesCuda(const IndexPagesCudaParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
