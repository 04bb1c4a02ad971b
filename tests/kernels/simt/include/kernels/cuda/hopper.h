#pragma once

// kernels/cuda/hopper.h on the GPU of the tests, as far as the decode kernels use it.

#include <cuda.h>

#include "kernels/cuda/warp.h"

namespace lectern::kernels::hopper {

inline constexpr int kWarpgroupThreads = 128;
inline constexpr int kPanelColumns = 64;
inline constexpr int kSwizzleAlignment = 1024;

constexpr int TileOffset(int rows, int row, int piece) {
  return (piece >> 3) * rows * 128 + row * 128 + (((piece & 7) ^ (row & 7)) << 4);
}

using cuda::SharedAddress;

// A barrier's 64 bits: the phase's parity, arrivals of a phase and those still to come, bytes still
// to come.
struct BarrierBits {
  uint8_t parity, unused;
  uint8_t arrivals, missing;
  int32_t bytes;
};
static_assert(sizeof(BarrierBits) == 8);
template <typename Change>
void ChangeBarrier(uint64_t* barrier, const Change& change) {
  auto bits = std::bit_cast<BarrierBits>(*barrier);
  change(bits);
  if (bits.missing == 0 && bits.bytes == 0) {
    bits.parity ^= 1;
    bits.missing = bits.arrivals;
  }
  *barrier = std::bit_cast<uint64_t>(bits);
}

inline void InitBarrier(uint64_t* barrier, int arrivals) {
  const auto count = static_cast<uint8_t>(arrivals);
  *barrier = std::bit_cast<uint64_t>(BarrierBits{0, 0, count, count, 0});
}
inline void PublishBarriers() {}
inline void ArriveExpecting(uint64_t* barrier, int bytes) {
  ChangeBarrier(barrier, [&](BarrierBits& b) { b.bytes += bytes, --b.missing; });
}
inline void Arrive(uint64_t* barrier) {
  ChangeBarrier(barrier, [](BarrierBits& b) { --b.missing; });
}
inline void Wait(uint64_t* barrier, int parity) {
  while (std::bit_cast<BarrierBits>(*barrier).parity == parity) simt::Pause();
}
inline void PublishStores() {}

inline void CopyBytes(void* to, const void* from, int bytes, uint64_t* barrier) {
  simt::StartEngineCopy(
      to, [=] { std::memcpy(to, from, static_cast<size_t>(bytes)); }, static_cast<size_t>(bytes),
      [=] { ChangeBarrier(barrier, [=](BarrierBits& b) { b.bytes -= bytes; }); });
}

template <int kRows, int kDim>
void CopyTile(uint8_t* to, const CUtensorMap* map, int row, uint64_t* barrier) {
  constexpr int kBytes = kRows * kDim * 2;
  const CUtensorMap matrix = *map;
  const auto copy = [=] {
    for (int r = 0; r < kRows; ++r)
      for (int piece = 0; piece < kDim / 8; ++piece) {
        uint8_t* at = to + TileOffset(kRows, r, piece);
        if (row + r < matrix.rows)
          std::memcpy(at,
                      static_cast<const uint8_t*>(matrix.base) +
                          ((int64_t{row} + r) * matrix.columns + piece * 8) * 2,
                      16);
        else
          std::memset(at, 0, 16);
      }
  };
  simt::StartEngineCopy(to, copy, kBytes,
                        [=] { ChangeBarrier(barrier, [](BarrierBits& b) { b.bytes -= kBytes; }); });
}

template <int kRows, int kDim>
void MultiplyTiles(float (&d)[64], uint32_t a_at, uint32_t b_at) {
  const auto number = [](uint32_t tile, int rows, int row, int column) {
    Bf16 x;
    std::memcpy(&x, cuda::AtShared(tile) + TileOffset(rows, row, column / 8) + column % 8 * 2, 2);
    return double{ToFloat(x)};
  };
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  __syncwarp();  // as all lanes issue the products, and wait for them, together
  for (int e = 0; e < 64; ++e) {
    const int row = warp % 4 * 16 + lane / 4 + (e >> 1 & 1) * 8;
    const int column = e / 4 * 8 + (lane & 3) * 2 + (e & 1);
    float sum = 0;
    for (int step = 0; step < kDim; step += 16) {
      double part = double{sum};
      for (int k = step; k < step + 16; ++k)
        part += number(a_at, kRows, row, k) * number(b_at, 128, column, k);
      sum = static_cast<float>(part);
    }
    d[e] = sum;
  }
  __syncwarp();
}

}  // namespace lectern::kernels::hopper
