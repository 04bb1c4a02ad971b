// What every per-target translation pass of a kernel shares. Included once per Highway target,
// after foreach_target.h; hence the toggled guard instead of #pragma once.
//
// Passes: HWY_SCALAR, HWY_AVX2, HWY_AVX3, and HWY_AVX3_DL, which we compile with avx512bf16 added
// and run only where the processor has it (isa.cc). LECTERN_NATIVE_BF16 is 1 in that last pass.

#if defined(LECTERN_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LECTERN_SIMD_INL_H_
#undef LECTERN_SIMD_INL_H_
#else
#define LECTERN_SIMD_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/bf16/bf16.h"
#include "kernels/isa/isa.h"

#undef LECTERN_NATIVE_BF16
#if HWY_TARGET == HWY_AVX3_DL
#define LECTERN_NATIVE_BF16 1
#undef HWY_TARGET_STR
#define HWY_TARGET_STR                                            \
  HWY_TARGET_STR_AVX3                                             \
  ",vpclmulqdq,avx512vbmi,avx512vbmi2,vaes,avxvnni,avx512bitalg," \
  "avx512vpopcntdq,avx512bf16"
#else
#define LECTERN_NATIVE_BF16 0
#endif

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DU = hn::ScalableTag<uint32_t>;
using DI = hn::ScalableTag<int32_t>;
using VF = hn::Vec<DF>;
using VU = hn::Vec<DU>;

inline constexpr int kLanes = static_cast<int>(HWY_LANES(float));

// ---------------------------------------------------------------- bf16 <-> fp32

// Lanes of u16 bf16 to fp32; exact.
HWY_INLINE VF LoadBf16(const Bf16* p) {
  const DF df;
  const DU du;
  const hn::Rebind<uint16_t, DU> du16;
  const auto bits = hn::PromoteTo(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(p)));
  return hn::BitCast(df, hn::ShiftLeft<16>(bits));
}

// As ToBf16 in bf16.h, bit for bit (vcvtneps2bf16 would flush denormals).
// Not(Eq): Highway 1.0.3 compares Ne as ordered, so that a NaN would equal itself.
HWY_INLINE VU RoundToBf16Bits(VF x) {
  const DU du;
  const VU bits = hn::BitCast(du, x);
  const VU lsb = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const VU rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fffu)), lsb));
  const VU quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40u));
  const auto is_nan = hn::RebindMask(du, hn::Not(hn::Eq(x, x)));
  return hn::IfThenElse(is_nan, quiet, rounded);
}

HWY_INLINE void StoreBf16(VF x, Bf16* p) {
  const DI di;
  const hn::Rebind<uint16_t, DI> du16;
  hn::StoreU(hn::DemoteTo(du16, hn::BitCast(di, RoundToBf16Bits(x))), du16,
             reinterpret_cast<uint16_t*>(p));
}

// The first n lanes only (0 < n <= kLanes).
HWY_INLINE void StoreBf16(VF x, Bf16* p, int64_t n) {
  if (n >= kLanes) return StoreBf16(x, p);
  HWY_ALIGN Bf16 lanes[kLanes];
  StoreBf16(x, lanes);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// The first n lanes, the others zero.
HWY_INLINE VF LoadFloats(const float* p, int64_t n) {
  const DF df;
  if (n >= kLanes) return hn::LoadU(df, p);
  return hn::MaskedLoad(hn::FirstN(df, static_cast<size_t>(n)), df, p);
}

HWY_INLINE void StoreFloats(VF x, float* p, int64_t n) {
  const DF df;
  if (n >= kLanes) return hn::StoreU(x, df, p);
  hn::BlendedStore(x, hn::FirstN(df, static_cast<size_t>(n)), df, p);
}

// ---------------------------------------------------------------- exp

// 2^x for x <= 0 and for x a few dozen above; below -150 it is 0, a NaN stays one. Range reduction
// to [-0.5, 0.5], then the Taylor polynomial of degree 6: relative error under 3e-7, 2^0 = 1
// exactly.
HWY_INLINE VF Exp2(VF x) {
  const DF df;
  const DI di;
  const VF least = hn::Set(df, -150.0f);
#if HWY_TARGET == HWY_SCALAR
  x = hn::IfThenElse(hn::Lt(x, least), least, x);
#else
  x = hn::Max(least, x);  // x86 returns the second operand when one is a NaN
#endif
  const VF n = hn::Round(x);
  const VF t = hn::Sub(x, n);
  VF p = hn::Set(df, 1.5403530e-4f);
  p = hn::MulAdd(p, t, hn::Set(df, 1.3333558e-3f));
  p = hn::MulAdd(p, t, hn::Set(df, 9.6181291e-3f));
  p = hn::MulAdd(p, t, hn::Set(df, 5.5504109e-2f));
  p = hn::MulAdd(p, t, hn::Set(df, 2.4022651e-1f));
  p = hn::MulAdd(p, t, hn::Set(df, 6.9314718e-1f));
  p = hn::MulAdd(p, t, hn::Set(df, 1.0f));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return VF{_mm512_scalef_ps(p.raw, n.raw)};
#else
  // Two factors, so that results below the normal range come out as denormals.
  const auto whole = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(whole);
  const auto rest = hn::Sub(whole, half);
  const auto bias = hn::Set(di, 127);
  const VF a = hn::BitCast(df, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VF b = hn::BitCast(df, hn::ShiftLeft<23>(hn::Add(rest, bias)));
  return hn::Mul(hn::Mul(p, a), b);
#endif
}

inline constexpr float kLog2E = 1.44269504088896340736f;

// ---------------------------------------------------------------- products of bf16 pairs

// A tile lane holds two bf16 (low half first). The left operand comes as "pairs": on the native
// path the same 32 bits, elsewhere two floats, broadcast to all lanes. acc += a.lo * b.lo and a.hi
// * b.hi; each lane's order of additions is fixed by the order of calls alone.
#if LECTERN_NATIVE_BF16

using Pair = uint32_t;

HWY_INLINE VF MultiplyPairs(VF acc, VU a, VU b) {
  return VF{_mm512_dpbf16_ps(acc.raw, (__m512bh)a.raw, (__m512bh)b.raw)};
}

#else

struct Pair {
  float lo, hi;
};

#endif

// The left operand of PairGemm from a row of bf16 (pairs * 2 numbers). On the native path it is
// used where it lies.
HWY_INLINE const Pair* PairsOf(const Bf16* row, int pairs, Pair* room) {
#if LECTERN_NATIVE_BF16
  if (reinterpret_cast<uintptr_t>(row) % sizeof(Pair) == 0) {
    return reinterpret_cast<const Pair*>(row);
  }
  std::memcpy(room, row, sizeof(Pair) * static_cast<size_t>(pairs));
  return room;
#else
  float* out = reinterpret_cast<float*>(room);
  for (int i = 0; i < 2 * pairs; ++i) out[i] = ToFloat(row[i]);
  return room;
#endif
}

// acc[m][v] += sum over i < pairs of a[m][i] * b[i * b_stride + v * kLanes + lane], i ascending,
// low half before high half. kMask: only the low halves of b count (the last, odd token of a
// block). b_stride in 32-bit lanes. ahead: the same place in the tile that comes next, or null. A
// line is fetched for every line used, so that a scattered pool streams like an array.
template <int kM, int kV, bool kMask = false>
HWY_INLINE void PairGemm(const Pair* const (&a)[kM], const uint32_t* b, int64_t b_stride, int pairs,
                         VF (&acc)[kM][kV], const uint32_t* ahead = nullptr) {
  const DF df;
  const DU du;
  (void)df;
  (void)du;
  for (int i = 0; i < pairs; ++i, b += b_stride) {
    if (ahead != nullptr) {
      for (int v = 0; v < kV * kLanes; v += 16) __builtin_prefetch(ahead + v, 0, 2);
      ahead += b_stride;
    }
#if LECTERN_NATIVE_BF16
    VU bv[kV];
    for (int v = 0; v < kV; ++v) {
      bv[v] = hn::LoadU(du, b + v * kLanes);
      if constexpr (kMask) bv[v] = hn::And(bv[v], hn::Set(du, 0xffffu));
    }
    for (int m = 0; m < kM; ++m) {
      const VU am = hn::Set(du, a[m][i]);
      for (int v = 0; v < kV; ++v) acc[m][v] = MultiplyPairs(acc[m][v], am, bv[v]);
    }
#else
    VF half[kV];
    for (int v = 0; v < kV; ++v) {
      half[v] = hn::BitCast(df, hn::ShiftLeft<16>(hn::LoadU(du, b + v * kLanes)));
    }
    for (int m = 0; m < kM; ++m) {
      const VF lo = hn::Set(df, a[m][i].lo);
      for (int v = 0; v < kV; ++v) acc[m][v] = hn::MulAdd(lo, half[v], acc[m][v]);
    }
    if constexpr (!kMask) {
      for (int v = 0; v < kV; ++v) {
        half[v] = hn::BitCast(df, hn::And(hn::LoadU(du, b + v * kLanes), hn::Set(du, 0xffff0000u)));
      }
      for (int m = 0; m < kM; ++m) {
        const VF hi = hn::Set(df, a[m][i].hi);
        for (int v = 0; v < kV; ++v) acc[m][v] = hn::MulAdd(hi, half[v], acc[m][v]);
      }
    }
#endif
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

// How HWY_ONCE code calls a HWY_EXPORTed function: the environment's say first, then Highway's
// table.
#undef LECTERN_DISPATCH
#define LECTERN_DISPATCH(function) \
  (::lectern::kernels::CurrentIsa(), HWY_DYNAMIC_DISPATCH(function))

#endif  // toggled guard
