#pragma once

// How one head's keys or values of one block lie in memory for the CPU kernels ("tile"), and the
// way there and back.
//
// Neutral layout (storage, wire): [token][dim] bf16, one row per token.
// Key tile (keys, index keys):    [dim/2][128][2] bf16. A 32-bit lane holds two consecutive dims of
//   a token, so that vdpbf16ps multiplies 16 tokens at a time with a broadcast pair of the query;
//   paths without it widen the two halves to fp32 by a shift and a mask.
// Value tile:                     [128/2][dim][2] bf16. A lane holds one dim of two consecutive
//   tokens, for P V.
//
// A tile always has room for 128 tokens. Slots of tokens that do not exist yet may hold anything,
// NaN included: the kernels never let them reach a result. Packing only moves 16-bit words: the
// round trip is exact, NaN payloads too. Not thread-safe on the same tile; different tiles are
// independent. Bytes moved: 4 count dim. Tiles on huge pages (madvise) are read up to half again as
// fast.

#include <cstdint>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

inline constexpr int kBlockTokens = 128;   // MSA's B_k
inline constexpr int kTileAlignment = 64;  // required of every tile pointer, in bytes
inline constexpr int kMaxHeadDim = 256;    // dim is a multiple of 16 up to this

inline constexpr int64_t TileElements(int dim) { return int64_t{kBlockTokens} * dim; }
inline constexpr int64_t TileBytes(int dim) { return TileElements(dim) * int64_t{sizeof(Bf16)}; }

// A run of tokens [first, first + count) of one head of one block. A whole block is first 0, count
// 128.
struct TileRun {
  int32_t first;  // 0..127
  int32_t count;  // 0..128 - first
  int32_t dim;    // multiple of 16, at most kMaxHeadDim
};

// rows: [count][row_stride] bf16 (neutral), the run's first token first; tile:
// kTileAlignment-aligned. Packing leaves the slots outside the run untouched.
void PackKeys(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile);
void PackValues(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile);
void UnpackKeys(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride);
void UnpackValues(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride);

void PackKeysReference(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile);
void PackValuesReference(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile);
void UnpackKeysReference(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride);
void UnpackValuesReference(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride);

}  // namespace lectern::kernels
