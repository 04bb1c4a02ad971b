#include <omp.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/matmul/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/matmul/matvec_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

#ifndef LECTERN_MATVEC_SHARED
#define LECTERN_MATVEC_SHARED
namespace lectern::kernels {

// The rows x, laid out for the products: `steps` vectors of 32-bit lanes per row, zeros behind K.
// On the native path bf16 pairs as they are; elsewhere floats, the even numbers of a step before
// its odd ones (twice as many).
struct MatVecInput {
  const uint32_t* lanes;  // [rows][row_lanes]
  int64_t row_lanes;
  int64_t rows;
  int64_t k;
};

// Weight rows [count] against all rows of x.
struct MatVecRange {
  const Bf16* weights;  // [count][k]
  int64_t count;
  float* y;  // column of the range's first weight row
  int64_t y_stride;
  bool add;
};

}  // namespace lectern::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

int64_t Steps(int64_t k) { return (k + 2 * kLanes - 1) / (2 * kLanes); }

int64_t InputLanes(int64_t k) { return Steps(k) * kLanes * (LECTERN_NATIVE_BF16 ? 1 : 2); }

void PrepareRow(const Bf16* x, int64_t k, uint32_t* lanes) {
  std::memset(lanes, 0, static_cast<size_t>(InputLanes(k)) * sizeof(uint32_t));
#if LECTERN_NATIVE_BF16
  std::memcpy(lanes, x, static_cast<size_t>(k) * sizeof(Bf16));
#else
  float* out = reinterpret_cast<float*>(lanes);
  for (int64_t i = 0; i < k; ++i) {
    const int64_t step = i / (2 * kLanes), lane = i % (2 * kLanes) / 2;
    out[step * 2 * kLanes + i % 2 * kLanes + lane] = ToFloat(x[i]);
  }
#endif
}

// Into the second-level cache, in the order of memory whatever the order of use: on Zen 4 that
// reads near the memory's rate, where several streams of rows of a few KB, or a fetch into the
// first level, reach half of it.
HWY_INLINE void FetchAhead(const Bf16* weights) {
  constexpr uintptr_t kAhead = 8192;
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(weights) + kAhead),
                     0, 2);
}

// Sums of kRows x kColumns products, one accumulator each: the order of additions is the same for
// every shape.
template <int kRows, int kColumns>
HWY_INLINE void Products(const MatVecInput& x, int64_t row, const Bf16* weights,
                         const MatVecRange& r, int64_t column) {
  const DF df;
  const DU du;
  VF acc[kRows][kColumns];
  for (int m = 0; m < kRows; ++m) {
    for (int c = 0; c < kColumns; ++c) acc[m][c] = hn::Zero(df);
  }
  const auto step = [&](const uint32_t* const(&w)[kColumns], int64_t s) HWY_ATTR {
    for (int c = 0; c < kColumns; ++c) {
      const VU bits = hn::LoadU(du, w[c]);
#if LECTERN_NATIVE_BF16
      for (int m = 0; m < kRows; ++m) {
        const uint32_t* xm = x.lanes + (row + m) * x.row_lanes + s * kLanes;
        acc[m][c] = MultiplyPairs(acc[m][c], hn::LoadU(du, xm), bits);
      }
#else
      const VF even = hn::BitCast(df, hn::ShiftLeft<16>(bits));
      const VF odd = hn::BitCast(df, hn::And(bits, hn::Set(du, 0xffff0000u)));
      for (int m = 0; m < kRows; ++m) {
        const float* xm =
            reinterpret_cast<const float*>(x.lanes + (row + m) * x.row_lanes + s * 2 * kLanes);
        acc[m][c] = hn::MulAdd(even, hn::LoadU(df, xm), acc[m][c]);
        acc[m][c] = hn::MulAdd(odd, hn::LoadU(df, xm + kLanes), acc[m][c]);
      }
#endif
    }
  };
  const int64_t whole = x.k / (2 * kLanes);
  const uint32_t* w[kColumns];
  for (int64_t s = 0; s < whole; ++s) {
    for (int c = 0; c < kColumns; ++c) {
      w[c] = reinterpret_cast<const uint32_t*>(weights + c * x.k + s * 2 * kLanes);
      if (row == 0) FetchAhead(weights + (s * kColumns + c) * 2 * kLanes);
    }
    step(w, s);
  }
  if (whole * 2 * kLanes < x.k) {
    HWY_ALIGN uint32_t tail[kColumns][kLanes] = {};
    for (int c = 0; c < kColumns; ++c) {
      std::memcpy(tail[c], weights + c * x.k + whole * 2 * kLanes,
                  static_cast<size_t>(x.k - whole * 2 * kLanes) * sizeof(Bf16));
      w[c] = tail[c];
    }
    step(w, whole);
  }
  for (int m = 0; m < kRows; ++m) {
    float* y = r.y + (row + m) * r.y_stride + column;
    for (int c = 0; c < kColumns; ++c) {
      const float sum = hn::GetLane(hn::SumOfLanes(df, acc[m][c]));
      y[c] = r.add ? y[c] + sum : sum;
    }
  }
}

template <int kColumns>
HWY_INLINE void AllRows(const MatVecInput& x, const MatVecRange& r, int64_t column) {
  const Bf16* weights = r.weights + column * x.k;
  int64_t row = 0;
  for (; row + 4 <= x.rows; row += 4) Products<4, kColumns>(x, row, weights, r, column);
  for (; row + 2 <= x.rows; row += 2) Products<2, kColumns>(x, row, weights, r, column);
  if (row < x.rows) Products<1, kColumns>(x, row, weights, r, column);
}

void MultiplyRange(const MatVecInput& x, const MatVecRange& r) {
  constexpr int kColumns = HWY_TARGET == HWY_AVX2 ? 2 : 4;
  int64_t column = 0;
  if (x.rows == 1) {
    // One row: column by column, the order of memory. The processor overlaps them.
    for (; column < r.count; ++column) {
      Products<1, 1>(x, 0, r.weights + column * x.k, r, column);
    }
  }
  for (; column + kColumns <= r.count; column += kColumns) AllRows<kColumns>(x, r, column);
  for (; column < r.count; ++column) AllRows<1>(x, r, column);
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(InputLanes);
HWY_EXPORT(PrepareRow);
HWY_EXPORT(MultiplyRange);

namespace {
constexpr int64_t kRangeRows = 32;             // weight rows of a unit of work
constexpr int64_t kParallelNumbers = 1 << 16;  // weights below which one thread is quicker
}  // namespace

void MatVec(const PackedMatrix& w, const MatVecParams& p) {
  assert(p.rows >= 1 && p.rows <= kMatVecMaxRows && p.x_stride >= w.k() && p.y_stride >= w.n());
  const int64_t k = w.k();
  const int64_t row_lanes = LECTERN_DISPATCH(InputLanes)(k);
  static thread_local hwy::AlignedFreeUniquePtr<uint32_t[]> room;
  static thread_local int64_t room_lanes = 0;
  if (room_lanes < p.rows * row_lanes) {
    room_lanes = p.rows * row_lanes;
    room = hwy::AllocateAligned<uint32_t>(static_cast<size_t>(room_lanes));
  }
  for (int64_t r = 0; r < p.rows; ++r) {
    LECTERN_DISPATCH(PrepareRow)(p.x + r * p.x_stride, k, room.get() + r * row_lanes);
  }
  const MatVecInput input{room.get(), row_lanes, p.rows, k};

  std::vector<MatVecRange> ranges;
  int64_t column = 0;
  for (const WeightRows& s : w.segments()) {
    for (int64_t n = 0; n < s.rows; n += kRangeRows) {
      ranges.push_back({s.weights + n * k, std::min(kRangeRows, s.rows - n), p.y + column + n,
                        p.y_stride, p.store == MatmulStore::kAdd});
    }
    column += s.rows;
  }
  const auto multiply = &LECTERN_DISPATCH(MultiplyRange);
#pragma omp parallel for schedule(static) if (w.n() * k >= kParallelNumbers)
  for (size_t i = 0; i < ranges.size(); ++i) multiply(input, ranges[i]);
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
