#include "tests/kernels/decode_score/decode_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace lectern::kernels::testing {
namespace {

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

void NanInAQuery() {
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
void NanInAnIndexQuery() {
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

enum class Scores { kRandom, kEqual, kFew, kRising, kFalling, kNegative, kBroken };

float ScoreOf(Scores kind, int block, Noise& noise) {
  const float x = noise.Normal();
  switch (kind) {
    case Scores::kRandom:
      return x;
    case Scores::kEqual:
      return 0.25f;
    case Scores::kFew:
      return std::round(x);
    case Scores::kRising:
      return static_cast<float>(block);
    case Scores::kFalling:
      return -static_cast<float>(block);
    case Scores::kNegative:
      return -std::exp(4 * x);
    case Scores::kBroken: {
      const int dice = noise.Below(6);
      return dice < 3 ? NAN : dice == 3 ? -INFINITY : dice == 4 ? (x < 0 ? -0.0f : 0.0f) : x;
    }
  }
  return x;
}

}  // namespace

void CheckAll(const Case& c) {
  Decode decode(c);
  if (::testing::Test::HasFatalFailure()) return;
  const Decode::Result first = decode.Run();
  decode.CheckScores(first);
  decode.CheckSelection(first);
  decode.CheckAttention(first, "cluster");
  const Decode::Result portable =
      decode.Run(DecodeScoreWay::kStreamed, DecodeAttentionWay::kInTurn);
  EXPECT_EQ(FirstDifference(first.scores, portable.scores), -1) << Name(c);
  EXPECT_TRUE(portable == first) << Name(c);
  decode.CheckAttention(portable, "in turn");
}

void CheckWide(const Case& c) {
  Decode decode(c);
  const Decode::Result wide = decode.Run();
  decode.CheckScores(wide);
  decode.CheckSelection(wide);
  decode.CheckAttention(wide, "many rows");
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(decode.Run() == wide) << Name(c);
  const Decode::Result narrow = decode.Run(DecodeScoreWay::kStreamed);
  decode.CheckScores(narrow);
  decode.CheckSelection(narrow);
}

void CheckWays(const Case& c) {
  Decode decode(c);
  const Decode::Result first = decode.Run();
  // 1 and 2 are for every GPU.
  const int last = HaveHopper() ? 6 : 2;
  for (int way = 1; way <= last; ++way)
    EXPECT_EQ(FirstDifference(first.scores, decode.Run(static_cast<DecodeScoreWay>(way)).scores),
              -1)
        << Name(c) << " way " << way;
  if (!HaveHopper()) return;
  for (DecodeAttentionWay way : {DecodeAttentionWay::kClusterOf16, DecodeAttentionWay::kClusterOf8,
                                 DecodeAttentionWay::kInTurn})
    for (bool after_score : {false, true})
      EXPECT_TRUE(decode.Run(DecodeScoreWay::kBest, way, after_score) == first)
          << Name(c) << " way " << static_cast<int>(way);
}

void CheckGiven(const Case& c) {
  Decode decode(c);
  for (Pattern pattern : {Pattern::kNone, Pattern::kSink, Pattern::kOwn, Pattern::kFirst,
                          Pattern::kStrided, Pattern::kVaried}) {
    std::vector<int32_t> chosen;
    for (size_t rg = 0; rg < decode.RowGroups(); ++rg) {
      std::vector<int32_t> row =
          Selection(pattern, decode.positions[rg / c.groups] / 128, c.topk, rg);
      ASSERT_LE(row.size(), static_cast<size_t>(c.topk));
      row.resize(static_cast<size_t>(c.topk), -1);
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

// Far more blocks than pages: the choice does not look at keys.
void CheckChoice(int blocks, int topk) {
  Case c;
  c.dim = 64;
  c.groups = 2;
  c.heads = 1;
  c.topk = topk;
  c.lengths = {1024};
  Decode decode(c);
  const int64_t stride = (blocks + 4) / 4 * 4;
  const DeviceArray<int32_t> pages(
      std::vector<int32_t>(static_cast<size_t>(stride), decode.pages[0]));
  const DeviceArray<int32_t> position(std::vector<int32_t>{blocks * 128 + 127});
  for (Scores kind : {Scores::kRandom, Scores::kEqual, Scores::kFew, Scores::kRising,
                      Scores::kFalling, Scores::kNegative, Scores::kBroken}) {
    Noise noise(static_cast<uint64_t>(blocks));
    std::vector<float> scores;
    for (int64_t i = 0; i < 2 * stride; ++i)
      scores.push_back(i % stride < blocks ? ScoreOf(kind, static_cast<int>(i % stride), noise)
                                           : NAN);
    const DeviceArray<float> d_scores(scores);
    DecodeAttentionParams p = decode.Attention();
    p.pages = pages.get();
    p.pages_stride = stride;
    p.positions = position.get();
    p.rows = 1;
    p.scores = d_scores.get();
    p.scores_stride = stride;
    std::vector<int32_t> expected;
    for (int group = 0; group < 2; ++group) {
      std::vector<int32_t> order(static_cast<size_t>(blocks));
      for (int b = 0; b < blocks; ++b) order[static_cast<size_t>(b)] = b;
      const auto value = [&](int b) {
        const float x = scores[static_cast<size_t>(group * stride + b)];
        return std::isnan(x) ? -INFINITY : x;
      };
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return value(a) > value(b); });
      order.resize(static_cast<size_t>(std::min(blocks, topk - 1)));
      order.push_back(blocks);
      std::sort(order.begin(), order.end());
      order.resize(static_cast<size_t>(topk), -1);
      expected.insert(expected.end(), order.begin(), order.end());
    }
    for (DecodeAttentionWay way : {DecodeAttentionWay::kBest, DecodeAttentionWay::kInTurn}) {
      decode.Poison();
      Check(DecodeAttention(p, nullptr, false, way), "DecodeAttention");
      const Decode::Result r = decode.Read();
      EXPECT_EQ(FirstDifference(r.selected, expected), -1)
          << blocks << " blocks, " << topk << " chosen, scores " << static_cast<int>(kind);
    }
  }
}

void CheckRowsAlone(const Case& c) {
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

void CheckBrokenRows() {
  NanInAQuery();
  NanInAnIndexQuery();
}

}  // namespace lectern::kernels::testing
