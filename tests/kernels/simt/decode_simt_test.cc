// The decode kernels' source on the GPU of the tests (simt.h), against fp64 and against itself:
// every way, in changing orders of threads, on grids of several sizes, with and without what Hopper
// adds.

#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_checks.h"
#include "tests/kernels/simt/simt.h"

namespace lectern::kernels::testing {
namespace {

class DecodeSimt : public ::testing::Test {
 protected:
  void TearDown() override { simt::TheMachine() = {}; }
};

Case Small() {
  Case c;
  c.groups = 2;
  c.heads = 4;
  c.dim = c.index_dim = 64;
  c.topk = 4;
  c.lengths = {1300, 200, 641};
  return c;
}

TEST_F(DecodeSimt, OneQueryAtTheEdgesOfLength) {
  for (int length : {1, 15, 16, 127, 128, 129, 2047, 2048, 2049, 2177}) {
    Case c;
    c.groups = 1;
    c.lengths = {length};
    CheckAll(c);
  }
}

TEST_F(DecodeSimt, Shapes) {
  for (int index_dim : {64, 128})
    for (int dim : {64, 128})
      for (int groups : {1, 8})
        for (int heads : {1, 5, 16}) {
          if ((index_dim / 64 + dim / 64 + groups + heads) % 3 != 1) continue;
          Case c = Small();
          c.index_dim = index_dim;
          c.dim = dim;
          c.groups = groups;
          c.heads = heads;
          c.lengths = {650};
          CheckAll(c);
        }
}

TEST_F(DecodeSimt, MixedLengthsAndSpans) {
  Case c = Small();
  c.lengths = {1, 1290, 128, 129, 700, 33};
  CheckAll(c);
  c.with_spans = true;
  CheckAll(c);
}

TEST_F(DecodeSimt, SeveralQueriesOfARequest) {
  for (int rows : {2, 3, 8}) {
    Case c = Small();
    c.rows = rows;
    c.lengths = {1281, 131, 770};  // rows on both sides of a block's end
    c.with_spans = rows == 3;
    CheckAll(c);
  }
}

TEST_F(DecodeSimt, KeysThatTryTheChoice) {
  for (Keys keys : {Keys::kWhole, Keys::kEqual, Keys::kNegative, Keys::kBroken, Keys::kTopical}) {
    Case c = Small();
    c.keys = keys;
    c.lengths = {3001};
    CheckAll(c);
  }
}

TEST_F(DecodeSimt, TheChoiceAlone) {
  for (int blocks : {0, 1, 130}) CheckChoice(blocks, 2);
  for (int blocks : {15, 16, 129}) CheckChoice(blocks, 16);
  CheckChoice(8193, 16);  // more than the threads hold
}

TEST_F(DecodeSimt, ScoresWhateverTheGrid) {
  Case c = Small();
  c.lengths = {13000, 1, 300};  // more blocks for one multiprocessor than it exchanges at once
  c.heads = 1;
  Decode decode(c);
  simt::TheMachine().multiprocessors = 1;
  const Decode::Result one = decode.Run();
  CheckWays(c);
  for (int multiprocessors : {2, 3, 7, 132}) {
    simt::TheMachine().multiprocessors = multiprocessors;
    EXPECT_TRUE(decode.Run() == one) << multiprocessors;
  }
}

TEST_F(DecodeSimt, WaysThatGiveTheSameBits) {
  for (int dim : {64, 128}) {
    Case c = Small();
    c.dim = c.index_dim = dim;
    c.rows = 2;
    c.lengths = {900, 130};
    CheckWays(c);
  }
}

TEST_F(DecodeSimt, SameBitsInEveryOrder) {
  Case c = Small();
  c.rows = 2;
  Decode decode(c);
  const Decode::Result first = decode.Run();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(decode.Run() == first) << i;
}

TEST_F(DecodeSimt, ManyRowsOnOneDocument) {
  for (int rows : {9, 17, 70}) {
    Case c = Small();
    c.groups = 4;
    c.heads = 1;
    c.rows = rows;
    c.index_dim = rows == 9 ? 128 : 64;
    c.lengths = {1500, 300};
    c.with_spans = rows == 17;
    simt::TheMachine().multiprocessors = rows == 17 ? 1 : 3;
    Decode decode(c);
    Decode::Result first;
    for (int run = 0; run < 2; ++run) {
      decode.Poison();
      Check(DecodeScore(decode.Score(), nullptr), "DecodeScore");
      const Decode::Result r = decode.Read();
      if (run == 0) decode.CheckScores(first = r);
      EXPECT_TRUE(SameBits(r.scores, first.scores)) << Name(c);
    }
  }
  Case c = Small();
  c.rows = 17;
  c.lengths = {700};
  CheckWide(c);
}

TEST_F(DecodeSimt, CandidatesChangeNothing) {
  for (Keys keys : {Keys::kNormal, Keys::kWhole, Keys::kEqual, Keys::kNegative, Keys::kBroken,
                    Keys::kTopical}) {
    Case c = Small();
    c.keys = keys;
    if (keys == Keys::kNormal || keys == Keys::kTopical) c.index_dim = 128;
    c.heads = c.groups = 1;
    c.lengths = {1700, 1, 1025};
    if (keys == Keys::kTopical) c.rows = 3, c.groups = 4, c.lengths[1] = 4;
    if (keys == Keys::kWhole) c.rows = 2, c.lengths[1] = 2, c.with_spans = true;
    CheckCandidates(c);
  }
}

TEST_F(DecodeSimt, GivenSelections) {
  for (int topk : {1, 16, 17, 64}) {
    Case c = Small();
    c.topk = topk;
    c.dim = topk == 64 ? 64 : 128;
    c.heads = topk == 17 ? 5 : 16;
    c.groups = 1;
    c.lengths = {topk == 64 ? 8400 : 2300, 90};
    CheckGiven(c);
  }
}

TEST_F(DecodeSimt, DenseAttention) {
  for (int dim : {64, 128}) {
    for (int splits : {1, 3}) {
      Case c = Small();
      c.dim = dim;
      c.topk = 16;
      c.heads = splits == 3 ? 5 : 16;
      c.lengths = {1, 1500, 128, 129};
      CheckDense(c, splits);
    }
  }
}

TEST_F(DecodeSimt, ARowsBitsDoNotDependOnTheBatch) {
  Case c = Small();
  c.lengths = {900, 1, 4000, 250};
  CheckRowsAlone(c);
}

TEST_F(DecodeSimt, ANanIsOneRowsOnly) { CheckBrokenRows(); }

// What every other GPU runs: the same code without copies by the engine, clusters and WGMMA.
TEST_F(DecodeSimt, WithoutHopper) {
  simt::TheMachine().hopper = false;
  for (int rows : {1, 3, 9}) {
    Case c = Small();
    c.rows = rows;
    c.index_dim = rows == 3 ? 128 : 64;
    c.lengths = {1300, 200};
    CheckAll(c);
    CheckWays(c);
  }
  Case c = Small();
  c.topk = 16;
  c.lengths = {1, 1500, 129};
  CheckDense(c, 2);
  c.topk = 20;
  CheckGiven(c);
}

}  // namespace
}  // namespace lectern::kernels::testing
