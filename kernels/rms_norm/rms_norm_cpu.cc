#include "kernels/rms_norm/rms_norm.h"

#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rms_norm/rms_norm_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

void RmsNormRow(const RmsNormParams& p, int64_t row) {
  const DF df;
  const float* x = p.x + row * p.x_stride;
  Bf16* y = p.y + row * p.y_stride;
  VF sum0 = hn::Zero(df), sum1 = hn::Zero(df);
  int64_t c = 0;
  for (; c + 2 * kLanes <= p.hidden; c += 2 * kLanes) {
    const VF a = hn::LoadU(df, x + c), b = hn::LoadU(df, x + c + kLanes);
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  for (; c < p.hidden; c += kLanes) {
    const VF a = LoadFloats(x + c, p.hidden - c);
    sum0 = hn::MulAdd(a, a, sum0);
  }
  const float squares = hn::GetLane(hn::SumOfLanes(df, hn::Add(sum0, sum1)));
  const VF inverse = hn::Set(df, 1.0f / std::sqrt(squares / static_cast<float>(p.hidden) + p.eps));
  const VF base = hn::Set(df, p.gain == NormGain::kGemma ? 1.0f : 0.0f);
  for (c = 0; c < p.hidden; c += kLanes) {
    const int64_t n = p.hidden - c;
    const VF gain = hn::Add(base, LoadFloats(p.w + c, n));
    StoreBf16(hn::Mul(hn::Mul(LoadFloats(x + c, n), inverse), gain), y + c, n);
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(RmsNormRow);

void RmsNorm(const RmsNormParams& p) {
  assert(p.x_stride >= p.hidden && p.y_stride >= p.hidden && p.hidden > 0);
  const auto norm = &LECTERN_DISPATCH(RmsNormRow);
#pragma omp parallel for schedule(static) if (p.rows >= 32)
  for (int64_t r = 0; r < p.rows; ++r) norm(p, r);
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
