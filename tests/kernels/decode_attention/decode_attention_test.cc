#include <gtest/gtest.h>

#include "tests/kernels/decode_score/decode_checks.h"

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
  CheckRowsAlone(c);
}

TEST(DecodeCuda, GivenSelections) {
  LECTERN_NEEDS_GPU();
  for (int topk : {1, 16, 17, 40, 64}) {
    Case c;
    c.topk = topk;
    c.dim = topk == 40 ? 64 : 128;
    c.heads = topk == 17 ? 5 : 16;
    c.lengths = {12000, 2048, 3333, 90};
    CheckGiven(c);
  }
}

TEST(DecodeCuda, TheChoiceAlone) {
  LECTERN_NEEDS_GPU();
  for (int topk : {1, 2, 15, 16})
    for (int blocks : {0, 1, 14, 15, 16, 17, 127, 128, 129, 1000, 8191, 8192, 8193, 20001})
      CheckChoice(blocks, topk);
}

TEST(DecodeCuda, ANanIsOneRowsOnly) {
  LECTERN_NEEDS_GPU();
  CheckBrokenRows();
}

}  // namespace
}  // namespace lectern::kernels::testing
