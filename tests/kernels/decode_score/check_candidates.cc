#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kernels/decode_candidates/decode_candidates.h"
#include "tests/kernels/decode_score/decode_checks.h"

namespace lectern::kernels::testing {

void CheckCandidates(const Case& c) {
  Decode decode(c);
  const Decode::Result plain = decode.Run();
  decode.CheckScores(plain);
  DecodeCandidatesParams p = {};
  p.score = decode.Score();
  const size_t pages = static_cast<size_t>(p.score.num_pages);
  DeviceArray<int8_t> codes(pages * 128 * c.index_dim);
  DeviceArray<IndexCodesBound> bounds(pages);
  DeviceArray<ScoreInterval> intervals(plain.scores.size());
  DeviceArray<int32_t> open(decode.RowGroups());
  IndexCodesParams make = {};
  make.keys = p.score.keys;
  make.num_chosen = static_cast<int>(pages);
  make.dim = c.index_dim;
  make.codes = codes.get();
  make.bounds = bounds.get();
  Check(MakeIndexCodes(make, nullptr), "MakeIndexCodes");
  const std::vector<int8_t> made = codes.Host();
  const std::vector<IndexCodesBound> promised = bounds.Host();
  for (size_t page = 0; page < pages; page += 7) {
    if (!std::isfinite(promised[page].max_error)) continue;
    const size_t at = page * 128 * c.index_dim;
    const IndexCodesBound least = IndexCodesBoundReference(
        decode.index_keys.data() + at, made.data() + at, promised[page].scale, c.index_dim);
    EXPECT_LE(least.max_k, promised[page].max_k) << Name(c) << " page " << page;
    EXPECT_LE(least.max_error, promised[page].max_error) << Name(c) << " page " << page;
    EXPECT_LE(promised[page].max_error, least.max_error * 1.001f + 1e-5f * least.max_k)
        << Name(c) << " page " << page;
  }
  p.codes = codes.get();
  p.bounds = bounds.get();
  p.rows = decode.rows;
  p.row_requests = decode.Attention().row_requests;
  p.topk = c.topk;
  p.intervals = intervals.get();
  p.open = open.get();
  Decode::Result first;
  for (int run = 0; run < 3; ++run) {
    decode.Poison();
    intervals.Fill(0xff);
    Check(DecodeCandidates(p, nullptr), "DecodeCandidates");
    Check(DecodeAttention(decode.Attention(), nullptr, true), "DecodeAttention");
    const Decode::Result r = decode.Read();
    EXPECT_EQ(FirstDifference(r.selected, plain.selected), -1) << Name(c);
    EXPECT_TRUE(Decode::Result::SameAttention(r, plain)) << Name(c);
    if (run == 0) first = r;
    EXPECT_TRUE(r == first) << Name(c);
  }
  const std::vector<ScoreInterval> held = intervals.Host();
  const std::vector<int32_t> opened = open.Host();
  int64_t outside = 0, blocks = 0, left_open = 0, wrong = 0;
  double width = 0;
  for (size_t rg = 0; rg < decode.RowGroups(); ++rg) {
    const int own = decode.positions[rg / c.groups] / 128;
    if (own > c.topk - 1) left_open += opened[rg], blocks += own;
    for (int b = 0; b < own; ++b) {
      const size_t at = rg * static_cast<size_t>(decode.stride) + static_cast<size_t>(b);
      for (float score : {decode.reference[at], plain.scores[at]})
        if (!(held[at].low <= score && score <= held[at].high)) ++outside;
      if (std::isfinite(held[at].high)) width = std::max(width, 1.0 * held[at].high - held[at].low);
      // A score is either DecodeScore's or minus infinity.
      if (own > c.topk - 1 && first.scores[at] != -INFINITY && first.scores[at] != plain.scores[at])
        ++wrong;
    }
  }
  EXPECT_EQ(outside, 0) << Name(c);
  EXPECT_EQ(wrong, 0) << Name(c);
  // Keys that share an offset have wide intervals: there nothing is promised.
  if (blocks > 1000 && (c.keys == Keys::kNormal || c.keys == Keys::kTopical)) {
    EXPECT_LT(left_open, blocks / 2) << Name(c);
  }
  std::printf("  %s: of %lld blocks %lld left open, widest interval %.3f\n", Name(c).c_str(),
              static_cast<long long>(blocks), static_cast<long long>(left_open), width);
}

}  // namespace lectern::kernels::testing
