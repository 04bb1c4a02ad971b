#pragma once

// kernels/cuda/warp.h on the GPU of the tests: PTX ISA 8.0 in C++.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace lectern::kernels::cuda {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr float kLn2 = 0.693147180559945309f;
inline constexpr float kLog2E = 1.442695040888963407f;

inline unsigned char* DynamicShared() { return simt::DynamicShared(simt::ClusterRank()); }

// Shared addresses count from the first block's memory, which every static variable is near to.
inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(p) - simt::DynamicShared(0));
}
inline unsigned char* AtShared(uint32_t address) {
  return simt::DynamicShared(0) + static_cast<int32_t>(address);
}

inline float HalfToFloat(uint32_t both, int half) {
  return std::bit_cast<float>(half == 0 ? both << 16 : both & 0xffff0000u);
}

// mma.m16n8k16: see kernels/cuda/warp.h for who holds what. A step's sum is rounded once.
inline void MultiplyAdd(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                        uint32_t b0, uint32_t b1) {
  struct Held {
    uint32_t a[4], b[2];
  };
  const Held mine = {{a0, a1, a2, a3}, {b0, b1}};
  const auto* all = static_cast<const Held*>(simt::WarpExchange(&mine, sizeof(mine)));
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    double sum = double{c[e]};
    for (int k = 0; k < 16; ++k) {
      const Held& left = all[row % 8 * 4 + k % 8 / 2];
      const Held& right = all[column * 4 + k % 8 / 2];
      sum += double{HalfToFloat(left.a[row / 8 + k / 8 * 2], k % 2)} *
             HalfToFloat(right.b[k / 8], k % 2);
    }
    c[e] = static_cast<float>(sum);
  }
}

inline void MultiplyAddCodes(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1) {
  struct Held {
    uint32_t a[4], b[2];
  };
  const Held mine = {{a0, a1, a2, a3}, {b0, b1}};
  const auto* all = static_cast<const Held*>(simt::WarpExchange(&mine, sizeof(mine)));
  const auto code = [](uint32_t four, int i) { return static_cast<int8_t>(four >> (8 * i)); };
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int e = 0; e < 4; ++e) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 32; ++k) {
      const Held& left = all[row % 8 * 4 + k % 16 / 4];
      const Held& right = all[column * 4 + k % 16 / 4];
      c[e] += code(left.a[row / 8 + k / 16 * 2], k % 4) * code(right.b[k / 16], k % 4);
    }
  }
}

inline void LoadMatrices(uint32_t (&r)[4], uint32_t row) {
  const auto* rows = static_cast<const uint32_t*>(simt::WarpExchange(&row, sizeof(row)));
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int m = 0; m < 4; ++m)
    std::memcpy(&r[m], AtShared(rows[8 * m + lane / 4]) + lane % 4 * 4, 4);
}
inline void LoadMatricesTransposed(uint32_t (&r)[4], uint32_t row) {
  const auto* rows = static_cast<const uint32_t*>(simt::WarpExchange(&row, sizeof(row)));
  const int lane = static_cast<int>(threadIdx.x % 32);
  for (int m = 0; m < 4; ++m) {
    uint16_t both[2];
    for (int i = 0; i < 2; ++i)
      std::memcpy(&both[i], AtShared(rows[8 * m + lane % 4 * 2 + i]) + lane / 4 * 2, 2);
    r[m] = uint32_t{both[0]} | uint32_t{both[1]} << 16;
  }
}

inline uint4 LoadStream(const void* p) { return *static_cast<const uint4*>(p); }

inline void CopyAsync16(uint32_t to, const void* from, bool there) {
  simt::StartCopy(AtShared(to), from, there ? 16 : 0, there ? 0 : 16);
}
inline void CopyAsyncCommit() { simt::CommitCopies(); }
template <int kBehind>
void CopyAsyncWait() {
  simt::WaitForCopies(kBehind);
}

inline void NamedBarrier(int id, int threads) { simt::BlockBarrier(id, threads); }

// Launches do not overlap.
inline void WaitForEarlierKernels() {}
inline void LetNextKernelStart() {}

inline uint32_t PackBf16(float low, float high) {
  return uint32_t{ToBf16(low).bits} | uint32_t{ToBf16(high).bits} << 16;
}

}  // namespace lectern::kernels::cuda
