#pragma once

// What tests of CUDA kernels share beside device.h: the skip where there is no GPU, and launches
// that must give the same bits every time.

#include <gtest/gtest.h>

#include "tests/kernels/cuda/device.h"
#include "tests/kernels/support/inputs.h"

namespace lectern::kernels::testing {

// The GPU is tests/kernels/simt: what would take it minutes is left to real ones.
#ifdef LECTERN_SIMT
inline constexpr bool kThreadByThread = true;
#else
inline constexpr bool kThreadByThread = false;
#endif

template <typename Base>
class NeedsGpu : public Base {
 protected:
  void SetUp() override {
    if (!HaveGpu()) GTEST_SKIP() << "no NVIDIA GPU on this machine";
  }
};
using GpuTest = NeedsGpu<::testing::Test>;

// What `host` reads after `reset` and `launch(stream)`; asserts that a captured graph, replayed,
// and again the plain launch leave the same bits.
template <typename Reset, typename Launch, typename Host>
auto Outcome(Reset reset, Launch launch, Host host) {
  const auto once = [&](auto run) {
    reset();
    run();
    Check(cudaDeviceSynchronize(), "ran");
    return host();
  };
  const auto plainly = [&] { Check(launch(nullptr), "launch"); };
  const auto first = once(plainly);
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  Check(cudaStreamCreate(&stream), "stream");
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  Check(launch(stream), "launch in capture");
  Check(cudaStreamEndCapture(stream, &graph), "captured");
  Check(cudaGraphInstantiate(&replay, graph, 0), "graph");
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(SameBits(first, once([&] { Check(cudaGraphLaunch(replay, stream), "replay"); })));
  }
  EXPECT_TRUE(SameBits(first, once(plainly)));
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return first;
}

// Of one output array.
template <typename T, typename Launch>
std::vector<T> Outcome(DeviceArray<T>& out, Launch launch) {
  return Outcome([&] { out.Fill(0x5a); }, launch, [&] { return out.Host(); });
}

inline std::vector<float> Normals(int64_t n, uint64_t seed, float scale = 1) {
  Noise noise(seed);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = noise.Normal() * scale;
  return out;
}

// How a GPU's bf16s stand to the CPU's: none more than one step apart, and how many are.
struct Agreement {
  int64_t numbers = 0, differ = 0, apart = 0;  // apart: by more than a step
  void Add(Bf16 want, Bf16 got) {
    const int distance = Bf16Distance(want, got);
    ++numbers;
    differ += distance > 0 ? 1 : 0;
    apart += distance > 1 ? 1 : 0;
  }
  void Add(const std::vector<Bf16>& want, const std::vector<Bf16>& got) {
    ASSERT_EQ(want.size(), got.size());
    for (size_t i = 0; i < want.size(); ++i) Add(want[i], got[i]);
  }
  // Sums in another order move a number by some of the 65536 fp32 steps between two bf16s, so that
  // few round to a neighbour.
  void ExpectClose(const char* what, double share = 1e-3) const {
    EXPECT_EQ(apart, 0) << what;
    EXPECT_LE(static_cast<double>(differ), share * static_cast<double>(numbers) + 2) << what;
    std::printf("%s: %lld of %lld numbers round to a neighbour of the CPU's\n", what,
                static_cast<long long>(differ), static_cast<long long>(numbers));
  }
};

}  // namespace lectern::kernels::testing
