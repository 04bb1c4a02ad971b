#include "kernels/block_tile/block_tile.h"

namespace lectern::kernels {
namespace {

int64_t KeyIndex(int token, int dim_index) {
  return (int64_t{dim_index / 2} * kBlockTokens + token) * 2 + dim_index % 2;
}

int64_t ValueIndex(int token, int dim_index, int dim) {
  return (int64_t{token / 2} * dim + dim_index) * 2 + token % 2;
}

}  // namespace

void PackKeysReference(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile) {
  for (int t = 0; t < run.count; ++t) {
    for (int d = 0; d < run.dim; ++d) tile[KeyIndex(run.first + t, d)] = rows[t * row_stride + d];
  }
}

void PackValuesReference(const TileRun& run, const Bf16* rows, int64_t row_stride, Bf16* tile) {
  for (int t = 0; t < run.count; ++t) {
    for (int d = 0; d < run.dim; ++d) {
      tile[ValueIndex(run.first + t, d, run.dim)] = rows[t * row_stride + d];
    }
  }
}

void UnpackKeysReference(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride) {
  for (int t = 0; t < run.count; ++t) {
    for (int d = 0; d < run.dim; ++d) rows[t * row_stride + d] = tile[KeyIndex(run.first + t, d)];
  }
}

void UnpackValuesReference(const TileRun& run, const Bf16* tile, Bf16* rows, int64_t row_stride) {
  for (int t = 0; t < run.count; ++t) {
    for (int d = 0; d < run.dim; ++d) {
      rows[t * row_stride + d] = tile[ValueIndex(run.first + t, d, run.dim)];
    }
  }
}

}  // namespace lectern::kernels
