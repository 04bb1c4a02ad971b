#pragma once

// The index branch of MiniMax Sparse Attention (arXiv 2606.13392, Eq. 4-7) for chunks of a prefill,
// on Hopper: which blocks every row and KV group reads. The selection is index_select.h's:
//
//   selected(i, r) = the own block and the topk - 1 earlier blocks of largest
//                    m(i, b, r) = max over the tokens j of block b of iq[i, r] . ik[j],
//                    ties to the lower block, NaN scores as minus infinity.
//
// One kernel: scores on the tensor cores, block maxima and the running best in registers. No score
// is ever written. A thread block has up to 256 rows, all heads of neighbouring tokens inside one
// block of 128, so that every block that is scored is complete and visible to all of them: there is
// no mask. All heads share one stream of index keys through shared memory.
//
// Where there are too few rows for the device, the keys are cut into ranges; every range proposes
// its best and a second kernel keeps the best of all. A row's selection depends neither on the
// ranges nor on the chunk nor on other rows: scores are sums in one fixed order.
//
// FLOPs: 2 128 heads dim per row and earlier block. Bytes: 256 dim per block and thread block, from
// L2 mostly, since neighbours stream the same keys at the same time.

#include <cstdint>

#include "kernels/bf16/bf16.h"
#include "kernels/prefill_sequence/prefill_sequence.h"

struct CUstream_st;

namespace lectern::kernels {

inline constexpr int kMaxPrefillTopk = 16;
inline constexpr int kMaxIndexHeads = 8;

// Pointers are device memory, 16-byte aligned.
struct PrefillIndexParams {
  const Bf16* q;         // [rows][q_row_stride], head r at column r * dim
  int64_t q_row_stride;  // >= heads * dim, a multiple of 8

  const Bf16* keys;  // [pages][128][dim]
  int64_t pages;     // of the pool
  const int32_t* page_table;

  const PrefillSequence* sequences;  // [num_sequences]
  int32_t num_sequences;
  int32_t max_rows;    // of a sequence
  int32_t max_tokens;  // of a context, these rows included
  int32_t rows;        // of all sequences together

  int32_t heads;  // KV groups, 1..kMaxIndexHeads; one shared key head
  int32_t dim;    // 64 or 128
  int32_t topk;   // 1..kMaxPrefillTopk

  int32_t* selected;  // [rows][heads][topk] ascending block numbers, -1 behind the last

  void* workspace;  // PrefillIndexWorkspaceBytes(params) bytes; null where that is 0
  int32_t splits;   // ranges of keys, 1..kMaxIndexSplits: see PrefillIndexSplits
};

inline constexpr int kMaxIndexSplits = 64;

// The number of ranges that fills `processors` multiprocessors best. Pure arithmetic.
int PrefillIndexSplits(const PrefillIndexParams& params, int processors);

// Bytes of scratch a launch with params.splits (not 0) needs.
int64_t PrefillIndexWorkspaceBytes(const PrefillIndexParams& params);

// Launches on `stream` and returns a cudaError_t: 0, or what the launch failed with. No allocation,
// no synchronisation. Needs sm_90a.
int PrefillIndex(const PrefillIndexParams& params, CUstream_st* stream);

}  // namespace lectern::kernels
