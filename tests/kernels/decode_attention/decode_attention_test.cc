#include "kernels/decode_attention/decode_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/decode_score/decode_case.h"

namespace lectern::kernels::testing {
namespace {

TEST(DecodeCuda, OneQueryAtTheEdgesOfLength) {
  LECTERN_NEEDS_GPU();
  for (int length : {1, 15, 16, 127, 128, 129, 2047, 2048, 2049, 2176, 2177, 4095, 4096, 4097}) {
    Case c;
    c.lengths = {length};
    CheckAll(c);
  }
}

TEST(DecodeCuda, Shapes) {
  LECTERN_NEEDS_GPU();
  for (int index_dim : {64, 128})
    for (int dim : {64, 128})
      for (int groups : {1, 2, 4, 8})
        for (int heads : {1, 4, 8, 16}) {
          if ((index_dim + dim + groups + heads) % 3 == 1) continue;
          Case c;
          c.index_dim = index_dim;
          c.dim = dim;
          c.groups = groups;
          c.heads = heads;
          c.topk = heads == 4 ? 8 : heads == 1 ? 3 : 16;
          c.lengths = {3001, 5000};
          CheckAll(c);
        }
}

TEST(DecodeCuda, TopkFromOneOn) {
  LECTERN_NEEDS_GPU();
  for (int topk : {1, 2, 15}) {
    Case c;
    c.topk = topk;
    c.lengths = {6001};
    CheckAll(c);
  }
}

TEST(DecodeCuda, MixedLengthsInABatch) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {1, 9000, 128, 129, 40000, 700, 2048, 2049, 33, 16384, 300, 5000};
  CheckAll(c);
  c.with_spans = true;
  CheckAll(c);
}

TEST(DecodeCuda, SeveralQueriesOfARequest) {
  LECTERN_NEEDS_GPU();
  for (int rows : {2, 3, 4, 8}) {
    Case c;
    c.rows = rows;
    c.lengths = {2049, 5000, 131, 8193};  // rows on both sides of a block's end
    CheckAll(c);
  }
}

TEST(DecodeCuda, KeysThatTryTheChoice) {
  LECTERN_NEEDS_GPU();
  for (Keys keys : {Keys::kWhole, Keys::kEqual, Keys::kNegative, Keys::kBroken, Keys::kTopical}) {
    Case c;
    c.keys = keys;
    c.lengths = {70001, 3000};
    CheckAll(c);
  }
}

TEST(DecodeCuda, LongContext) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.groups = 2;
  c.dim = 64;
  c.lengths = {1 << 20};
  CheckAll(c);
  c.lengths = {1200000};  // more blocks than the choosing threads hold
  c.index_dim = 64;
  CheckAll(c);
}

TEST(DecodeCuda, ClustersOfAnySizeGiveTheSameBits) {
  LECTERN_NEEDS_HOPPER();
  for (int dim : {64, 128}) {
    Case c;
    c.dim = dim;
    c.lengths = {70001, 1, 3000, 1800};
    Decode decode(c);
    const Decode::Result first =
        decode.Run(DecodeScoreWay::kBest, DecodeAttentionWay::kClusterOf16);
    EXPECT_TRUE(decode.Run(DecodeScoreWay::kBest, DecodeAttentionWay::kClusterOf16, false) ==
                first);
    EXPECT_TRUE(decode.Run(DecodeScoreWay::kBest, DecodeAttentionWay::kClusterOf8) == first);
    EXPECT_TRUE(decode.Run(DecodeScoreWay::kBest, DecodeAttentionWay::kClusterOf8, false) == first);
  }
}

TEST(DecodeCuda, SameBitsInEveryRunAndReplay) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {70001, 1, 3000, 40000};
  c.rows = 2;
  c.lengths[1] = 2;
  Decode decode(c);
  const Decode::Result first = decode.Run();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(decode.Run() == first) << i;

  cudaStream_t stream;
  Check(cudaStreamCreate(&stream), "cudaStreamCreate");
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  for (int i = 0; i < 3; ++i) {
    Check(DecodeScore(decode.Score(), stream), "DecodeScore");
    Check(DecodeAttention(decode.Attention(), stream, true), "DecodeAttention");
  }
  Check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  Check(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  for (int i = 0; i < 20; ++i) {
    decode.Poison();
    Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    Check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
    EXPECT_TRUE(decode.Read() == first) << "replay " << i;
  }
  // What the graph reads may change between replays.
  for (int32_t& position : decode.positions) position = position > 1000 ? position - 513 : position;
  decode.d_positions.Set(decode.positions);
  const Decode::Result moved = decode.Run();
  decode.Poison();
  Check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  Check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
  EXPECT_TRUE(decode.Read() == moved);
  EXPECT_FALSE(SameBits(moved.out, first.out));
  Check(cudaGraphExecDestroy(replay), "cudaGraphExecDestroy");
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

TEST(DecodeCuda, ARowsBitsDoNotDependOnTheBatch) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {9000, 1, 40000, 2500};
  Decode decode(c);
  const Decode::Result all = decode.Run();
  DecodeScoreParams score = decode.Score();
  DecodeAttentionParams attention = decode.Attention();
  const int row = 2;
  score.q += row * c.groups * c.index_dim;
  score.pages += row * decode.stride;
  score.positions += row;
  score.num_spans = 1;
  attention.q += row * c.groups * c.heads * c.dim;
  attention.pages += row * decode.stride;
  attention.positions += row;
  attention.rows = 1;
  decode.Poison();
  Check(DecodeScore(score, nullptr), "DecodeScore");
  Check(DecodeAttention(attention, nullptr), "DecodeAttention");
  const Decode::Result one = decode.Read();
  const auto part = [&](const auto& v, size_t each) {
    return std::vector(v.begin() + static_cast<int64_t>(row * each),
                       v.begin() + static_cast<int64_t>((row + 1) * each));
  };
  const auto head = [&](auto v, size_t each) {
    v.resize(each);
    return v;
  };
  const size_t outs = static_cast<size_t>(c.groups) * c.heads * c.dim;
  EXPECT_TRUE(SameBits(part(all.out, outs), head(one.out, outs)));
  const size_t ids = static_cast<size_t>(c.groups) * c.topk;
  EXPECT_TRUE(SameBits(part(all.selected, ids), head(one.selected, ids)));
}

enum class Pattern { kNone, kSink, kOwn, kFirst, kStrided, kVaried };

// Of one row: at most `most` blocks, ascending.
std::vector<int32_t> Selection(Pattern pattern, int own, int most, size_t row_group) {
  std::vector<int32_t> blocks;
  const int earlier = std::min(own, most - 1);
  switch (pattern) {
    case Pattern::kNone:
      return blocks;
    case Pattern::kSink:
      return {0};
    case Pattern::kOwn:
      return {own};
    case Pattern::kFirst:
      for (int b = 0; b < earlier; ++b) blocks.push_back(b);
      break;
    case Pattern::kStrided:
      for (int b = own % 3; b < own && static_cast<int>(blocks.size()) < earlier; b += 3)
        blocks.push_back(b);
      break;
    case Pattern::kVaried:  // as many as each row needs, others than its neighbours'
      for (int b = static_cast<int>(row_group % 2); b < own; b += 2)
        if (static_cast<int>(blocks.size()) < (static_cast<int>(row_group) * 5 + 1) % most)
          blocks.push_back(b);
      break;
  }
  blocks.push_back(own);
  return blocks;
}

// Selections that no scores would give, up to the most blocks there may be.
TEST(DecodeCuda, GivenSelections) {
  LECTERN_NEEDS_GPU();
  for (int topk : {1, 16, 17, 40, 64}) {
    Case c;
    c.topk = topk;
    c.dim = topk == 40 ? 64 : 128;
    c.heads = topk == 17 ? 5 : 16;
    c.lengths = {12000, 2048, 3333, 90};
    Decode decode(c);
    for (Pattern pattern : {Pattern::kNone, Pattern::kSink, Pattern::kOwn, Pattern::kFirst,
                            Pattern::kStrided, Pattern::kVaried}) {
      std::vector<int32_t> chosen;
      for (size_t rg = 0; rg < decode.RowGroups(); ++rg) {
        std::vector<int32_t> row =
            Selection(pattern, decode.positions[rg / c.groups] / 128, topk, rg);
        ASSERT_LE(row.size(), static_cast<size_t>(topk));
        row.resize(static_cast<size_t>(topk), -1);
        chosen.insert(chosen.end(), row.begin(), row.end());
      }
      DeviceArray<int32_t> d_chosen(chosen);
      DecodeAttentionParams p = decode.Attention();
      p.scores = nullptr;
      p.chosen = d_chosen.get();
      for (DecodeAttentionWay way : {DecodeAttentionWay::kBest, DecodeAttentionWay::kInTurn}) {
        decode.Poison();
        Check(DecodeAttention(p, nullptr, false, way), "DecodeAttention");
        const Decode::Result r = decode.Read();
        EXPECT_EQ(FirstDifference(r.selected, chosen), -1);
        decode.CheckAttention(r, way == DecodeAttentionWay::kInTurn ? "given, in turn" : "given");
        if (pattern != Pattern::kNone) continue;
        for (size_t i = 0; i < r.lse.size(); ++i) ASSERT_EQ(r.lse[i], -INFINITY) << i;
        for (size_t i = 0; i < r.out.size(); ++i) ASSERT_EQ(r.out[i].bits, 0) << i;
      }
    }
  }
}

TEST(DecodeCuda, ANanIsOneRowsOnly) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {1000, 1000};
  Decode decode(c);
  decode.q[5] = Bf16{0x7fc0};  // row 0, group 0, head 0
  decode.d_q.Set(decode.q);
  for (DecodeAttentionWay way : {DecodeAttentionWay::kBest, DecodeAttentionWay::kInTurn}) {
    const Decode::Result r = decode.Run(DecodeScoreWay::kBest, way);
    for (size_t i = 0; i < r.out.size(); ++i) {
      const bool nan = std::isnan(ToFloat(r.out[i]));
      ASSERT_EQ(nan, i < static_cast<size_t>(c.dim)) << i;
    }
  }
}

// A broken index query has no opinion: the lowest blocks, and its neighbours' choice is their own.
TEST(DecodeCuda, ANanOfAnIndexQueryIsOneRowsOnly) {
  LECTERN_NEEDS_GPU();
  Case c;
  c.lengths = {9000, 9000};
  Decode decode(c);
  const Decode::Result whole = decode.Run();
  decode.index_q[7] = Bf16{0x7fc0};  // row 0, group 0
  decode.d_index_q.Set(decode.index_q);
  for (DecodeScoreWay way : {DecodeScoreWay::kBest, DecodeScoreWay::kStreamed}) {
    const Decode::Result r = decode.Run(way);
    for (size_t i = 0; i < r.selected.size(); ++i) {
      const int slot = static_cast<int>(i % 16);
      if (i < 16)
        EXPECT_EQ(r.selected[i], slot < 15 ? slot : 9000 / 128) << i;
      else
        EXPECT_EQ(r.selected[i], whole.selected[i]) << i;
    }
  }
}

}  // namespace
}  // namespace lectern::kernels::testing
