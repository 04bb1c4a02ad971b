#include "kernels/cuda/tensor_map.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

namespace lectern::kernels {
namespace {

constexpr unsigned kEntryPointVersion = 12000;  // the first toolkit that has it

using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                            const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                            CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                            CUtensorMapFloatOOBfill);

[[noreturn]] void Die(const char* what, int code) {
  std::fprintf(stderr, "tensor map: %s (%d)\n", what, code);
  std::abort();
}

Encode FindEncode() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error = cudaGetDriverEntryPointByVersion(
      "cuTensorMapEncodeTiled", &entry, kEntryPointVersion, cudaEnableDefault, &found);
  if (error != cudaSuccess) Die("the driver's entry point cannot be asked for", error);
  if (found != cudaDriverEntryPointSuccess) Die("the driver has no tensor maps", found);
  return reinterpret_cast<Encode>(entry);
}

}  // namespace

CUtensorMap MatrixMap(const void* base, int64_t rows, int columns, int box_rows) {
  static const Encode encode = FindEncode();
  CUtensorMap map;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(columns) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<void*>(base), sizes, strides,
             box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) Die("a matrix cannot be described", result);
  return map;
}

}  // namespace lectern::kernels
