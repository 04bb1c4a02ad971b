#include "kernels/prefill_attention/prefill_attention.h"

#include <cassert>

#include "kernels/prefill_attention/attend.h"

namespace lectern::kernels {

int64_t PrefillAttentionWorkspaceBytes(const PrefillAttentionParams& params) {
  return params.path == PrefillPath::kUnion ? 0 : prefill::CarveGatherWorkspace(params).bytes;
}

int PrefillAttention(const PrefillAttentionParams& params, CUstream_st* stream) {
  assert(params.ratio >= 1 && params.ratio <= kMaxPrefillRatio);
  assert(params.topk >= 1 && params.topk <= kMaxPrefillSelected);
  assert(params.dim == 64 || params.dim == 128);
  assert(params.max_tokens <= kMaxPrefillBlocks * prefill::kBlock);
  if (params.rows == 0) return cudaSuccess;
  if (params.path == PrefillPath::kUnion) return prefill::AttendUnion(params, nullptr, stream);
  const prefill::GatherWorkspace workspace = prefill::CarveGatherWorkspace(params);
  const int32_t* path = params.path == PrefillPath::kMeasure ? workspace.path : nullptr;
  cudaError_t error = cudaMemsetAsync(workspace.path, 0, workspace.zero_bytes, stream);
  if (error != cudaSuccess) return error;
  if (path != nullptr) {
    error = prefill::ChoosePath(params, workspace, stream);
    if (error != cudaSuccess) return error;
    error = prefill::AttendUnion(params, path, stream);
    if (error != cudaSuccess) return error;
  }
  error = prefill::BuildReverseIndex(params, workspace, path, stream);
  if (error != cudaSuccess) return error;
  return prefill::AttendGathered(params, workspace, path, stream);
}

}  // namespace lectern::kernels
