#include <cassert>

#include "kernels/bf16/bf16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bf16/bf16_cpu.cc"
#include "hwy/foreach_target.h"
#include "kernels/isa/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lectern::kernels::HWY_NAMESPACE {

void ToBf16Row(const float* x, int64_t n, Bf16* y) {
  for (int64_t i = 0; i < n; i += kLanes) StoreBf16(LoadFloats(x + i, n - i), y + i, n - i);
}

void ToFloatRow(const Bf16* x, int64_t n, float* y) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(LoadBf16(x + i), DF(), y + i);
  for (; i < n; ++i) y[i] = ToFloat(x[i]);
}

}  // namespace lectern::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lectern::kernels {

HWY_EXPORT(ToBf16Row);
HWY_EXPORT(ToFloatRow);

namespace {
constexpr int64_t kParallelNumbers = 1
                                     << 15;  // below this a second thread costs more than it saves
}

void ConvertRowsToBf16(const ConvertRowsParams& p) {
  assert(p.x_stride >= p.cols && p.y_stride >= p.cols);
  const auto convert = &LECTERN_DISPATCH(ToBf16Row);
#pragma omp parallel for schedule(static) if (p.rows * p.cols >= kParallelNumbers)
  for (int64_t r = 0; r < p.rows; ++r) {
    convert(p.x + r * p.x_stride, p.cols, p.y + r * p.y_stride);
  }
}

void ConvertToFloat(const Bf16* x, int64_t n, float* y) { LECTERN_DISPATCH(ToFloatRow)(x, n, y); }

}  // namespace lectern::kernels
#endif  // HWY_ONCE
