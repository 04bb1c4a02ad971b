#pragma once

// A decode step's inputs on the host and on the device, its run, and what it must equal.

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/decode_attention/decode_attention.h"
#include "kernels/decode_score/decode_score.h"
#include "tests/kernels/cuda/device.h"

namespace lectern::kernels::testing {

#define LECTERN_NEEDS_GPU() \
  if (!::lectern::kernels::testing::HaveGpu()) GTEST_SKIP() << "no NVIDIA GPU on this machine"
#define LECTERN_NEEDS_HOPPER() \
  LECTERN_NEEDS_GPU();         \
  if (!::lectern::kernels::testing::HaveHopper()) GTEST_SKIP() << "needs compute capability 9.0"

enum class Keys { kNormal, kWhole, kEqual, kNegative, kBroken, kTopical };

struct Case {
  int index_dim = 128;
  int dim = 128;
  int groups = 4;
  int heads = 16;
  int topk = 16;
  std::vector<int> lengths = {4096};  // of each request, its query rows included
  int rows = 1;                       // of each request
  Keys keys = Keys::kNormal;
  bool with_spans = false;  // each context in two spans, later contexts' rows first
};

std::string Name(const Case& c);

// Pages in random order, some of nobody, poison wherever no token is.
struct Decode {
  explicit Decode(const Case& c);

  size_t RowGroups() const { return static_cast<size_t>(rows) * shape.groups; }

  // On the device, or of the host's copies for a reference.
  DecodeScoreParams Score(bool device = true);
  DecodeAttentionParams Attention(bool device = true);

  struct Result {
    std::vector<float> scores;
    std::vector<int32_t> selected;
    std::vector<Bf16> out;
    std::vector<float> lse, block_lse;
    friend bool operator==(const Result& a, const Result& b) {
      return SameBits(a.scores, b.scores) && SameAttention(a, b);
    }
    static bool SameAttention(const Result& a, const Result& b) {
      return SameBits(a.selected, b.selected) && SameBits(a.out, b.out) && SameBits(a.lse, b.lse) &&
             SameBits(a.block_lse, b.block_lse);
    }
  };

  void Poison();
  Result Read();
  Result Run(DecodeScoreWay score_way = DecodeScoreWay::kBest,
             DecodeAttentionWay way = DecodeAttentionWay::kBest, bool after_score = true);

  void CheckScores(const Result& r);
  void CheckSelection(const Result& r);
  void CheckAttention(const Result& r, const char* what) {
    CheckOutputs(r, r.selected, shape.topk, what);
  }
  void CheckDense(const Result& r, const std::vector<int32_t>& all, int most) {
    CheckOutputs(r, all, most, "dense");
  }
  void CheckOutputs(const Result& r, const std::vector<int32_t>& chosen, int topk,
                    const char* what);

  double KeyNorm() const;                    // of the longest finite index key
  double QueryNorm(size_t row_group) const;  // of an index query

  Case shape;
  int requests, rows;
  int64_t stride;
  std::vector<int32_t> pages, positions, row_requests;
  std::vector<DecodeSpan> spans;
  std::vector<Bf16> index_q, index_keys, q, k, v;
  DeviceArray<Bf16> d_index_q, d_index_keys, d_q, d_k, d_v;
  DeviceArray<int32_t> d_pages, d_positions, d_row_requests;
  DeviceArray<DecodeSpan> d_spans;
  DeviceArray<float> scores, lse, block_lse;
  DeviceArray<int32_t> selected;
  DeviceArray<Bf16> out;
  std::vector<float> reference;

  void FillKeys(Noise& noise, int page, int block, int tokens);
};

}  // namespace lectern::kernels::testing
