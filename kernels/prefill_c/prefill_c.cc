// The prefill kernels behind plain C names: liblectern_prefill_cuda.so, for programs that time them
// beside other libraries. Parameters as in the C++ headers, results are cudaError_t.

#include "kernels/prefill_attention/prefill_attention.h"
#include "kernels/prefill_index/prefill_index.h"

#define LECTERN_C extern "C" __attribute__((visibility("default")))

namespace lectern::kernels {

LECTERN_C int lectern_prefill_index_splits(const PrefillIndexParams* params, int processors) {
  return PrefillIndexSplits(*params, processors);
}
LECTERN_C int64_t lectern_prefill_index_workspace_bytes(const PrefillIndexParams* params) {
  return PrefillIndexWorkspaceBytes(*params);
}
LECTERN_C int lectern_prefill_index(const PrefillIndexParams* params, CUstream_st* stream) {
  return PrefillIndex(*params, stream);
}

LECTERN_C int64_t lectern_prefill_attention_workspace_bytes(const PrefillAttentionParams* params) {
  return PrefillAttentionWorkspaceBytes(*params);
}
LECTERN_C int lectern_prefill_attention(const PrefillAttentionParams* params, CUstream_st* stream) {
  return PrefillAttention(*params, stream);
}

}  // namespace lectern::kernels
