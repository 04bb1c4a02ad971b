#include "kernels/swiglu/swiglu.h"

#include <cassert>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/swiglu/swiglu_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

void SwiGluRow(const SwiGluParams& p, int64_t row) {
  const DF df;
  const float* gate = p.gate + row * p.stride;
  const float* up = p.up + row * p.stride;
  Bf16* y = p.y + row * p.y_stride;
  const VF one = hn::Set(df, 1.0f);
  for (int64_t c = 0; c < p.cols; c += kLanes) {
    const int64_t n = p.cols - c;
    const VF g = LoadFloats(gate + c, n);
    // exp only of minus |g|, so that it cannot overflow: silu(g) = g / (1 + e) or g e / (1 + e).
    const VF e = Exp2(hn::Mul(hn::Neg(hn::Abs(g)), hn::Set(df, kLog2E)));
    const VF numerator = hn::IfThenElse(hn::Lt(g, hn::Zero(df)), hn::Mul(g, e), g);
    const VF silu = hn::Div(numerator, hn::Add(one, e));
    StoreBf16(hn::Mul(silu, LoadFloats(up + c, n)), y + c, n);
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(SwiGluRow);

void SwiGlu(const SwiGluParams& p) {
  assert(p.stride >= p.cols && p.y_stride >= p.cols);
  const auto row = &LECTERN_DISPATCH(SwiGluRow);
#pragma omp parallel for schedule(static) if (p.rows >= 8)
  for (int64_t r = 0; r < p.rows; ++r) row(p, r);
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
