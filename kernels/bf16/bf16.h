#pragma once

// bfloat16: the upper half of an IEEE fp32. Storage format of weights, keys, values, index keys and
// of the left inputs of every matrix product.

#include <bit>
#include <cstdint>

namespace lectern::kernels {

// A number, not an integer: a struct so that nothing converts by accident. Trivial; arrays of it
// are raw bf16 memory.
struct Bf16 {
  uint16_t bits;
  friend bool operator==(Bf16, Bf16) = default;  // bitwise
};
static_assert(sizeof(Bf16) == 2);

inline float ToFloat(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

// Rounds to nearest, ties to even; overflow becomes infinity, a NaN stays a (quiet) NaN, denormals
// are kept.
inline Bf16 ToBf16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return Bf16{static_cast<uint16_t>((bits >> 16) | 0x0040u)};
  return Bf16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

// Rows of fp32 to rows of bf16, rounding as ToBf16 on every path (bit for bit). Strides in
// elements; source and destination must not overlap. Bytes: 6 rows cols. Threads: OpenMP over rows
// when there is enough to do.
struct ConvertRowsParams {
  const float* x;    // [rows][x_stride], the first cols of each used
  int64_t x_stride;  // >= cols
  Bf16* y;           // [rows][y_stride]
  int64_t y_stride;  // >= cols
  int64_t rows;
  int64_t cols;
};
void ConvertRowsToBf16(const ConvertRowsParams& params);
void ConvertRowsToBf16Reference(const ConvertRowsParams& params);

// n contiguous numbers, on the calling thread. Exact.
void ConvertToFloat(const Bf16* x, int64_t n, float* y);

}  // namespace lectern::kernels
