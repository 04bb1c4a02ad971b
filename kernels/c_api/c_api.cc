// The CUDA kernels behind plain C names: liblectern_kernels_cuda.so, for programs that time them
// beside other libraries. Parameters are the structs of the C++ headers, results are cudaError_t;
// who mirrors a struct asks for its size first, to know that the mirror is whole.

#include "kernels/decode_attention/decode_attention.h"
#include "kernels/decode_candidates/decode_candidates.h"
#include "kernels/decode_dense/decode_dense.h"
#include "kernels/decode_score/decode_score.h"
#include "kernels/index_codes/index_codes.h"
#include "kernels/prefill_attention/prefill_attention.h"
#include "kernels/prefill_index/prefill_index.h"

#define LECTERN_C extern "C" __attribute__((visibility("default")))

namespace lectern::kernels {

LECTERN_C int64_t lectern_prefill_index_size() { return sizeof(PrefillIndexParams); }
LECTERN_C int lectern_prefill_index_splits(const PrefillIndexParams* params, int processors) {
  return PrefillIndexSplits(*params, processors);
}
LECTERN_C int64_t lectern_prefill_index_workspace_bytes(const PrefillIndexParams* params) {
  return PrefillIndexWorkspaceBytes(*params);
}
LECTERN_C int lectern_prefill_index(const PrefillIndexParams* params, CUstream_st* stream) {
  return PrefillIndex(*params, stream);
}

LECTERN_C int64_t lectern_prefill_attention_size() { return sizeof(PrefillAttentionParams); }
LECTERN_C int64_t lectern_prefill_attention_workspace_bytes(const PrefillAttentionParams* params) {
  return PrefillAttentionWorkspaceBytes(*params);
}
LECTERN_C int lectern_prefill_attention(const PrefillAttentionParams* params, CUstream_st* stream) {
  return PrefillAttention(*params, stream);
}

LECTERN_C int64_t lectern_decode_score_size() { return sizeof(DecodeScoreParams); }
LECTERN_C int lectern_decode_score(const DecodeScoreParams* params, CUstream_st* stream, int way) {
  return DecodeScore(*params, stream, static_cast<DecodeScoreWay>(way));
}

LECTERN_C int64_t lectern_decode_attention_size() { return sizeof(DecodeAttentionParams); }
LECTERN_C int lectern_decode_attention(const DecodeAttentionParams* params, CUstream_st* stream,
                                       int after_score, int way) {
  return DecodeAttention(*params, stream, after_score != 0, static_cast<DecodeAttentionWay>(way));
}

LECTERN_C int64_t lectern_decode_dense_size() { return sizeof(DecodeDenseParams); }
LECTERN_C int64_t lectern_decode_dense_scratch_floats(const DecodeDenseParams* params) {
  return DecodeDenseScratchFloats(*params);
}
LECTERN_C int lectern_decode_dense(const DecodeDenseParams* params, CUstream_st* stream) {
  return DecodeDense(*params, stream);
}

LECTERN_C int64_t lectern_index_codes_size() { return sizeof(IndexCodesParams); }
LECTERN_C int lectern_index_codes(const IndexCodesParams* params, CUstream_st* stream) {
  return MakeIndexCodes(*params, stream);
}

LECTERN_C int64_t lectern_decode_candidates_size() { return sizeof(DecodeCandidatesParams); }
LECTERN_C int lectern_decode_candidates(const DecodeCandidatesParams* params, CUstream_st* stream) {
  return DecodeCandidates(*params, stream);
}

}  // namespace lectern::kernels
