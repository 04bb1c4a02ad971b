#pragma once

// y = x W^T with bf16 inputs and fp32 accumulation, W [N][K] as checkpoints store it. Two ways from
// one weight object:
//
// MatmulTiles, for prefill. Rows come in tiles of exactly 128 (row = token position mod 128; unused
//   rows zero). Every (tile, column panel) is one single-threaded oneDNN product of fixed shape,
//   and our OpenMP loop runs over them, so a row's result does not depend, bit for bit, on the
//   number of tiles, on other rows or on the number of threads. FLOPs 2 128 tiles N K.
// MatVec, for decode. A few rows; the row-major weights are streamed once for all of them, parallel
//   over N; a row's result does not depend on the number of rows or threads. Bytes 2 N K: bound by
//   memory for few rows.
//
// The two agree only up to rounding (other orders of summation). Products are in bf16 where
// processor and oneDNN offer them, else in fp32 on exactly widened inputs.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/bf16/bf16.h"

namespace lectern::kernels {

inline constexpr int kMatmulTileRows = 128;
inline constexpr int kMatVecMaxRows = 64;

// Consecutive rows of the weight matrix; several make a fused projection (q, k, v, ... side by side
// in y).
struct WeightRows {
  const Bf16* weights;  // [rows][K] row-major, contiguous
  int64_t rows;
};

// A weight matrix ready for both entries. Keeps the pointers (MatVec reads them), so the bf16
// memory must outlive it; owns a prepacked copy for MatmulTiles. Immutable after construction: any
// number of threads may use it at once.
class PackedMatrix {
 public:
  // K: multiple of 2. Packs with all threads of OpenMP.
  PackedMatrix(std::span<const WeightRows> segments, int64_t k);
  PackedMatrix(const Bf16* weights, int64_t n, int64_t k);
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;

  int64_t n() const;  // all segments' rows
  int64_t k() const;
  int64_t packed_bytes() const;  // of the owned copy
  std::span<const WeightRows> segments() const;

  struct Panels;  // oneDNN primitives and packed panels; defined beside the kernel
  const Panels& panels() const { return *panels_; }

 private:
  std::unique_ptr<Panels> panels_;
};

enum class MatmulStore {
  kOverwrite,  // y = x W^T
  kAdd,        // y += x W^T (residual)
};

struct MatmulTilesParams {
  const Bf16* x;     // [tiles * 128][K], contiguous, finite in every row (unused rows zero)
  float* y;          // [tiles * 128][y_stride]
  int64_t y_stride;  // >= N
  int64_t tiles;
  MatmulStore store = MatmulStore::kOverwrite;
};
void MatmulTiles(const PackedMatrix& w, const MatmulTilesParams& params);
// fp64 accumulation.
void MatmulTilesReference(const PackedMatrix& w, const MatmulTilesParams& params);

struct MatVecParams {
  const Bf16* x;     // [rows][x_stride]
  int64_t x_stride;  // >= K
  float* y;          // [rows][y_stride]
  int64_t y_stride;  // >= N
  int64_t rows;      // 1..kMatVecMaxRows
  MatmulStore store = MatmulStore::kOverwrite;
};
void MatVec(const PackedMatrix& w, const MatVecParams& params);
// fp64 accumulation.
void MatVecReference(const PackedMatrix& w, const MatVecParams& params);

// Whether MatmulTiles multiplies in bf16 (else fp32). Constant for the process.
bool MatmulUsesBf16();
// e.g. "onednn-2.6.3/bf16/avx512_core_bf16": for metrics.
std::string MatmulPathName();
// e.g. "cpu/avx512bf16/onednn-2.6.3/bf16/avx512_core_bf16/kernels-1": everything of this room that
// decides the bits of a stored block.
std::string KernelProvenance();

}  // namespace lectern::kernels
