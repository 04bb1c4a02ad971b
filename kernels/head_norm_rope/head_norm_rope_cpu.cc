#include "kernels/head_norm_rope/head_norm_rope.h"

#include <cassert>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/head_norm_rope/head_norm_rope_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

// Where a head's numbers go: bf16 or fp32.
struct HeadOut {
  Bf16* y;
  float* y_f32;
  HWY_INLINE void Store(VF v, int64_t i, int64_t n) const {
    if (y != nullptr) {
      StoreBf16(v, y + i, n);
    } else {
      StoreFloats(v, y_f32 + i, n);
    }
  }
};

void HeadNormRopeRow(const HeadNormRopeParams& p, int64_t row) {
  const DF df;
  const int64_t half = p.rotary_dim / 2;
  const float* cos = p.cos + row * half;
  const float* sin = p.sin + row * half;
  const VF base = hn::Set(df, p.gain == NormGain::kGemma ? 1.0f : 0.0f);
  for (int64_t h = 0; h < p.heads; ++h) {
    const float* x = p.x + row * p.x_stride + h * p.dim;
    const int64_t offset = row * p.y_stride + h * p.dim;
    const HeadOut out{p.y != nullptr ? p.y + offset : nullptr,
                      p.y_f32 != nullptr ? p.y_f32 + offset : nullptr};
    VF inverse = hn::Set(df, 1.0f);
    if (p.w != nullptr) {
      VF sum = hn::Zero(df);
      for (int64_t i = 0; i < p.dim; i += kLanes) {
        const VF a = LoadFloats(x + i, p.dim - i);
        sum = hn::MulAdd(a, a, sum);
      }
      const float squares = hn::GetLane(hn::SumOfLanes(df, sum));
      inverse = hn::Set(df, 1.0f / std::sqrt(squares / static_cast<float>(p.dim) + p.eps));
    }
    const auto normed = [&](int64_t i, int64_t n) HWY_ATTR {
      const VF v = LoadFloats(x + i, n);
      if (p.w == nullptr) return v;
      return hn::Mul(hn::Mul(v, inverse), hn::Add(base, LoadFloats(p.w + i, n)));
    };
    for (int64_t i = 0; i < half; i += kLanes) {
      const int64_t n = HWY_MIN(int64_t{kLanes}, half - i);
      const VF a = normed(i, n), b = normed(i + half, n);
      const VF c = LoadFloats(cos + i, n), s = LoadFloats(sin + i, n);
      out.Store(hn::NegMulAdd(b, s, hn::Mul(a, c)), i, n);
      out.Store(hn::MulAdd(a, s, hn::Mul(b, c)), i + half, n);
    }
    for (int64_t i = p.rotary_dim; i < p.dim; i += kLanes) {
      out.Store(normed(i, p.dim - i), i, p.dim - i);
    }
  }
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(HeadNormRopeRow);

void HeadNormRope(const HeadNormRopeParams& p) {
  assert(p.dim > 0 && p.dim % 2 == 0 && p.rotary_dim >= 0 && p.rotary_dim % 2 == 0 &&
         p.rotary_dim <= p.dim);
  assert((p.y != nullptr) != (p.y_f32 != nullptr));
  const auto row = &LECTERN_DISPATCH(HeadNormRopeRow);
#pragma omp parallel for schedule(static) if (p.rows >= 32)
  for (int64_t r = 0; r < p.rows; ++r) row(p, r);
}

}  // namespace lectern::kernels
#endif  // HWY_ONCE
