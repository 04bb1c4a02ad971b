#include "kernels/isa/isa.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "hwy/targets.h"

namespace lectern::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kScalar, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};

// AVX3_DL stands for the bf16 path (simd-inl.h compiles that pass with avx512bf16 on top), because
// Highway 1.0.3 has no target of its own for it.
int64_t TargetOf(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return 0;
    case Isa::kAvx2:
      return HWY_AVX2;
    case Isa::kAvx512:
      return HWY_AVX3;
    case Isa::kAvx512Bf16:
      return HWY_AVX3_DL;
  }
  return 0;
}

bool ProcessorHas(Isa isa) {
  if (isa == Isa::kScalar) return true;
  if ((hwy::SupportedTargets() & TargetOf(isa)) == 0) return false;
#if defined(__x86_64__)
  if (isa == Isa::kAvx512Bf16) return __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return true;
}

[[noreturn]] void Die(const char* value, const char* why) {
  std::fprintf(stderr,
               "LECTERN_CPU_ISA=%s: %s. Use one of scalar, avx2, avx512, avx512bf16 that this "
               "processor has, or unset it.\n",
               value, why);
  std::exit(EXIT_FAILURE);
}

Isa Decide() {
  Isa best = Isa::kScalar;
  for (Isa isa : kAll) {
    if (ProcessorHas(isa)) best = isa;
  }
  if (const char* value = std::getenv("LECTERN_CPU_ISA"); value != nullptr && *value != '\0') {
    bool known = false;
    for (Isa isa : kAll) {
      if (std::strcmp(value, IsaName(isa)) != 0) continue;
      if (!ProcessorHas(isa)) Die(value, "this processor does not have it");
      best = isa;
      known = true;
    }
    if (!known) Die(value, "unknown");
  }
  // Highway's dispatch must choose what we report, and nothing above it.
  int64_t disabled = HWY_SSSE3 | HWY_SSE4;
  for (Isa isa : kAll) {
    if (isa > best) disabled |= TargetOf(isa);
  }
  hwy::DisableTargets(disabled);
  return best;
}

}  // namespace

Isa CurrentIsa() {
  static const Isa isa = Decide();
  return isa;
}

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
  }
  return "";
}

}  // namespace lectern::kernels
